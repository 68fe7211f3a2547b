//! For those who watch whether the relay is there, and Prometheus.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::admin::Admin;
use crate::control::admin::problem::Problem;
use crate::control::metrics::CONTENT_TYPE;
use crate::hub::command::Command;

/// Whether it is well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    ok: bool,
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { ok: true })
}

/// Clients are served: a tip is known, from a node or from the store.
#[utoipa::path(
    get,
    path = "/readyz",
    responses((status = 200, body = Health), (status = 503, description = "Not yet", body = Problem))
)]
pub(super) async fn readyz(State(admin): State<Admin>) -> Result<Json<Health>, Problem> {
    let info = admin.ask(Command::Info).await?;
    if info.height.is_none() {
        let text = match info.nodes_up {
            0 => "no tip is known, and no node is connected",
            _ => "no tip is known yet: headers are on their way from the node",
        };
        return Err(Problem::plain(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    Ok(Json(Health { ok: true }))
}

/// The metrics in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"))
)]
pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], (admin.hooks.metrics)()).into_response()
}
