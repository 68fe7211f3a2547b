//! The rig is a loud tool: it loads hosts of the user's own, and nobody else's.

use std::net::{IpAddr, SocketAddr};

use super::ScenarioError;

/// Refuses targets outside loopback and private ranges, and attackers outside loopback, unless the user operates them.
pub(super) fn check(
    targets: &[SocketAddr],
    operated: bool,
    attack: Option<&'static str>,
) -> Result<(), ScenarioError> {
    if operated {
        return Ok(());
    }
    for target in targets {
        if !is_harmless(target.ip()) {
            return Err(ScenarioError::Refused(format!(
                "target {target} is neither loopback nor private: the rig loads hosts until they break; if you operate this \
                 one, say --i-operate-this-target"
            )));
        }
        if let Some(name) = attack
            && !target.ip().is_loopback()
        {
            return Err(ScenarioError::Refused(format!(
                "behaviour `{name}` attacks, and target {target} is not loopback: if you operate it, say \
                 --i-operate-this-target"
            )));
        }
    }
    Ok(())
}

/// True exactly when an address is loopback, private (RFC 1918, RFC 4193) or link-local (RFC 3927, RFC 4291).
pub fn is_harmless(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
