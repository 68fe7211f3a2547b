//! How the relay is.

use axum::Json;
use axum::extract::State;

use super::view::InfoView;
use crate::control::admin::Admin;
use crate::control::admin::problem::Problem;
use crate::hub::command::Command;

/// How the relay is: chain, clients, slots, capacities.
#[utoipa::path(get, path = "/info", responses((status = 200, body = InfoView)))]
pub(super) async fn info(State(admin): State<Admin>) -> Result<Json<InfoView>, Problem> {
    let info = admin.ask(Command::Info).await?;
    Ok(Json(InfoView::new(info, admin.events.lagged())))
}
