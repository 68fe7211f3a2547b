//! Events, as server-sent events.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::clients::names;
use super::targets::one_of;
use crate::base::Tags;
use crate::control::admin::events::{EventKind, EventView, Wanted};
use crate::control::admin::extract::Query;
use crate::control::admin::problem::Problem;
use crate::control::admin::{Admin, WATCHERS};

/// An empty line this often tells proxies, and us, that somebody is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is wanted; all of it when nothing is given.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Of clients with all of these tags, separated by commas.
    tag: Option<String>,
    /// Of these kinds, separated by commas: connect, disconnect, kick, price, client_capacity, total_capacity, ban, unban,
    /// node_link, tip.
    kind: Option<String>,
    /// Only while more capacity is connected than may be.
    underrun: Option<bool>,
}

/// What happens, as it happens. A watcher that is too slow gets a last event `lagged`, and the stream ends.
#[utoipa::path(
    get,
    path = "/events",
    params(EventsQuery),
    responses((status = 200, body = EventView, content_type = "text/event-stream"))
)]
pub(super) async fn events(
    State(admin): State<Admin>,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Problem> {
    let tags = match names(query.tag.as_deref()) {
        names if names.is_empty() => Tags::default(),
        names => admin.tags.find("tag", &names)?,
    };
    let kinds = names(query.kind.as_deref());
    let kinds = kinds.iter().map(|name| one_of("kind", name, &EventKind::ALL)).collect::<Result<_, _>>()?;
    let wanted = Wanted { tags, kinds, underrun: query.underrun.unwrap_or(false) };
    let watch = admin.events.watch(wanted, admin.tags.clone()).ok_or_else(|| {
        Problem::plain(StatusCode::SERVICE_UNAVAILABLE, format!("{WATCHERS} watch events already"))
    })?;
    Ok(Sse::new(watch).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}
