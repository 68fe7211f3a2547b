//! Which clients are listed. What the relay can leave out it leaves out; words are looked for here, in the page.

use std::net::IpAddr;

use ipnet::IpNet;

use super::data::Client;
use crate::cli::ctl::args::query;

/// Fields of a query that may be named.
const FIELDS: [&str; 4] = ["class", "transport", "service", "tag"];

/// What was typed, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filter {
    text: String,
    /// For the relay.
    pairs: Vec<(&'static str, String)>,
    /// In a client's id, address or name, in lower case; all of them.
    words: Vec<String>,
}

impl Filter {
    /// Fields as `class:free`, a network, and words.
    ///
    /// # Errors
    /// A field that there is not, or one that is there twice.
    pub(super) fn read(text: &str) -> Result<Filter, String> {
        let mut filter = Filter { text: text.trim().to_owned(), ..Filter::default() };
        for part in text.split_whitespace() {
            let is_network = part.parse::<IpNet>().is_ok() || part.parse::<IpAddr>().is_ok();
            let (field, value) = match part.split_once(':') {
                _ if is_network => ("network", part),
                None => {
                    filter.words.push(part.to_lowercase());
                    continue;
                }
                Some((name, value)) => match FIELDS.into_iter().find(|field| *field == name) {
                    Some(field) => (field, value),
                    None => return Err(format!("{name}: is unknown, expected one of {}", FIELDS.join(", "))),
                },
            };
            if filter.pairs.iter().any(|(there, _)| *there == field) {
                return Err(format!("{field} is there twice"));
            }
            filter.pairs.push((field, value.to_owned()));
        }
        Ok(filter)
    }

    /// As it was typed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The path of a page.
    pub(super) fn path(&self, after: Option<&str>, limit: usize) -> String {
        let mut pairs: Vec<(&str, String)> = self.pairs.clone();
        pairs.push(("limit", limit.to_string()));
        pairs.extend(after.map(|after| ("after", after.to_owned())));
        query("/api/v1/clients", pairs)
    }

    /// Whether its words leave this client.
    pub(super) fn leaves(&self, client: &Client) -> bool {
        let has = |word: &String| {
            [&client.id, &client.address, &client.user_agent]
                .iter()
                .any(|text| text.to_lowercase().contains(word))
        };
        self.words.iter().all(has)
    }
}
