//! Services: groups of listeners with rules of their own.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::Done;
use crate::base::ServiceId;
use crate::base::limits::MAX_USER_AGENT;
use crate::control::admin::Admin;
use crate::control::admin::extract::{Body, Named, given, parse, within};
use crate::control::admin::problem::Problem;
use crate::hub::command::{Command, Service, ServiceChange, ServiceInfo};

/// Most addresses of a service.
const ADDRESSES: usize = 16;
/// Longest name, bytes.
const NAME: usize = 32;
/// Most slots of a service: more clients than a process can hold.
const SLOTS: u64 = 1 << 24;
const ID: &str = "a service's number, 0 to 255";
const ADDRESS: &str = "ADDRESS:PORT, IPv6 addresses in brackets";

/// A service to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceBody {
    /// Its name, for people.
    #[schema(min_length = 1, max_length = 32)]
    name: String,
    /// Where clients connect, ADDRESS:PORT each.
    #[schema(min_items = 1, max_items = 16)]
    listen: Vec<String>,
    /// Whether TLS is spoken there.
    #[serde(default)]
    tls: bool,
    /// Service bits that may be advertised; all that can be given when it is not given.
    bits: Option<u64>,
    /// Name towards its clients (BIP14); the relay's when it is not given.
    user_agent: Option<String>,
    /// Session slots.
    #[schema(minimum = 1, maximum = 16_777_216)]
    sessions: u64,
    /// Probe slots; ten times the session slots when it is not given.
    #[schema(minimum = 1, maximum = 16_777_216)]
    probes: Option<u64>,
}

/// What changes of a service; what is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeBody {
    #[schema(min_length = 1, max_length = 32)]
    name: Option<String>,
    /// Service bits that may be advertised; null for all that can be given.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    bits: Option<Option<u64>>,
    /// Name towards its clients (BIP14); null for the relay's.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    user_agent: Option<Option<String>>,
    /// Session slots.
    #[schema(minimum = 1, maximum = 16_777_216)]
    sessions: Option<u64>,
    /// Probe slots.
    #[schema(minimum = 1, maximum = 16_777_216)]
    probes: Option<u64>,
}

/// A service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceView {
    /// Its number.
    id: u8,
    name: String,
    listen: Vec<String>,
    tls: bool,
    bits: Option<u64>,
    user_agent: Option<String>,
    /// Whether it takes no newcomers any more.
    draining: bool,
    /// Session slots taken, and all of them.
    sessions: u64,
    max_sessions: u64,
    /// Probe slots taken, and all of them.
    probes: u64,
    max_probes: u64,
}

impl From<ServiceInfo> for ServiceView {
    fn from(info: ServiceInfo) -> ServiceView {
        let Service { name, listen, tls, bits, user_agent, sessions, probes } = info.service;
        ServiceView {
            id: info.id.0,
            name,
            listen: listen.iter().map(SocketAddr::to_string).collect(),
            tls,
            bits,
            user_agent,
            draining: info.draining,
            sessions: info.sessions,
            max_sessions: sessions,
            probes: info.probes,
            max_probes: probes,
        }
    }
}

/// The services.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServicesView {
    services: Vec<ServiceView>,
}

/// The number of a new service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedView {
    id: u8,
}

/// Every service.
#[utoipa::path(get, path = "/services", responses((status = 200, body = ServicesView)))]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<ServicesView>, Problem> {
    let services = admin.ask(Command::Services).await?;
    Ok(Json(ServicesView { services: services.into_iter().map(ServiceView::from).collect() }))
}

/// Another service; it listens when this is answered.
#[utoipa::path(
    post,
    path = "/services",
    request_body = ServiceBody,
    responses((status = 201, body = AddedView))
)]
pub(super) async fn add(
    State(admin): State<Admin>,
    Body(body): Body<ServiceBody>,
) -> Result<(StatusCode, Json<AddedView>), Problem> {
    if body.listen.is_empty() || body.listen.len() > ADDRESSES {
        let expected = format!("1 to {ADDRESSES} addresses");
        return Err(Problem::value("listen", format!("{} addresses", body.listen.len()), expected));
    }
    let address = |(n, text): (usize, &String)| parse(&format!("listen[{n}]"), text, ADDRESS);
    let sessions = slots("sessions", body.sessions)?;
    let service = Service {
        name: name(body.name)?,
        listen: body.listen.iter().enumerate().map(address).collect::<Result<_, _>>()?,
        tls: body.tls,
        bits: body.bits,
        user_agent: body.user_agent.map(user_agent).transpose()?,
        sessions,
        probes: slots("probes", body.probes.unwrap_or((sessions * 10).min(SLOTS)))?,
    };
    let id = admin.ask(|reply| Command::AddService { service, reply }).await?;
    Ok((StatusCode::CREATED, Json(AddedView { id: id.0 })))
}

