//! Calls about clients, bans and tags.

use clap::{Args, Subcommand};
use serde_json::json;

use super::super::targets::{FilterArgs, TargetArgs};
use super::{AccountArgs, LimitArgs, Request, delete, get, map, once, post, query, seconds, segment};

/// A call about clients.
#[derive(Subcommand, Debug)]
pub(in super::super) enum ClientCall {
    /// A page of clients, or all of them.
    Clients(ClientsArgs),
    /// One client, in full.
    Client {
        /// SHARD-SLOT-GENERATION.
        id: String,
    },
    /// End clients.
    Kick(TargetArgs),
    /// Stop reading clients for a while; what they have asked for is still sent.
    Pause {
        /// How long, for example 30s; 0 ends a pause.
        #[arg(long = "for", value_name = "TIME")]
        time: String,
        #[command(flatten)]
        who: TargetArgs,
    },
    /// Throttle clients, each by itself.
    Throttle {
        #[command(flatten)]
        limits: LimitArgs,
        #[command(flatten)]
        who: TargetArgs,
    },
    /// Give clients tags, and take them.
    Tag {
        /// Given; repeat for several.
        #[arg(long, value_name = "TAG")]
        add: Vec<String>,
        /// Taken; repeat for several.
        #[arg(long, value_name = "TAG")]
        remove: Vec<String>,
        #[command(flatten)]
        who: TargetArgs,
    },
    /// Give clients a capacity and prices of their own, while they are connected.
    Set {
        #[command(flatten)]
        account: AccountArgs,
        #[command(flatten)]
        who: TargetArgs,
    },
    /// Tags in use.
    Tags,
    /// Take a tag from every client, and free its name.
    RemoveTag {
        /// The tag.
        name: String,
    },
    /// Bans in force.
    Bans,
    /// Ban a network: who is there is ended, nobody comes in until the time is over.
    Ban {
        /// An address, or a network such as 192.0.2.0/24.
        network: String,
        /// How long, for example 24h.
        #[arg(long = "for", value_name = "TIME")]
        time: String,
        /// Why, for people.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Lift a ban on exactly this network.
    Unban {
        /// The network.
        network: String,
    },
}

impl ClientCall {
    /// The request; an error is a sentence about the usage.
    pub(super) fn request(&self) -> Result<Request, String> {
        Ok(match self {
            ClientCall::Clients(args) => args.request(),
            ClientCall::Client { id } => get(&format!("/clients/{}", segment(id))),
            ClientCall::Kick(who) => post("/clients/kick", who.body()?),
            ClientCall::Pause { time, who } => {
                let mut body = who.body()?;
                body.insert("milliseconds".into(), json!(seconds("--for", time)?.as_millis() as u64));
                post("/clients/pause", body)
            }
            ClientCall::Throttle { limits, who } => {
                let mut body = who.body()?;
                limits.into(&mut body, "down", "up")?;
                post("/clients/throttle", body)
            }
            ClientCall::Tag { add, remove, who } => {
                let mut body = who.body()?;
                body.extend([("add".to_owned(), json!(add)), ("remove".to_owned(), json!(remove))]);
                post("/clients/tag", body)
            }
            ClientCall::Set { account, who } => {
                let mut body = who.body()?;
                account.into(&mut body)?;
                post("/clients/set", body)
            }
            ClientCall::Tags => get("/tags"),
            ClientCall::RemoveTag { name } => delete(&format!("/tags/{}", segment(name))),
            ClientCall::Bans => get("/bans"),
            ClientCall::Ban { network, time, reason } => {
                let seconds = seconds("--for", time)?.as_secs();
                post("/bans", map(json!({"network": network, "seconds": seconds, "reason": reason})))
            }
            ClientCall::Unban { network } => delete(&format!("/bans/{}", segment(network))),
        })
    }
}

/// Which clients, and which page.
#[derive(Args, Debug)]
pub(in super::super) struct ClientsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// What the page begins behind.
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    after: Option<String>,
    /// Most of a page, 1 to 1000.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Page for page to the end.
    #[arg(long)]
    all: bool,
}

impl ClientsArgs {
    fn request(&self) -> Request {
        let mut pairs = self.filter.pairs();
        let limit = self.limit.or(self.all.then_some(1_000));
        pairs.extend(self.after.clone().map(|after| ("after", after)));
        pairs.extend(limit.map(|limit| ("limit", limit.to_string())));
        let path = format!("/api/v1{}", query("/clients", pairs));
        if self.all { Request::AllClients(path) } else { once("GET", path, None) }
    }
}
