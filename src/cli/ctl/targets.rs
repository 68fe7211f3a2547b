//! Clients that are meant: ids, or what holds for all of them.

use clap::Args;
use serde_json::{Map, Value, json};

/// Ids, or all that is given holds for a client; everybody only when that is said.
#[derive(Args, Debug, Default)]
pub(super) struct TargetArgs {
    /// Clients, SHARD-SLOT-GENERATION each.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Everybody.
    #[arg(long)]
    everybody: bool,
}

/// What holds for the clients that are meant.
#[derive(Args, Debug, Default)]
pub(super) struct FilterArgs {
    /// Address within: an address, or a network such as 192.0.2.0/24.
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Service, by number.
    #[arg(long, value_name = "N")]
    service: Option<u8>,
    /// Transport.
    #[arg(long, value_parser = ["plain", "v2", "tls"])]
    transport: Option<String>,
    /// Class.
    #[arg(long, value_parser = ["probe", "free", "priority"])]
    class: Option<String>,
    /// Tag; repeat for several that must all be there.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
}

impl FilterArgs {
    /// As fields of a query.
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        let tags = (!self.tag.is_empty()).then(|| self.tag.join(","));
        let fields = [
            ("network", self.network.clone()),
            ("service", self.service.map(|n| n.to_string())),
            ("transport", self.transport.clone()),
            ("class", self.class.clone()),
            ("tag", tags),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn json(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let fields = [
            ("network", self.network.as_ref().map(|text| json!(text))),
            ("service", self.service.map(|n| json!(n))),
            ("transport", self.transport.as_ref().map(|text| json!(text))),
            ("class", self.class.as_ref().map(|text| json!(text))),
            ("tags", (!self.tag.is_empty()).then(|| json!(self.tag))),
        ];
        map.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        map
    }
}

impl TargetArgs {
    /// The fields of a body that name them.
    pub(super) fn body(&self) -> Result<Map<String, Value>, String> {
        let filter = self.filter.json();
        let given = [!self.ids.is_empty(), !filter.is_empty(), self.everybody];
        if given.iter().filter(|given| **given).count() != 1 {
            let text = "clients are named by ids, or by --network, --service, --transport, --class and --tag, or by --everybody: \
                        one of these three";
            return Err(text.to_owned());
        }
        let mut body = Map::new();
        match (self.ids.is_empty(), self.everybody) {
            (false, _) => body.insert("ids".into(), json!(self.ids)),
            (true, true) => body.insert("everybody".into(), json!(true)),
            (true, false) => body.insert("filter".into(), Value::Object(filter)),
        };
        Ok(body)
    }
}