/// One service.
#[utoipa::path(
    get,
    path = "/services/{id}",
    params(("id" = u8, Path, description = "Its number")),
    responses((status = 200, body = ServiceView))
)]
pub(super) async fn one(
    State(admin): State<Admin>,
    Named(text): Named,
) -> Result<Json<ServiceView>, Problem> {
    let id = id(&text)?;
    let services = admin.ask(Command::Services).await?;
    let found = services.into_iter().find(|info| info.id == id);
    found.map(|info| Json(info.into())).ok_or_else(|| Problem::unknown("id", text))
}

/// Changes a service. Slots count at once, the rest for newcomers.
#[utoipa::path(
    patch,
    path = "/services/{id}",
    params(("id" = u8, Path, description = "Its number")),
    request_body = ChangeBody,
    responses((status = 200, body = ServiceView))
)]
pub(super) async fn change(
    State(admin): State<Admin>,
    Named(text): Named,
    Body(body): Body<ChangeBody>,
) -> Result<Json<ServiceView>, Problem> {
    let service = id(&text)?;
    let change = ServiceChange {
        name: body.name.map(name).transpose()?,
        bits: body.bits,
        user_agent: body.user_agent.map(|name| name.map(user_agent).transpose()).transpose()?,
        sessions: body.sessions.map(|most| slots("sessions", most)).transpose()?,
        probes: body.probes.map(|most| slots("probes", most)).transpose()?,
    };
    let info = admin.ask(|reply| Command::ChangeService { service, change, reply }).await?;
    Ok(Json(info.into()))
}

/// A service takes no newcomers any more; who is connected stays. Says how many those are.
#[utoipa::path(
    post,
    path = "/services/{id}/drain",
    params(("id" = u8, Path, description = "Its number")),
    responses((status = 200, body = Done))
)]
pub(super) async fn drain(State(admin): State<Admin>, Named(text): Named) -> Result<Json<Done>, Problem> {
    let service = id(&text)?;
    let clients = admin.ask(|reply| Command::DrainService { service, reply }).await?;
    Ok(Json(Done { clients }))
}

/// Ends what is left of a service's clients, and the service. Says how many those were.
#[utoipa::path(
    delete,
    path = "/services/{id}",
    params(("id" = u8, Path, description = "Its number")),
    responses((status = 200, body = Done))
)]
pub(super) async fn remove(State(admin): State<Admin>, Named(text): Named) -> Result<Json<Done>, Problem> {
    let service = id(&text)?;
    let clients = admin.ask(|reply| Command::RemoveService { service, reply }).await?;
    Ok(Json(Done { clients }))
}

fn id(text: &str) -> Result<ServiceId, Problem> {
    parse("id", text, ID).map(ServiceId)
}

fn name(text: String) -> Result<String, Problem> {
    let expected = format!("1 to {NAME} bytes without control characters");
    plain("name", text, 1..=NAME, expected)
}

fn user_agent(text: String) -> Result<String, Problem> {
    let expected = format!("at most {MAX_USER_AGENT} bytes without control characters");
    plain("user_agent", text, 0..=MAX_USER_AGENT, expected)
}

fn plain(
    field: &str,
    text: String,
    bytes: std::ops::RangeInclusive<usize>,
    expected: String,
) -> Result<String, Problem> {
    match bytes.contains(&text.len()) && !text.contains(char::is_control) {
        true => Ok(text),
        false => Err(Problem::value(field, text, expected)),
    }
}

fn slots(field: &str, most: u64) -> Result<u64, Problem> {
    within(field, most, 1, SLOTS)
}
