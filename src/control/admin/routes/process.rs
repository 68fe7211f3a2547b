//! The process: its configuration, certificates and logs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tracing::Level;
use utoipa::ToSchema;

use super::targets::one_of;
use crate::control::admin::Admin;
use crate::control::admin::extract::Body;
use crate::control::admin::problem::Problem;
use crate::hub::command::Command;

/// What the configuration came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReloadView {
    /// Keys that have another value now.
    changed: Vec<String>,
    /// Keys that have another value in the file, which counts only after a restart.
    restart: Vec<String>,
}

/// Reads the configuration file again. On an error nothing has changed, unless it names the step where the reload stopped: what comes before that
/// has taken effect, and another reload does the rest.
#[utoipa::path(post, path = "/reload", responses((status = 200, body = ReloadView)))]
pub(super) async fn reload(State(admin): State<Admin>) -> Result<Json<ReloadView>, Problem> {
    let done = admin.ask(Command::Reload).await?;
    Ok(Json(ReloadView { changed: done.changed, restart: done.restart }))
}

/// Certificates in use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CertificatesView {
    certificates: u64,
}

/// Reads certificates, keys and the ticket secret again. On an error nothing has changed.
#[utoipa::path(post, path = "/certificates/reload", responses((status = 200, body = CertificatesView)))]
pub(super) async fn reload_certificates(
    State(admin): State<Admin>,
) -> Result<Json<CertificatesView>, Problem> {
    Ok(Json(CertificatesView { certificates: admin.ask(Command::ReloadCertificates).await? }))
}

/// How much is logged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LevelBody {
    /// error, warn, info, debug or trace.
    level: String,
}

const LEVELS: &[(&str, Level)] = &[
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

/// Sets how much is logged.
#[utoipa::path(put, path = "/log-level", request_body = LevelBody, responses((status = 204)))]
pub(super) async fn log_level(
    State(admin): State<Admin>,
    Body(body): Body<LevelBody>,
) -> Result<StatusCode, Problem> {
    let level = one_of("level", &body.level, LEVELS)?;
    (admin.hooks.log_level)(level).map_err(|text| Problem::plain(StatusCode::CONFLICT, text))?;
    Ok(StatusCode::NO_CONTENT)
}
