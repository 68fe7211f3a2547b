//! CPU per announcement and client: of the relay, of the bare send loop.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::command::median;
use crate::lines::Lines;
use crate::relay_process::RelayProcess;
use crate::rig::engine::Shared;
use crate::rig::node;
use crate::rig::run::Run;
use crate::rig::scenario::{Scenario, Transport};
use crate::{MAGIC, Outcome, crowd};

/// Longest wait for one announcement to reach everybody.
pub(in crate::command) const ANNOUNCE: Duration = Duration::from_secs(180);
/// Longest wait for all clients: a million TLS handshakes are 250 s of CPU, both ends.
pub(in crate::command) const CONNECT: Duration = Duration::from_secs(1_200);
/// After this, delayed acknowledgements (40 ms) are through.
const SETTLE: Duration = Duration::from_millis(200);

/// A stub node whose blocks and transactions are noted in `shared` when it begins to announce them.
pub(in crate::command) fn node(shared: &Arc<Shared>) -> Outcome<node::Fleet> {
    node_of(shared, node::Plan::default())
}

/// The same of another size.
pub(in crate::command) fn node_of(shared: &Arc<Shared>, plan: node::Plan) -> Outcome<node::Fleet> {
    let told = shared.clone();
    let observer = move |seen: &node::Announcement| {
        let at = told.at(seen.at);
        match seen.kind {
            node::Kind::Block(_) => {
                told.origins.block(&seen.hash, at);
            }
            // Clients that know BIP339 are told of the wtxid.
            node::Kind::Tx => {
                told.origins.tx(&seen.wtxid, at);
            }
        }
    };
    let plan = node::Plan { observer: Some(Arc::new(observer)), ..plan };
    Ok(node::Fleet::start(&plan)?)
}

/// Clients of the relay that only listen, all at once.
pub(in crate::command) fn listeners(
    relay: &RelayProcess,
    clients: u32,
    transport: Transport,
) -> Outcome<Scenario> {
    crowd::scenario(relay.address_for(transport), transport, relay.certificate(), clients, "idle")
}

/// Microseconds of the relay's CPU per announcement and client.
pub(super) fn relay(clients: u32, rounds: u32, transport: Transport, stop: &AtomicBool) -> Outcome<f64> {
    let shared = Shared::new(1, MAGIC);
    let node = node(&shared)?;
    let relay = RelayProcess::with_room(node.addresses()[0], clients, transport)?;
    let mut run = Run::start(listeners(&relay, clients, transport)?, shared, Some(relay.pid()))?;
    if !run.wait(CONNECT, stop, |_, _| {}, |run| run.levels().ready == u64::from(clients)) {
        return Err(format!("only {} of {clients} clients became ready", run.levels().ready).into());
    }
    let mut costs = Vec::new();
    for _ in 0..rounds {
        costs.push(announce(&mut run, &node, stop)?.0);
    }
    run.finish().1?;
    Ok(median(&mut costs))
}

/// One block to everybody: microseconds of the target's CPU per client, and seconds until the last has heard of it.
pub(super) fn announce(run: &mut Run, node: &node::Fleet, stop: &AtomicBool) -> Outcome<(f64, f64)> {
    let clients = run.levels().ready.max(1);
    let (before, start) = (run.target_use().cpu, Instant::now());
    let heard = run.sum().blocks_heard + clients;
    node.mine()?;
    if !run.wait(ANNOUNCE, stop, |_, _| {}, |run| run.sum().blocks_heard >= heard) {
        let missing = heard.saturating_sub(run.sum().blocks_heard);
        return Err(format!("{missing} of {clients} clients did not hear of a block").into());
    }
    let seconds = start.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let spent = run.target_use().cpu.saturating_sub(before);
    Ok((spent.as_secs_f64() * 1e6 / clients as f64, seconds))
}

fn mute(floor: SocketAddr, clients: u32) -> Outcome<Scenario> {
    crowd::scenario(floor, Transport::Plain, None, clients, "mute")
}

/// Microseconds of CPU of the bare send loop per announcement and client.
pub(super) fn floor(clients: u32, rounds: u32, stop: &AtomicBool) -> Outcome<f64> {
    let mut floor = FloorProcess::start(clients)?;
    let mut run = Run::start(mute(floor.address, clients)?, Shared::new(1, MAGIC), None)?;
    if !run.wait(CONNECT, stop, |_, _| {}, |run| run.levels().open == u64::from(clients)) {
        let refused = run.total().refused;
        return Err(
            format!("only {} of {clients} connected to the floor ({refused:?})", run.levels().open).into()
        );
    }
    floor.accepted(clients)?;
    let mut costs = Vec::new();
    for round in 1..=u64::from(rounds) {
        let spent = floor.send()?;
        let want = round * u64::from(clients);
        if !run.wait(ANNOUNCE, stop, |_, _| {}, |run| run.sum().messages_in >= want) {
            return Err("the floor's message did not reach everybody".into());
        }
        costs.push(spent.as_secs_f64() * 1e6 / f64::from(clients));
        std::thread::sleep(SETTLE);
    }
    run.finish().1?;
    Ok(median(&mut costs))
}

/// The floor, see `hold`; killed when dropped.
struct FloorProcess {
    child: Child,
    input: ChildStdin,
    output: Lines,
    address: SocketAddr,
}

impl FloorProcess {
    fn start(clients: u32) -> Outcome<FloorProcess> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["hold", "--clients", &clients.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the floor's process has no input or output".into());
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut floor = FloorProcess { child, input, output: Lines::of(output), address };
        floor.address = floor.answer("its start")?;
        Ok(floor)
    }

    /// Waits until it has accepted all connections.
    fn accepted(&mut self, clients: u32) -> Outcome {
        let start = Instant::now();
        while self.ask("count")? < u64::from(clients) {
            if start.elapsed() > ANNOUNCE {
                return Err("the floor did not accept everybody".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Sends a message to everybody; the CPU time it took.
    fn send(&mut self) -> Outcome<Duration> {
        Ok(Duration::from_nanos(self.ask("send")?))
    }

    fn ask(&mut self, what: &str) -> Outcome<u64> {
        writeln!(self.input, "{what}").map_err(|error| format!("the floor takes no {what}: {error}"))?;
        self.answer(what)
    }

    /// The next line it says, read; what goes wrong in it is on standard error, which is ours.
    fn answer<T: std::str::FromStr>(&self, what: &str) -> Outcome<T> {
        let line = self.output.next(ANNOUNCE).map_err(|error| format!("the floor, after {what}: {error}"))?;
        let line = line.ok_or_else(|| format!("the floor ended after {what}"))?;
        line.trim().parse().map_err(|_| format!("the floor said {line:?} after {what}").into())
    }
}

impl Drop for FloorProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
