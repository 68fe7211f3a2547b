//! Clients, by pages, and one of them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::targets::{FilterBody, ID};
use super::view::ClientView;
use crate::base::{ClientId, ClientRef, ShardId};
use crate::control::admin::Admin;
use crate::control::admin::extract::{Named, Query, parse, within};
use crate::control::admin::problem::Problem;
use crate::hub::command::{Command, Page, Refusal};
use crate::hub::desk::MOST_CLIENTS;
use crate::link::Filter;

/// Clients of a page when no number is given.
const PAGE: u32 = 100;

/// Which clients, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Address within this network, or this address.
    network: Option<String>,
    /// A service's number.
    service: Option<u8>,
    /// plain, v2 or tls.
    transport: Option<String>,
    /// probe, free or priority.
    class: Option<String>,
    /// All of these tags, separated by commas.
    tag: Option<String>,
    /// What the page begins behind: `next` of the page before.
    after: Option<String>,
    /// Most clients of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// A page of clients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClientsView {
    clients: Vec<ClientView>,
    /// What the next page begins behind; null at the end. A page may be short, or empty, before the end.
    next: Option<String>,
}

/// Clients, by shard and slot. A client that comes while the pages are read may be missed, none is there twice.
#[utoipa::path(get, path = "/clients", params(ListQuery), responses((status = 200, body = ClientsView)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<ListQuery>,
) -> Result<Json<ClientsView>, Problem> {
    let limit = within("limit", query.limit.unwrap_or(PAGE), 1, MOST_CLIENTS)?;
    let after = query.after.as_deref().map(|text| parse("after", text, ID)).transpose()?;
    let filter = FilterBody {
        network: query.network,
        service: query.service,
        transport: query.transport,
        class: query.class,
        tags: names(query.tag.as_deref()),
    };
    let filter = filter.read(&admin)?;
    let page = admin.ask(|reply| Command::Clients { filter, after, limit, reply }).await?;
    let next = page.next.map(|next| next.to_string());
    Ok(Json(ClientsView { clients: views(&admin, page), next }))
}

/// One client.
#[utoipa::path(
    get,
    path = "/clients/{id}",
    params(("id" = String, Path, description = "SHARD-SLOT-GENERATION")),
    responses((status = 200, body = ClientView))
)]
pub(super) async fn one(State(admin): State<Admin>, Named(text): Named) -> Result<Json<ClientView>, Problem> {
    let id: ClientRef = parse("id", &text, ID)?;
    let after = before(id);
    let ask = |reply| Command::Clients { filter: Filter::default(), after, limit: 1, reply };
    let unknown = || Problem::from(Refusal::Unknown { field: "id", value: text.clone() });
    let page = match admin.ask(ask).await {
        Ok(page) => page,
        // The shard of the place before.
        Err(problem) if problem.is_unknown() => return Err(unknown()),
        Err(problem) => return Err(problem),
    };
    match page.clients.first() {
        Some((found, _)) if *found == id => {
            views(&admin, page).into_iter().next().map(Json).ok_or_else(unknown)
        }
        _ => Err(unknown()),
    }
}

/// The place before a client's; none for the first.
fn before(ClientRef { shard, id }: ClientRef) -> Option<ClientRef> {
    let place = |shard, slot| Some(ClientRef { shard, id: ClientId { slot, generation: 0 } });
    match (shard.0, id.slot) {
        (0, 0) => None,
        (n, 0) => place(ShardId(n - 1), u32::MAX),
        (_, slot) => place(shard, slot - 1),
    }
}

fn views(admin: &Admin, page: Page) -> Vec<ClientView> {
    let balances = page.balances.into_iter().chain(std::iter::repeat(None));
    let clients = page.clients.into_iter().zip(balances);
    clients.map(|((id, info), balance)| ClientView::new(id, info, balance, &admin.tags)).collect()
}

/// Names separated by commas.
pub(super) fn names(text: Option<&str>) -> Vec<String> {
    text.into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect()
}
