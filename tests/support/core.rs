//! How a Bitcoin Core is started. Its binary is not part of this project: BITCOIND names it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::node::Options;
use super::ports;

/// The bitcoind to test against, if there is one.
pub fn bitcoind() -> Option<PathBuf> {
    std::env::var_os("BITCOIND").filter(|path| !path.is_empty()).map(PathBuf::from)
}

pub fn command(dir: &Path, p2p: SocketAddr, rpc: SocketAddr, options: &Options) -> Command {
    let mut command = Command::new(bitcoind().expect("BITCOIND is not set"));
    let permissions =
        if options.mempool { "noban,relay,mempool,download,addr" } else { "noban,relay,download,addr" };
    command
        .arg("-regtest")
        .arg(format!("-datadir={}", dir.display()))
        .arg("-server=1")
        .arg(format!("-rpcbind={rpc}"))
        .arg("-rpcallowip=127.0.0.1")
        .args(["-rpcuser=test", "-rpcpassword=test"])
        // Unless told another place, it binds port + 1 for Tor as well.
        .arg(format!("-bind={}=onion", ports::free()))
        .arg(format!("-whitebind={permissions}@{p2p}"))
        .args(["-listenonion=0", "-discover=0", "-dnsseed=0", "-fixedseeds=0", "-natpmp=0"])
        .args(["-dbcache=16", "-par=1", "-printtoconsole=1", "-nodebuglogfile", "-debug=net"])
        .arg(format!("-blockfilterindex={}", u8::from(options.filters)))
        .arg(format!("-peerblockfilters={}", u8::from(options.filters)));
    for peer in &options.connect {
        command.arg(format!("-connect={peer}"));
    }
    command
}
