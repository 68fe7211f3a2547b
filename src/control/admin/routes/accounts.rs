//! Priority identities, balances, and what everybody else gets.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::throttles::limit;
use super::view::BalanceView;
use crate::control::admin::Admin;
use crate::control::admin::extract::{Body, Named, Query, given, within};
use crate::control::admin::problem::Problem;
use crate::hub::command::{Account, AccountChange, Command, Defaults, DefaultsChange, Factors, Identity};
use crate::hub::desk::MOST_CLIENTS;

/// Highest capacity: ten thousand cores for one client.
const MOST_CAPACITY: u64 = 10_000_000_000;
/// Highest price factor.
const MOST_FACTOR: f64 = 1e9;
/// Longest bias, seconds.
const MOST_BIAS: u64 = 24 * 3600;
/// Identities of a page when no number is given.
const PAGE: u32 = 100;

/// Prices.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FactorsBody {
    /// Cost units for a second of connection.
    #[schema(minimum = 0)]
    time: f64,
    /// Cost units for a second of one unit of capacity.
    #[schema(minimum = 0)]
    capacity: f64,
    /// Cost units for a cost unit served.
    #[schema(minimum = 0)]
    request: f64,
}

impl FactorsBody {
    /// As the relay takes it.
    pub(super) fn read(self) -> Result<Factors, Problem> {
        let read = |field, value| within(field, value, 0.0, MOST_FACTOR);
        Ok(Factors {
            time: read("factors.time", self.time)?,
            capacity: read("factors.capacity", self.capacity)?,
            request: read("factors.request", self.request)?,
        })
    }
}

impl From<Factors> for FactorsBody {
    fn from(Factors { time, capacity, request }: Factors) -> FactorsBody {
        FactorsBody { time, capacity, request }
    }
}

/// A capacity within bounds.
pub(super) fn capacity(value: u64) -> Result<u64, Problem> {
    within("capacity", value, 1, MOST_CAPACITY)
}

fn identity(field: &str, text: &str) -> Result<Identity, Problem> {
    text.parse().map_err(|expected| Problem::value(field, text, expected))
}

/// A priority identity.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountView {
    /// A network, or key: and the SHA-256 of a certificate's public key.
    identity: String,
    /// Cost units a second that each of its clients is guaranteed.
    capacity: u64,
    factors: FactorsBody,
    /// Tags that its clients get.
    tags: Vec<String>,
    balance: BalanceView,
    /// Clients that are connected.
    clients: u64,
}

fn view(admin: &Admin, account: Account) -> AccountView {
    AccountView {
        identity: account.identity.to_string(),
        capacity: account.capacity,
        factors: account.factors.into(),
        tags: admin.tags.of(account.tags),
        balance: account.balance.into(),
        clients: account.clients,
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// What the page begins behind: `next` of the page before.
    after: Option<String>,
    /// Most identities of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// A page of priority identities.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountsView {
    priority: Vec<AccountView>,
    /// What the next page begins behind; null at the end.
    next: Option<String>,
}

/// What a priority identity has; what is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountBody {
    /// Cost units a second; a new identity needs it.
    #[schema(minimum = 1)]
    capacity: Option<u64>,
    factors: Option<FactorsBody>,
    /// Tags that its clients get, in the place of those they got.
    tags: Option<Vec<String>>,
}

/// Priority identities, by name.
#[utoipa::path(get, path = "/priority", params(PageQuery), responses((status = 200, body = AccountsView)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<PageQuery>,
) -> Result<Json<AccountsView>, Problem> {
    let limit = within("limit", query.limit.unwrap_or(PAGE), 1, MOST_CLIENTS)?;
    let after = query.after.as_deref().map(|text| identity("after", text)).transpose()?;
    let page = admin.ask(|reply| Command::Accounts { after, limit, reply }).await?;
    let next = page.next.map(|next| next.to_string());
    let priority = page.accounts.into_iter().map(|account| view(&admin, account)).collect();
    Ok(Json(AccountsView { priority, next }))
}

/// One priority identity.
#[utoipa::path(
    get,
    path = "/priority/{identity}",
    params(("identity" = String, Path, description = "A network, its / as %2F, or key: and 64 hexadecimal digits")),
    responses((status = 200, body = AccountView))
)]
pub(super) async fn one(
    State(admin): State<Admin>,
    Named(text): Named,
) -> Result<Json<AccountView>, Problem> {
    let identity = identity("identity", &text)?;
    let account = admin.ask(|reply| Command::Account { identity, reply }).await?;
    Ok(Json(view(&admin, account)))
}

