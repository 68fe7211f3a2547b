//! What is done to clients: kick, pause, throttle, tag, set.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::accounts::{FactorsBody, capacity};
use super::targets::{FilterBody, targets};
use super::throttles::limits;
use super::view::Done;
use crate::base::End;
use crate::control::admin::Admin;
use crate::control::admin::extract::{Body, Named, given, within};
use crate::control::admin::problem::Problem;
use crate::hub::command::{AccountChange, Command, Targets};
use crate::link::Action;

/// Longest pause, milliseconds: a client that says nothing for 20 minutes is ended anyway.
const MOST_PAUSE: u64 = 20 * 60 * 1_000;

/// Whom to kick.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KickBody {
    /// These clients, 1 to 1,000.
    ids: Option<Vec<String>>,
    /// Or all that match.
    filter: Option<FilterBody>,
    /// Must be true when the filter is empty.
    #[serde(default)]
    everybody: bool,
}

/// Whom to pause, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseBody {
    /// These clients, 1 to 1,000.
    ids: Option<Vec<String>>,
    /// Or all that match.
    filter: Option<FilterBody>,
    /// Must be true when the filter is empty.
    #[serde(default)]
    everybody: bool,
    /// They are not read for so long; 0 ends a pause.
    #[schema(maximum = 1_200_000)]
    milliseconds: u64,
}

/// Whose throttles, and which.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ThrottleBody {
    /// These clients, 1 to 1,000.
    ids: Option<Vec<String>>,
    /// Or all that match.
    filter: Option<FilterBody>,
    /// Must be true when the filter is empty.
    #[serde(default)]
    everybody: bool,
    /// Bytes a second towards each; null for no limit. Unchanged when it is not given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    down: Option<Option<u64>>,
    /// And from each.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    up: Option<Option<u64>>,
}

/// Whose tags, and which.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TagBody {
    /// These clients, 1 to 1,000.
    ids: Option<Vec<String>>,
    /// Or all that match.
    filter: Option<FilterBody>,
    /// Must be true when the filter is empty.
    #[serde(default)]
    everybody: bool,
    /// Tags given; a new name begins to be one, up to 16 at a time.
    #[serde(default)]
    add: Vec<String>,
    /// Tags taken.
    #[serde(default)]
    remove: Vec<String>,
}

/// Whose capacity and prices, and which.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetBody {
    /// These clients, 1 to 1,000.
    ids: Option<Vec<String>>,
    /// Or all that match.
    filter: Option<FilterBody>,
    /// Must be true when the filter is empty.
    #[serde(default)]
    everybody: bool,
    /// Cost units a second.
    #[schema(minimum = 1)]
    capacity: Option<u64>,
    /// Prices.
    factors: Option<FactorsBody>,
}

/// Ends clients.
#[utoipa::path(post, path = "/clients/kick", request_body = KickBody, responses((status = 200, body = Done)))]
pub(super) async fn kick(
    State(admin): State<Admin>,
    Body(body): Body<KickBody>,
) -> Result<Json<Done>, Problem> {
    let who = targets(&admin, body.ids.as_deref(), body.filter.as_ref(), body.everybody)?;
    act(&admin, who, Action::End(End::Kicked)).await
}

/// Stops reading clients for a while; what they have asked for is still sent.
#[utoipa::path(post, path = "/clients/pause", request_body = PauseBody, responses((status = 200, body = Done)))]
pub(super) async fn pause(
    State(admin): State<Admin>,
    Body(body): Body<PauseBody>,
) -> Result<Json<Done>, Problem> {
    let time = within("milliseconds", body.milliseconds, 0, MOST_PAUSE)?;
    let who = targets(&admin, body.ids.as_deref(), body.filter.as_ref(), body.everybody)?;
    act(&admin, who, Action::Pause(Duration::from_millis(time))).await
}

/// Throttles clients, each by itself.
#[utoipa::path(
    post,
    path = "/clients/throttle",
    request_body = ThrottleBody,
    responses((status = 200, body = Done))
)]
pub(super) async fn throttle(
    State(admin): State<Admin>,
    Body(body): Body<ThrottleBody>,
) -> Result<Json<Done>, Problem> {
    let (down, up) = limits(body.down, body.up)?;
    let who = targets(&admin, body.ids.as_deref(), body.filter.as_ref(), body.everybody)?;
    act(&admin, who, Action::Throttle { down, up }).await
}

/// Gives clients tags, and takes them.
#[utoipa::path(post, path = "/clients/tag", request_body = TagBody, responses((status = 200, body = Done)))]
pub(super) async fn tag(
    State(admin): State<Admin>,
    Body(body): Body<TagBody>,
) -> Result<Json<Done>, Problem> {
    if body.add.is_empty() && body.remove.is_empty() {
        return Err(Problem::missing("add", "tags to add, or tags to remove"));
    }
    let who = targets(&admin, body.ids.as_deref(), body.filter.as_ref(), body.everybody)?;
    let remove = admin.tags.find("remove", &body.remove)?;
    // Last: on an error before, no name must have been made.
    let add = admin.tags.make("add", &body.add)?;
    act(&admin, who, Action::Tag { add, remove }).await
}

/// Gives clients a capacity and prices of their own, for as long as they are connected.
#[utoipa::path(post, path = "/clients/set", request_body = SetBody, responses((status = 200, body = Done)))]
pub(super) async fn set(
    State(admin): State<Admin>,
    Body(body): Body<SetBody>,
) -> Result<Json<Done>, Problem> {
    if body.capacity.is_none() && body.factors.is_none() {
        return Err(Problem::missing("capacity", "a capacity, or factors"));
    }
    let who = targets(&admin, body.ids.as_deref(), body.filter.as_ref(), body.everybody)?;
    let change = AccountChange {
        capacity: body.capacity.map(capacity).transpose()?,
        factors: body.factors.map(FactorsBody::read).transpose()?,
        tags: None,
    };
    let clients = admin.ask(|reply| Command::SetClients { who, change, reply }).await?;
    Ok(Json(Done { clients }))
}

/// Names of tags.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TagsView {
    tags: Vec<String>,
}

/// Every tag in use.
#[utoipa::path(get, path = "/tags", responses((status = 200, body = TagsView)))]
pub(super) async fn tags(State(admin): State<Admin>) -> Json<TagsView> {
    Json(TagsView { tags: admin.tags.all() })
}

/// Takes a tag from every client, and frees its name.
#[utoipa::path(
    delete,
    path = "/tags/{tag}",
    params(("tag" = String, Path, description = "A tag in use")),
    responses((status = 200, body = Done))
)]
pub(super) async fn remove_tag(State(admin): State<Admin>, Named(tag): Named) -> Result<Json<Done>, Problem> {
    let tags = admin.tags.find("tag", std::slice::from_ref(&tag))?;
    let clients = admin.ask(|reply| Command::RemoveTags { tags, reply }).await?;
    admin.tags.remove(&tag);
    Ok(Json(Done { clients }))
}

async fn act(admin: &Admin, who: Targets, action: Action) -> Result<Json<Done>, Problem> {
    let clients = admin.ask(|reply| Command::Act { who, action, reply }).await?;
    Ok(Json(Done { clients }))
}
