//! How a bcoin is started: node, the launcher in peers/, and the npm packages that ci/test puts into target/peers/bcoin.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::node::Options;

/// `node_modules` with bcoin in it: BCOIN_MODULES, or where ci/test installs it.
pub fn modules() -> PathBuf {
    match std::env::var_os("BCOIN_MODULES") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bcoin/node_modules"),
    }
}

pub fn command(dir: &Path, p2p: SocketAddr, rpc: SocketAddr, options: &Options) -> Command {
    let modules = modules();
    assert!(
        modules.join("bcoin").is_dir(),
        "bcoin is not installed in {}: run ci/test once, or ci/install-peers",
        modules.display()
    );
    let settings = json!({
        "dir": dir, "p2p": p2p.port(), "rpc": rpc.port(), "filters": options.filters, "bloom": options.mempool,
        "version": options.version,
    });
    let mut command = Command::new("node");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/peers/bcoin-node.js"))
        .arg(settings.to_string())
        .env("BCOIN_MODULES", modules)
        .current_dir(dir);
    command
}
