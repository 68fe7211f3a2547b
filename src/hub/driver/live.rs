//! What changes while the relay runs and needs the host: listening addresses, configuration, certificates.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::Driver;
use crate::base::ServiceId;
use crate::hub::command::{Refusal, Reloaded, Reply, Service};
use crate::link::monotonic;

/// What the driver asks of the host it runs on. Called on the hub's thread; must not block for long.
pub trait Live {
    /// Takes an address for the process: what keeps it, and the address with its port.
    ///
    /// # Errors
    /// What the kernel says.
    fn reserve(&mut self, at: SocketAddr) -> io::Result<(SocketAddr, OwnedFd)>;

    /// True exactly when TLS can be spoken.
    fn has_tls(&self) -> bool;

    /// Reads the configuration again.
    fn reload(&mut self, reply: Reply<Reloaded>);

    /// Reads the certificates again.
    fn reload_certificates(&mut self, reply: Reply<u64>);
}

impl Driver<'_> {
    /// Another service: its addresses are taken first, then the shards are asked.
    pub(super) fn add_service(&mut self, mut service: Service, reply: Reply<ServiceId>) {
        if let Err(refusal) = self.desk.check_new(&service, self.live.has_tls()) {
            return drop(reply.send(Err(refusal)));
        }
        let mut reserved = Vec::new();
        for at in &mut service.listen {
            match self.live.reserve(*at) {
                Ok((resolved, fd)) => {
                    *at = resolved;
                    reserved.push(fd);
                }
                Err(error) => {
                    let expected = format!("an address that can be listened on: {error}");
                    let refusal = Refusal::Value { field: "listen", value: at.to_string(), expected };
                    return drop(reply.send(Err(refusal)));
                }
            }
        }
        self.desk.add_service(monotonic(), service, reserved, reply);
    }
}
