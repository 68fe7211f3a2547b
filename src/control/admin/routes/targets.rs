//! Whom a call is about: ids, or a filter, exactly one of them; everybody only when that is said.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::base::{Class, ClientRef, ServiceId, Tags};
use crate::control::admin::Admin;
use crate::control::admin::extract::parse;
use crate::control::admin::problem::Problem;
use crate::hub::command::Targets;
use crate::hub::desk::MOST_CLIENTS;
use crate::link::Filter;
use crate::transport::Kind;

/// What an id is written as.
pub(super) const ID: &str = "a client's id: SHARD-SLOT-GENERATION";
const NETWORK: &str = "an address, or a network such as 192.0.2.0/24";
const TRANSPORTS: &[(&str, Kind)] = &[("plain", Kind::Plain), ("v2", Kind::V2), ("tls", Kind::Tls)];

/// Clients for whom all that is given holds.
#[derive(Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterBody {
    /// An address, or a network such as 192.0.2.0/24.
    pub(super) network: Option<String>,
    /// A service's number.
    pub(super) service: Option<u8>,
    /// plain, v2 or tls.
    pub(super) transport: Option<String>,
    /// probe, free or priority.
    pub(super) class: Option<String>,
    /// All of these tags.
    #[serde(default)]
    pub(super) tags: Vec<String>,
}

impl FilterBody {
    /// As the relay takes it.
    pub(super) fn read(&self, admin: &Admin) -> Result<Filter, Problem> {
        Ok(Filter {
            network: self.network.as_deref().map(|text| network("network", text)).transpose()?,
            service: self.service.map(ServiceId),
            transport: self
                .transport
                .as_deref()
                .map(|text| one_of("transport", text, TRANSPORTS))
                .transpose()?,
            class: self.class.as_deref().map(|text| class("class", text)).transpose()?,
            tags: match self.tags.as_slice() {
                [] => Tags::default(),
                names => admin.tags.find("tag", names)?,
            },
        })
    }
}

/// A network; a bare address is the network of that address alone.
pub(super) fn network(field: &str, text: &str) -> Result<ipnet::IpNet, Problem> {
    let address = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    let network = text.parse::<ipnet::IpNet>().or_else(|_| address());
    network.map(|network| network.trunc()).map_err(|_| Problem::value(field, text, NETWORK))
}

/// A class by its name.
pub(super) fn class(field: &str, text: &str) -> Result<Class, Problem> {
    one_of(field, text, &Class::ALL.map(|class| (class.label(), class)))
}

/// One of several names.
pub(super) fn one_of<T: Copy>(field: &str, text: &str, names: &[(&str, T)]) -> Result<T, Problem> {
    let found = names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let expected = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        Problem::value(field, text, format!("one of {expected}"))
    })
}

/// Whom a call with these fields is about.
pub(super) fn targets(
    admin: &Admin,
    ids: Option<&[String]>,
    filter: Option<&FilterBody>,
    everybody: bool,
) -> Result<Targets, Problem> {
    let filter = match (ids, filter) {
        (Some(_), Some(_)) => {
            return Err(Problem::value("ids", "given with filter", "ids or filter, not both"));
        }
        (Some(_), None) if everybody => {
            return Err(Problem::value("everybody", "true", "it without ids"));
        }
        (Some(ids), None) => return self::ids(ids).map(Targets::Ids),
        (None, None) if !everybody => return Err(Problem::missing("ids", "ids or filter")),
        (None, filter) => filter,
    };
    let is_empty = filter.is_none_or(|filter| *filter == FilterBody::default());
    match (is_empty, everybody) {
        (true, false) => {
            Err(Problem::value("filter", "{}", "a field in it, or \"everybody\": true beside it"))
        }
        (false, true) => Err(Problem::value("everybody", "true", "it with an empty filter or none")),
        (true, true) => Ok(Targets::Matching(Filter::default())),
        (false, false) => {
            filter.map_or(Ok(Filter::default()), |filter| filter.read(admin)).map(Targets::Matching)
        }
    }
}

fn ids(ids: &[String]) -> Result<Vec<ClientRef>, Problem> {
    if ids.is_empty() || ids.len() > MOST_CLIENTS as usize {
        return Err(Problem::value("ids", format!("{} ids", ids.len()), format!("1 to {MOST_CLIENTS} ids")));
    }
    let read = |(n, text): (usize, &String)| parse(&format!("ids[{n}]"), text, ID);
    ids.iter().enumerate().map(read).collect()
}
