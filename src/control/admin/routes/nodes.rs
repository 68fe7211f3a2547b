//! The full nodes behind.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::admin::Admin;
use crate::control::admin::extract::{Body, Named};
use crate::control::admin::problem::Problem;
use crate::control::config::is_node;
use crate::hub::command::{Command, NodeInfo};

const NODE: &str = "HOST:PORT, v1:HOST:PORT or v2:HOST:PORT";
/// Longest name: that of a host (253 bytes), with all around it.
const NODE_BYTES: usize = 300;

/// A node to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeBody {
    /// HOST:PORT, v1:HOST:PORT or v2:HOST:PORT.
    node: String,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
struct NodeView {
    node: String,
    /// Whether its main link is up.
    up: bool,
    /// v1 or v2.
    transport: Option<&'static str>,
    user_agent: Option<String>,
    /// Its height when it connected.
    height: Option<u32>,
    /// How often the main link was lost.
    losses: u64,
}

/// The nodes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodesView {
    nodes: Vec<NodeView>,
}

/// Every node, and whether it is there.
#[utoipa::path(get, path = "/nodes", responses((status = 200, body = NodesView)))]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<NodesView>, Problem> {
    let view = |NodeInfo { node, up, transport, user_agent, height, losses }| NodeView {
        node,
        up,
        transport,
        user_agent,
        height,
        losses,
    };
    let nodes = admin.ask(Command::Nodes).await?;
    Ok(Json(NodesView { nodes: nodes.into_iter().map(view).collect() }))
}

/// Another node.
#[utoipa::path(post, path = "/nodes", request_body = NodeBody, responses((status = 204)))]
pub(super) async fn add(
    State(admin): State<Admin>,
    Body(body): Body<NodeBody>,
) -> Result<StatusCode, Problem> {
    let node = node(body.node)?;
    admin.ask(|reply| Command::AddNode { node, reply }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One node less; the last one stays.
#[utoipa::path(
    delete,
    path = "/nodes/{node}",
    params(("node" = String, Path, description = "As it was named")),
    responses((status = 204))
)]
pub(super) async fn remove(State(admin): State<Admin>, Named(text): Named) -> Result<StatusCode, Problem> {
    let node = node(text)?;
    admin.ask(|reply| Command::RemoveNode { node, reply }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn node(text: String) -> Result<String, Problem> {
    match text.len() <= NODE_BYTES && !text.contains(char::is_control) && is_node(&text) {
        true => Ok(text),
        false => Err(Problem::value("node", text, NODE)),
    }
}
