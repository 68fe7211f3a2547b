//! Bans.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::targets::network;
use super::view::Done;
use crate::base::Tags;
use crate::control::admin::extract::{Body, Named, within};
use crate::control::admin::problem::Problem;
use crate::control::admin::{Admin, What};
use crate::hub::command::{Ban, Command};

/// Longest ban, seconds: 32 years.
const MOST_SECONDS: u64 = 1_000_000_000;
/// Longest reason, bytes.
const REASON: usize = 200;

/// A ban to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BanBody {
    /// An address, or a network such as 192.0.2.0/24.
    network: String,
    /// How long.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    seconds: u64,
    /// Why, for people.
    #[serde(default)]
    #[schema(max_length = 200)]
    reason: String,
}

/// A ban in force.
#[derive(Debug, Serialize, ToSchema)]
struct BanView {
    network: String,
    /// When it was made, seconds since 1970.
    since: u64,
    /// When it ends, seconds since 1970.
    until: u64,
    reason: String,
}

/// Every ban in force, by network.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BansView {
    bans: Vec<BanView>,
}

/// Every ban in force.
#[utoipa::path(get, path = "/bans", responses((status = 200, body = BansView)))]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<BansView>, Problem> {
    let view = |ban: Ban| BanView {
        network: ban.network.to_string(),
        since: ban.since,
        until: ban.until,
        reason: ban.reason,
    };
    let bans = admin.ask(Command::Bans).await?;
    Ok(Json(BansView { bans: bans.into_iter().map(view).collect() }))
}

/// Bans a network: who is connected from there is ended, nobody comes in until the time is over. Takes the place of a ban on
/// exactly this network.
#[utoipa::path(post, path = "/bans", request_body = BanBody, responses((status = 200, body = Done)))]
pub(super) async fn add(
    State(admin): State<Admin>,
    Body(body): Body<BanBody>,
) -> Result<Json<Done>, Problem> {
    let network = network("network", &body.network)?;
    let time = Duration::from_secs(within("seconds", body.seconds, 1, MOST_SECONDS)?);
    let reason = body.reason;
    if reason.len() > REASON || reason.chars().any(char::is_control) {
        let expected = format!("at most {REASON} bytes without control characters");
        return Err(Problem::value("reason", reason, expected));
    }
    let told = reason.clone();
    let clients = admin.ask(|reply| Command::Ban { network, time, reason, reply }).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let until = now.saturating_add(time.as_secs());
    admin.events.happened(What::Ban { network, until, reason: told }, Tags::default());
    Ok(Json(Done { clients }))
}

/// Lifts a ban on exactly this network.
#[utoipa::path(
    delete,
    path = "/bans/{network}",
    params(("network" = String, Path, description = "The network, its / as %2F")),
    responses((status = 204))
)]
pub(super) async fn remove(State(admin): State<Admin>, Named(text): Named) -> Result<StatusCode, Problem> {
    let network = network("network", &text)?;
    admin.ask(|reply| Command::Unban { network, reply }).await?;
    admin.events.happened(What::Unban { network }, Tags::default());
    Ok(StatusCode::NO_CONTENT)
}
