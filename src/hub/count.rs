//! Counters as structs whose fields are described once: for people who read the code, and for the metrics.

/// A struct of totals, with `list()`: each field's name, what it counts, and the total.
macro_rules! counters {
    ($(#[doc = $about:literal])+ $kind:ident: $($(#[doc = $doc:literal])+ $name:ident;)+) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
        pub struct $kind { $($(#[doc = $doc])+ pub $name: u64),+ }

        impl $kind {
            /// Each counter with its name and what it counts, in a stable order.
            pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),+), self.$name)),+]
            }
        }
    };
}

pub(in crate::hub) use counters;
