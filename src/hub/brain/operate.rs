//! What an operator sees and changes of the nodes while the hub runs.

use super::nodes::Node;
use super::{Hub, NodeAddr};
use crate::hub::command::{NodeInfo, Refusal};
use crate::hub::session::{Break, LinkKind};

/// Most nodes.
const MOST_NODES: usize = 64;

impl Hub {
    /// The nodes behind, in the order they were named.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let info = |node: &Node| {
            let link = node.line(LinkKind::Main).link.and_then(|id| self.nodes.links.get(&id));
            let v2 = link.is_some_and(|link| link.v2.is_some());
            let peer = node.peer.as_ref();
            NodeInfo {
                node: node.addr.to_string(),
                up: node.is_up(),
                transport: peer.map(|_| if v2 { "v2" } else { "v1" }),
                user_agent: peer.map(|peer| peer.user_agent.clone()),
                losses: node.losses,
                height: peer.map(|peer| u32::try_from(peer.start_height).unwrap_or(0)),
            }
        };
        self.nodes.list.iter().filter(|node| !node.removed).map(info).collect()
    }

    /// Another node, connected to at once.
    ///
    /// # Errors
    /// It is no node's name, it is there already, or there are too many.
    pub fn add_node(&mut self, addr: NodeAddr) -> Result<(), Refusal> {
        if !addr.is_valid() {
            let expected = "HOST:PORT, v1:HOST:PORT or v2:HOST:PORT".to_string();
            return Err(Refusal::Value { field: "node", value: addr.0, expected });
        }
        let same = |node: &&mut Node| node.addr.host_port() == addr.host_port();
        if let Some(node) = self.nodes.list.iter_mut().find(same) {
            if !node.removed {
                return Err(Refusal::Conflict(format!("node {} is there already", node.addr)));
            }
            *node = Node::new(addr);
        } else if self.nodes.list.len() >= MOST_NODES {
            return Err(Refusal::Conflict(format!("there are {MOST_NODES} nodes, removed ones counted")));
        } else {
            self.nodes.list.push(Node::new(addr));
        }
        let now = self.now;
        self.wake_at(now);
        Ok(())
    }

    /// One node less: its links close, what was asked of it is asked elsewhere.
    ///
    /// # Errors
    /// There is no such node, or it is the last one.
    pub fn remove_node(&mut self, name: &str) -> Result<(), Refusal> {
        let here = |node: &Node| !node.removed && (node.addr.0 == name || node.addr.host_port() == name);
        let Some(index) = self.nodes.list.iter().position(here) else {
            return Err(Refusal::Unknown { field: "node", value: name.to_string() });
        };
        if self.nodes.list.iter().filter(|node| !node.removed).count() == 1 {
            return Err(Refusal::Conflict("it is the only node; add another one first".to_string()));
        }
        if let Some(node) = self.nodes.list.get_mut(index) {
            node.removed = true;
        }
        let links: Vec<_> =
            self.nodes.links.iter().filter(|(_, link)| link.node == index).map(|(id, _)| *id).collect();
        for id in links {
            self.drop_link(id, &Break::Removed);
        }
        Ok(())
    }
}
