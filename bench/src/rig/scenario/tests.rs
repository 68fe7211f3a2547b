//! Scenarios, good and bad.

#![allow(clippy::unwrap_used)] // A test may panic; that is how it fails.

use std::collections::HashSet;
use std::time::Duration;

use super::*;

fn local(clients: u64) -> Wish {
    Wish { targets: vec!["127.0.0.1:18444".into()], clients: Some(clients), ..Wish::default() }
}

fn error(text: &str) -> String {
    let made = file::wish(text).and_then(|wish| Scenario::new(local(10).lay(wish), false));
    made.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn each_error_names_its_key_and_value() {
    for (text, parts) in [
        ("clents = 5", &["`clents`", "did you mean `clients`"][..]),
        ("clients = \"many\"", &["`clients`", "many", "whole number"]),
        ("clients = 0", &["`clients`", "0", "1 to"]),
        ("ramp = \"fast\"", &["`ramp`", "fast", "N/s"]),
        ("ramp = \"0/s\"", &["`ramp`", "0/s"]),
        ("duration = \"long\"", &["`duration`", "long"]),
        ("network = \"main\"", &["`network`", "main", "regtest"]),
        ("transport = \"v3\"", &["`transport`", "v3", "plain, v2 or tls"]),
        ("transport = \"tls\"", &["`tls_ca`", "missing", "--tls-insecure"]),
        ("transport = \"tls\"\ntls_ca = \"a\"\ntls_insecure = true", &["`tls_ca`", "either"]),
        ("resume = 101", &["`resume`", "101", "0 to 100"]),
        ("targets = [\"quic://127.0.0.1:1\"]", &["`targets`", "quic://127.0.0.1:1", "v2 or tls"]),
        ("[[behaviour]]\nname = \"idle\"\ntransport = \"v3\"", &["`behaviour.transport`", "v3"]),
        (
            "targets = [\"v2://127.0.0.1:1\"]\n[[behaviour]]\nname = \"idle\"\ntransport = \"tls\"",
            &["`behaviour.transport`", "tls", "`targets`"],
        ),
        (
            "transport = \"v2\"\n[[behaviour]]\nname = \"attack-oversize\"",
            &["`behaviour`", "attack-oversize", "v2"],
        ),
        ("churn = 7", &["`churn`", "7"]),
        ("sources = \"127.0.0/8\"", &["`sources`", "127.0.0/8"]),
        ("sources = \"::1\"", &["`sources`", "same family"]),
        ("targets = [\"nowhere\"]", &["`targets`", "nowhere", "HOST:PORT"]),
        ("[[behaviour]]\nname = \"idel\"", &["`behaviour`", "idel", "idle"]),
        ("[[behaviour]]\nname = \"idle\"\nshares = 1", &["`behaviour.shares`", "`share`"]),
        ("[[behaviour]]\nname = \"idle\"\nshare = -1", &["`behaviour.share`", "-1"]),
        ("[[behaviour]]\nname = \"wallet\"\nnth = 0", &["`behaviour.nth`", "0", "from 1 to"]),
        ("[[behaviour]]\nname = \"wallet\"\nstart = -1", &["`behaviour.start`", "-1", "from 0 to"]),
        ("[[behaviour]]\nname = \"wallet\"\nwatch = \"51\"", &["`behaviour.watch`", "51", "a list of"]),
        ("[[behaviour]]\nname = \"wallet\"\nwatch = [\"5\"]", &["`behaviour.watch`", "hexadecimal"]),
        ("[[behaviour]]\nname = \"wallet\"\nwatch = [\"\"]", &["`behaviour.watch`", "hexadecimal"]),
        ("[[behaviour]]\nname = \"ibd\"\nonce = 1", &["`behaviour.once`", "1", "true or false"]),
        (
            "[[behaviour]]\nname = \"slow\"\nbytes = 4294967296",
            &["`behaviour.bytes`", "4294967296", "to 4294967295"],
        ),
        ("clients = ", &["line 1"]),
    ] {
        let said = error(text);
        assert!(!said.contains('\n'), "{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{text:?}: {said:?} lacks {part:?}"));
    }
}

