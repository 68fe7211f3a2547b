//! `breakwater demo` (being built).
use super::Failure;
pub(super) fn demo(_: std::time::Duration, _: usize, _: bool) -> Result<(), Failure> {
    Err(Failure::Other("not built yet".into()))
}
