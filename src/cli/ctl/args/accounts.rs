//! Calls about priority identities, balances, defaults and shared throttles.

use clap::Subcommand;
use serde_json::{Map, json};

use super::{
    AccountArgs, LimitArgs, Request, delete, factors, get, map, post, query, scope_of, seconds, segment,
    with_body,
};

/// A call about who gets how much.
#[derive(Subcommand, Debug)]
pub(in super::super) enum AccountCall {
    /// Priority identities.
    Priority {
        /// What the page begins behind.
        #[arg(long, value_name = "IDENTITY")]
        after: Option<String>,
        /// Most of a page.
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// One priority identity.
    Identity {
        /// A network, or key: and the SHA-256 of a certificate's public key.
        identity: String,
    },
    /// Make an identity a priority identity, or change one.
    SetIdentity {
        /// A network, or key: and the SHA-256 of a certificate's public key.
        identity: String,
        #[command(flatten)]
        account: AccountArgs,
        /// Tag that its clients get, in the place of those they got; repeat for several.
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
    },
    /// An identity is no priority identity any more.
    RemoveIdentity {
        /// The identity.
        identity: String,
    },
    /// Balance of an identity.
    Balance {
        /// The identity.
        identity: String,
    },
    /// Add to a balance, or take from it down to 0.
    AddBalance {
        /// The identity.
        identity: String,
        /// Cost units; negative to take.
        #[arg(allow_negative_numbers = true)]
        amount: i64,
    },
    /// What clients get that have nothing of their own.
    Defaults,
    /// Change it, for later clients.
    SetDefaults {
        /// A newcomer must be better than its victim after so much projected use.
        #[arg(long, value_name = "TIME")]
        connected_bias: Option<String>,
        /// Prices: TIME,CAPACITY,REQUEST.
        #[arg(long, value_name = "T,C,R")]
        factors: Option<String>,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Throttles that clients share.
    Throttles,
    /// Set a throttle that clients share.
    SetThrottle {
        /// all, class:NAME or service:N.
        #[arg(value_name = "SCOPE")]
        scope: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
}

impl AccountCall {
    /// The request; an error is a sentence about the usage.
    pub(super) fn request(&self) -> Result<Request, String> {
        Ok(match self {
            AccountCall::Priority { after, limit } => {
                let limit = limit.map(|n| n.to_string());
                let pairs = [("after", after.clone()), ("limit", limit)];
                let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                get(&query("/priority", pairs))
            }
            AccountCall::Identity { identity } => get(&format!("/priority/{}", segment(identity))),
            AccountCall::SetIdentity { identity, account, tag } => {
                let mut body = Map::new();
                account.into(&mut body)?;
                if !tag.is_empty() {
                    body.insert("tags".into(), json!(tag));
                }
                with_body("PUT", &format!("/priority/{}", segment(identity)), body)
            }
            AccountCall::RemoveIdentity { identity } => delete(&format!("/priority/{}", segment(identity))),
            AccountCall::Balance { identity } => get(&format!("/balances/{}", segment(identity))),
            AccountCall::AddBalance { identity, amount } => {
                post(&format!("/balances/{}/add", segment(identity)), map(json!({"amount": amount})))
            }
            AccountCall::Defaults => get("/defaults"),
            AccountCall::SetDefaults { connected_bias, factors: prices, limits } => {
                let mut body = Map::new();
                if let Some(time) = connected_bias {
                    let bias = seconds("--connected-bias", time)?.as_secs();
                    body.insert("connected_bias".into(), json!(bias));
                }
                if let Some(text) = prices {
                    body.insert("factors".into(), factors(text)?);
                }
                limits.into(&mut body, "throttle_down", "throttle_up")?;
                with_body("PATCH", "/defaults", body)
            }
            AccountCall::Throttles => get("/throttles"),
            AccountCall::SetThrottle { scope, limits } => {
                let mut body = scope_of(scope)?;
                limits.into(&mut body, "down", "up")?;
                with_body("PUT", "/throttles", body)
            }
        })
    }
}