/// Makes an identity a priority identity, or changes one.
#[utoipa::path(
    put,
    path = "/priority/{identity}",
    params(("identity" = String, Path, description = "A network, its / as %2F, or key: and 64 hexadecimal digits")),
    request_body = AccountBody,
    responses((status = 200, body = AccountView))
)]
pub(super) async fn put(
    State(admin): State<Admin>,
    Named(text): Named,
    Body(body): Body<AccountBody>,
) -> Result<Json<AccountView>, Problem> {
    let identity = identity("identity", &text)?;
    let change = AccountChange {
        capacity: body.capacity.map(capacity).transpose()?,
        factors: body.factors.map(FactorsBody::read).transpose()?,
        // Last: on an error before, no name must have been made.
        tags: body.tags.map(|names| admin.tags.make("tags", &names)).transpose()?,
    };
    let account = admin.ask(|reply| Command::SetAccount { identity, change, reply }).await?;
    Ok(Json(view(&admin, account)))
}

/// An identity is no priority identity any more; its clients go on as free ones.
#[utoipa::path(
    delete,
    path = "/priority/{identity}",
    params(("identity" = String, Path, description = "A network, its / as %2F, or key: and 64 hexadecimal digits")),
    responses((status = 204))
)]
pub(super) async fn remove(State(admin): State<Admin>, Named(text): Named) -> Result<StatusCode, Problem> {
    let identity = identity("identity", &text)?;
    admin.ask(|reply| Command::RemoveAccount { identity, reply }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The balance of an identity, a free one's as well while it is remembered.
#[utoipa::path(
    get,
    path = "/balances/{identity}",
    params(("identity" = String, Path, description = "A network, its / as %2F, or key: and 64 hexadecimal digits")),
    responses((status = 200, body = BalanceView))
)]
pub(super) async fn balance(
    State(admin): State<Admin>,
    Named(text): Named,
) -> Result<Json<BalanceView>, Problem> {
    let identity = identity("identity", &text)?;
    let balance = admin.ask(|reply| Command::Balance { identity, reply }).await?;
    Ok(Json(balance.into()))
}

/// What is added to a balance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AmountBody {
    /// Cost units; negative to take.
    amount: i64,
}

/// A balance before and after.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedView {
    old: u64,
    new: u64,
}

/// Adds to the balance of a priority identity, or takes from it down to 0. An overflow changes nothing.
#[utoipa::path(
    post,
    path = "/balances/{identity}/add",
    params(("identity" = String, Path, description = "A network, its / as %2F, or key: and 64 hexadecimal digits")),
    request_body = AmountBody,
    responses((status = 200, body = AddedView))
)]
pub(super) async fn add_balance(
    State(admin): State<Admin>,
    Named(text): Named,
    Body(AmountBody { amount }): Body<AmountBody>,
) -> Result<Json<AddedView>, Problem> {
    let identity = identity("identity", &text)?;
    let (old, new) = admin.ask(|reply| Command::AddBalance { identity, amount, reply }).await?;
    Ok(Json(AddedView { old, new }))
}

/// What a client gets that has nothing of its own.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DefaultsView {
    factors: FactorsBody,
    /// A newcomer must be better than its victim after so many seconds of projected use.
    connected_bias: u64,
    /// Throttle of each client, bytes a second towards it.
    throttle_down: Option<u64>,
    /// And from it.
    throttle_up: Option<u64>,
}

impl From<Defaults> for DefaultsView {
    fn from(defaults: Defaults) -> DefaultsView {
        DefaultsView {
            factors: defaults.factors.into(),
            connected_bias: defaults.connected_bias,
            throttle_down: defaults.throttle_down,
            throttle_up: defaults.throttle_up,
        }
    }
}

/// What later clients get; what is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DefaultsBody {
    factors: Option<FactorsBody>,
    /// Seconds.
    #[schema(maximum = 86_400)]
    connected_bias: Option<u64>,
    /// Bytes a second towards each client; null for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    throttle_down: Option<Option<u64>>,
    /// And from each.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    throttle_up: Option<Option<u64>>,
}

/// What clients get that have nothing of their own.
#[utoipa::path(get, path = "/defaults", responses((status = 200, body = DefaultsView)))]
pub(super) async fn defaults(State(admin): State<Admin>) -> Result<Json<DefaultsView>, Problem> {
    Ok(Json(admin.ask(Command::Defaults).await?.into()))
}

/// Changes what later clients get.
#[utoipa::path(
    patch,
    path = "/defaults",
    request_body = DefaultsBody,
    responses((status = 200, body = DefaultsView))
)]
pub(super) async fn set_defaults(
    State(admin): State<Admin>,
    Body(body): Body<DefaultsBody>,
) -> Result<Json<DefaultsView>, Problem> {
    let bias = body.connected_bias.map(|bias| within("connected_bias", bias, 0, MOST_BIAS));
    let change = DefaultsChange {
        factors: body.factors.map(FactorsBody::read).transpose()?,
        connected_bias: bias.transpose()?,
        throttle_down: limit("throttle_down", body.throttle_down)?,
        throttle_up: limit("throttle_up", body.throttle_up)?,
    };
    Ok(Json(admin.ask(|reply| Command::SetDefaults { change, reply }).await?.into()))
}