#[test]
fn every_option_of_a_behaviour_has_a_key() {
    let text = "[[behaviour]]\nname = \"wallet\"\nevery = \"1.5s\"\nrate = 2.5\nbytes = 7\nnth = 4294967295\nstart = 100\n\
                watch = [\"51\", \"0014ab\"]\nonce = true";
    let behaviour::Options { every_us, rate, bytes, nth, start, watch, once } =
        file::wish(text).unwrap().parts.remove(0).options;
    assert_eq!((every_us, rate, bytes, nth, start, once), (1_500_000, 2.5, 7, u32::MAX, 100, true));
    assert_eq!(watch[..], [vec![0x51], vec![0x00, 0x14, 0xab]]);
}

#[test]
fn targets_of_others_are_refused() {
    let at = |target: &str| Wish { targets: vec![target.into()], ..local(10) };
    for harmless in ["127.9.9.9:1", "10.1.1.1:1", "192.168.0.9:1", "172.16.0.1:1", "[::1]:1", "[fd00::1]:1"] {
        assert!(Scenario::new(at(harmless), false).is_ok(), "{harmless}");
    }
    for foreign in ["8.8.8.8:8333", "172.32.0.1:1", "[2001:db8::1]:8333", "[::ffff:8.8.8.8]:1"] {
        let said = Scenario::new(at(foreign), false).err().unwrap().to_string();
        assert!(said.contains("--i-operate-this-target"), "{foreign}: {said}");
        assert!(Scenario::new(at(foreign), true).is_ok(), "{foreign}");
    }
}

#[test]
fn shares_are_exact_and_spread() {
    let mut wish = local(1_000);
    wish.parts = vec![part("idle=0.9").unwrap(), part("pinger=0.1").unwrap()];
    let scenario = Scenario::new(wish, false).unwrap();
    assert_eq!(scenario.counts, [900, 100]);
    let pingers = |numbers: std::ops::Range<u32>| numbers.filter(|n| scenario.part_of(*n) == 1).count();
    assert_eq!(pingers(0..1_000), 100);
    assert!((5..=15).contains(&pingers(0..100)), "{}", pingers(0..100));
}

#[test]
fn a_ramp_says_when() {
    assert_eq!(Ramp::parse("1000/s").unwrap().start_of(500), Duration::from_millis(500));
    assert_eq!(Ramp::parse("100@10s").unwrap().start_of(250), Duration::from_secs(20));
    assert_eq!(Ramp::parse("all").unwrap().start_of(250), Duration::ZERO);
}

#[test]
fn sources_are_the_addresses_of_the_range() {
    let mut wish = local(300);
    wish.sources = Some("127.0.1.0/24".into());
    let sources = Scenario::new(wish, false).unwrap().sources;
    let all: HashSet<_> = (0..300).filter_map(|n| sources.of(n)).collect();
    assert_eq!(all.len(), 254);
    assert!(!all.contains(&"127.0.1.0".parse().unwrap()) && !all.contains(&"127.0.1.255".parse().unwrap()));
    let mut wish = local(1_000_000);
    wish.sources = Some("127.0.1.7".into());
    assert!(Scenario::new(wish, false).err().unwrap().to_string().contains("ip_local_port_range"));
}

#[test]
fn each_part_goes_to_the_targets_of_its_transport() {
    let text = "targets = [\"127.0.0.1:1\", \"tls://127.0.0.1:2\"]\nclients = 9\ntls_insecure = true\n\
                [[behaviour]]\nname = \"idle\"\ntransport = \"plain\"\n[[behaviour]]\nname = \"idle\"\ntransport = \"v2\"\n\
                [[behaviour]]\nname = \"idle\"\ntransport = \"tls\"\n[[behaviour]]\nname = \"idle\"\n\
                [[behaviour]]\nname = \"tls-silent\"";
    let scenario = Scenario::new(file::wish(text).unwrap(), false).unwrap();
    let route = |part, number| {
        let route = scenario.route(part, number);
        (route.target.port(), route.transport)
    };
    assert_eq!([route(0, 0), route(0, 1)], [(1, Transport::Plain); 2]);
    assert_eq!([route(1, 0), route(1, 1)], [(1, Transport::V2); 2]);
    assert_eq!([route(2, 0), route(2, 1)], [(2, Transport::Tls); 2]);
    assert_eq!([route(3, 0), route(3, 1)], [(1, Transport::Plain), (2, Transport::Tls)]);
    assert_eq!([route(4, 0), route(4, 1)], [(2, Transport::Plain); 2], "below the transport, at its port");
    assert_eq!(scenario.transports(), "plain, v2, tls");
    assert_eq!(scenario.tls, Some(Tls { name: "127.0.0.1".into(), ca: None, resume: 1.0 }));
}
