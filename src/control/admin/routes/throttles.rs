//! Throttles that clients share: of a class, of a service, of all.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::targets::{class, one_of};
use crate::admission::{Limit, Scope};
use crate::base::ServiceId;
use crate::control::admin::Admin;
use crate::control::admin::extract::{Body, given, within};
use crate::control::admin::problem::Problem;
use crate::hub::command::{Command, SharedThrottle};

/// Highest limit, bytes a second: above it there is none to speak of.
const MOST_RATE: u64 = 1_000_000_000_000;

/// A throttle to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SharedBody {
    /// all, class or service.
    scope: String,
    /// Of the scope class: probe, free or priority.
    class: Option<String>,
    /// Of the scope service: its number.
    service: Option<u8>,
    /// Bytes a second towards clients, all together; null for no limit. Unchanged when it is not given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    down: Option<Option<u64>>,
    /// And from them.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    up: Option<Option<u64>>,
}

/// A throttle in force.
#[derive(Debug, Serialize, ToSchema)]
struct SharedView {
    /// all, class or service.
    scope: &'static str,
    class: Option<&'static str>,
    service: Option<u8>,
    /// Bytes a second towards clients.
    down: Option<u64>,
    /// And from them.
    up: Option<u64>,
}

/// The throttles.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ThrottlesView {
    throttles: Vec<SharedView>,
}

/// Every throttle in force that clients share.
#[utoipa::path(get, path = "/throttles", responses((status = 200, body = ThrottlesView)))]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<ThrottlesView>, Problem> {
    let throttles = admin.ask(Command::Throttles).await?;
    Ok(Json(ThrottlesView { throttles: throttles.into_iter().map(view).collect() }))
}

fn view(SharedThrottle { scope, down, up }: SharedThrottle) -> SharedView {
    let (scope, class, service) = match scope {
        Scope::All => ("all", None, None),
        Scope::Class(class) => ("class", Some(class.label()), None),
        Scope::Service(service) => ("service", None, Some(service.0)),
    };
    SharedView { scope, class, service, down, up }
}

/// Sets a throttle that clients share.
#[utoipa::path(put, path = "/throttles", request_body = SharedBody, responses((status = 204)))]
pub(super) async fn set(
    State(admin): State<Admin>,
    Body(body): Body<SharedBody>,
) -> Result<StatusCode, Problem> {
    let scope = scope(&body)?;
    let (down, up) = limits(body.down, body.up)?;
    admin.ask(|reply| Command::Throttle { scope, down, up, reply }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn scope(body: &SharedBody) -> Result<Scope, Problem> {
    let name = one_of("scope", &body.scope, &[("all", 0), ("class", 1), ("service", 2)])?;
    match (name, &body.class, body.service) {
        (0, None, None) => Ok(Scope::All),
        (1, Some(text), None) => class("class", text).map(Scope::Class),
        (2, None, Some(service)) => Ok(Scope::Service(ServiceId(service))),
        (1, None, None) => Err(Problem::missing("class", "probe, free or priority")),
        (2, None, None) => Err(Problem::missing("service", "a service's number")),
        (0 | 2, Some(text), _) => Err(Problem::value("class", text, "it with the scope class only")),
        (_, _, service) => {
            let value = service.map_or(String::new(), |service| service.to_string());
            Err(Problem::value("service", value, "it with the scope service only"))
        }
    }
}

/// Two limits, of which one at least is given.
pub(super) fn limits(down: Option<Option<u64>>, up: Option<Option<u64>>) -> Result<(Limit, Limit), Problem> {
    if down.is_none() && up.is_none() {
        return Err(Problem::missing("down", "down, up, or both: bytes a second, or null for no limit"));
    }
    Ok((limit("down", down)?, limit("up", up)?))
}

/// A limit as it was given: not at all, null, or a number.
pub(super) fn limit(field: &str, rate: Option<Option<u64>>) -> Result<Limit, Problem> {
    match rate {
        None => Ok(Limit::Keep),
        Some(None) => Ok(Limit::Unlimited),
        Some(Some(rate)) => within(field, rate, 1, MOST_RATE).map(Limit::Bytes),
    }
}
