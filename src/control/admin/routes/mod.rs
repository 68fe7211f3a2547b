//! The calls: each checks what it was given, asks the relay, and shows the answer.
//!
//! - `view`, `shards`: clients and the relay as JSON; `targets`: whom a call is about
//! - `info`, `health`, `clients`, `act`, `bans`, `nodes`, `accounts`, `services`, `throttles`, `process`, `watch`: calls
//! - `page`: the page for browsers

mod accounts;
mod act;
mod bans;
mod clients;
mod health;
mod info;
mod nodes;
mod page;
mod process;
mod services;
mod shards;
mod targets;
mod throttles;
mod view;
mod watch;

use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::routing::get;
use axum::{Router, middleware};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::guard::{self, Guard};
use super::problem::Problem;
use super::{Admin, BODY_BYTES, openapi};
pub(super) use page::is_page;

/// Every call with its description.
pub(super) fn described() -> OpenApiRouter<Admin> {
    let calls = OpenApiRouter::new()
        .routes(routes!(info::info))
        .routes(routes!(clients::list))
        .routes(routes!(clients::one))
        .routes(routes!(act::kick))
        .routes(routes!(act::pause))
        .routes(routes!(act::throttle))
        .routes(routes!(act::tag))
        .routes(routes!(act::set))
        .routes(routes!(act::tags))
        .routes(routes!(act::remove_tag))
        .routes(routes!(bans::list, bans::add))
        .routes(routes!(bans::remove))
        .routes(routes!(nodes::list, nodes::add))
        .routes(routes!(nodes::remove))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::one, accounts::put, accounts::remove))
        .routes(routes!(accounts::balance))
        .routes(routes!(accounts::add_balance))
        .routes(routes!(accounts::defaults, accounts::set_defaults))
        .routes(routes!(throttles::list, throttles::set))
        .routes(routes!(services::list, services::add))
        .routes(routes!(services::one, services::change, services::remove))
        .routes(routes!(services::drain))
        .routes(routes!(process::reload))
        .routes(routes!(process::reload_certificates))
        .routes(routes!(process::log_level))
        .routes(routes!(watch::events));
    OpenApiRouter::new()
        .nest("/api/v1", calls)
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// All of it, behind a guard.
pub(super) fn app(admin: Admin, guard: Guard) -> Router {
    let (router, _) = described().split_for_parts();
    let text = openapi::text();
    let describe = move || {
        let text = text.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], text) }
    };
    page::with(router)
        .route("/api/v1/openapi.json", get(describe))
        .fallback(Problem::not_found)
        .method_not_allowed_fallback(Problem::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .with_state(admin)
}
