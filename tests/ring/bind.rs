//! Listeners that come and go while the ring runs.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use breakwater::io::{Done, Kernel, ListenerId, Op};
use breakwater::ring::{RingConfig, reserve_now};

use super::rig::*;

impl Rig {
    fn bind(&mut self, listener: ListenerId, at: SocketAddr) -> Result<(), i32> {
        self.ring.push(Op::Bind { listener, at });
        self.expect("Bound", |done| match done {
            Done::Bound { listener: of, result } if *of == listener => Some(*result),
            _ => None,
        })
    }

    fn unbind(&mut self, listener: ListenerId) {
        self.ring.push(Op::Unbind(listener));
        self.expect("Unbound", |done| matches!(done, Done::Unbound(of) if *of == listener).then_some(()));
    }
}

fn refused(at: SocketAddr) -> bool {
    TcpStream::connect(at).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn a_listener_comes_goes_and_its_number_and_port_are_used_again() {
    let mut rig = Rig::local();
    let number = ListenerId(1);
    for round in 0..3 {
        let (at, held) = reserve_now(any_port()).unwrap();
        assert_eq!(rig.bind(number, at), Ok(()));
        assert_eq!(rig.bind(number, at), Err(libc::EBUSY), "a number is taken once");
        assert!(refused(at), "bound, and not open");
        rig.ring.push(Op::Listen(number));
        rig.look();
        let stream = TcpStream::connect(at).unwrap();
        let accepted = rig.expect("Accepted", |done| match done {
            Done::Accepted { listener, peer, .. } => Some((*listener, *peer)),
            _ => None,
        });
        assert_eq!(accepted, (number, stream.local_addr().unwrap()), "round {round}");
        drop(held);
        rig.unbind(number);
        assert!(refused(at));
        drop(TcpListener::bind(at).unwrap());
        // The other listener does not notice.
        rig.pair();
    }
    rig.unbind(number);
    rig.ring.push(Op::Listen(number));
    rig.expect("AcceptFailed", |done| {
        matches!(done, Done::AcceptFailed { listener: ListenerId(1), .. }).then_some(())
    });
}

#[test]
fn what_cannot_be_bound_is_said_and_takes_no_number() {
    let mut rig = Rig::local();
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(rig.bind(ListenerId(1), foreign.local_addr().unwrap()), Err(libc::EADDRINUSE));
    assert_eq!(rig.bind(ListenerId(2), "192.0.2.1:8333".parse().unwrap()), Err(libc::EADDRNOTAVAIL));
    assert_eq!(rig.bind(ListenerId(4), any_port()), Err(libc::EINVAL), "numbers have no gaps");
    for number in [ListenerId(2), ListenerId(1), ListenerId(3)] {
        assert_eq!(rig.bind(number, any_port()), Ok(()));
        rig.ring.push(Op::Listen(number));
    }
    rig.look();
    TcpStream::connect(rig.ring.local_addr(ListenerId(1)).unwrap()).unwrap();
    rig.accepted();
}

#[test]
fn a_listener_that_goes_reports_whom_it_has_accepted_and_nobody_later() {
    let mut rig = Rig::new(RingConfig { listeners: vec![any_port()], ..RingConfig::default() });
    let at = rig.addr();
    let _streams: Vec<_> = (0..200).map(|_| TcpStream::connect(at).unwrap()).collect();
    rig.unbind(LISTENER);
    assert!(refused(at));
    let before = rig.dones.len();
    assert_eq!(rig.bind(LISTENER, at), Ok(()), "the same address, the same number");
    rig.ring.push(Op::Listen(LISTENER));
    rig.run_for(Duration::from_millis(20));
    assert_eq!(rig.dones.len(), before, "nobody of the former");
    let stream = TcpStream::connect(at).unwrap();
    rig.dones.clear();
    assert_eq!(rig.accepted().2, stream.local_addr().unwrap());
}
