//! Certificates: ours by name, clients' by CA, and what is said about wrong ones.

use std::path::PathBuf;

use super::support::*;
use crate::base::End;
use crate::transport::tls::*;

fn trusting(ca: &Ca, name: &str) -> Client {
    client(name, Trust::Roots(ca.pem()), None)
}

fn client(name: &str, trust: Trust, certificate: Option<Certificate>) -> Client {
    Client::new(&ClientSetup { name: name.into(), trust, alpn: false, certificate, tickets: 1 }).unwrap()
}

fn spki_hash(certificate: &Certificate) -> [u8; 32] {
    let chain = certificate.chain.certificates("").unwrap();
    let parsed = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parsed.subject_public_key_info());
    hash.as_ref().try_into().unwrap()
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let ca = Ca::new();
    let certificates = vec![ca.sign(&["first.example"]), ca.sign(&["second.example", "*.wild.example"])];
    let acceptor = Acceptor::new(&server(&Setup { certificates, ..Setup::default() }));
    for name in ["first.example", "second.example", "SECOND.example", "a.wild.example"] {
        connect(&acceptor, &trusting(&ca, name), false).unwrap_or_else(|_| panic!("{name}"));
    }
    // These get the first certificate, which is not for them; a wildcard is one label.
    for name in ["other.example", "a.b.wild.example", "wild.example", "127.0.0.1"] {
        let (server_end, _) = connect(&acceptor, &trusting(&ca, name), false).err().unwrap();
        assert_eq!(server_end, Some(End::TlsAlert), "{name}");
    }
    let stranger = trusting(&Ca::new(), "first.example");
    assert_eq!(connect(&acceptor, &stranger, false).err().unwrap().0, Some(End::TlsAlert));
}

#[test]
fn a_pinned_key_is_the_one_or_none() {
    let certificate = Ca::new().sign(&["x.example"]);
    let pin = spki_hash(&certificate);
    let acceptor = Acceptor::new(&server(&Setup { certificates: vec![certificate], ..Setup::default() }));
    assert!(connect(&acceptor, &client("other.example", Trust::Pinned(pin), None), false).is_ok());
    assert!(connect(&acceptor, &client("x.example", Trust::Pinned([0; 32]), None), false).is_err());
}

fn setup(client_auth: ClientAuth) -> Setup {
    Setup { client_auth, ..plain_setup() }
}

#[test]
fn clients_are_known_by_their_key_also_when_they_resume() {
    let ca = Ca::new();
    let own = ca.sign(&["client"]);
    let foreign = Ca::new().sign(&["client"]);
    let with = |certificate: &Certificate| {
        client("localhost", Trust::InsecureAnyCertificate, Some(certificate.clone()))
    };
    for (auth, needed) in [(ClientAuth::Optional(ca.pem()), false), (ClientAuth::Required(ca.pem()), true)] {
        let acceptor = Acceptor::new(&server(&setup(auth)));
        let known = with(&own);
        let full = connect(&acceptor, &known, true).unwrap();
        assert_eq!((full.server.is_resumed(), full.server.identity()), (false, Some(&spki_hash(&own))));
        let resumed = connect(&acceptor, &known, true).unwrap();
        assert_eq!((resumed.server.is_resumed(), resumed.server.identity()), (true, Some(&spki_hash(&own))));
        assert_eq!(
            connect(&acceptor, &with(&foreign), false).err(),
            Some((Some(End::TlsHandshake), Some(End::TlsAlert)))
        );
        match (connect(&acceptor, &any_client(0), false), needed) {
            (Ok(pair), false) => assert_eq!(pair.server.identity(), None),
            (Err(ends), true) => assert_eq!(ends, (Some(End::TlsHandshake), Some(End::TlsAlert))),
            (outcome, _) => panic!("{:?}", outcome.err()),
        }
    }
    let acceptor = Acceptor::new(&server(&setup(ClientAuth::Off)));
    assert_eq!(connect(&acceptor, &with(&own), false).unwrap().server.identity(), None);
}

#[test]
fn a_ticket_from_before_a_requirement_does_not_get_past_it() {
    let (ca, other) = (Ca::new(), Ca::new());
    let settings = [
        ClientAuth::Off,
        ClientAuth::Optional(ca.pem()),
        ClientAuth::Required(ca.pem()),
        ClientAuth::Required(other.pem()),
    ];
    let secret = Some(Pem::Text("11".repeat(32)));
    for (n, from) in settings.iter().enumerate() {
        for (m, to) in settings.iter().enumerate() {
            for ticket_secret in [None, secret.clone()] {
                let first = Setup { ticket_secret: ticket_secret.clone(), ..setup(from.clone()) };
                let second = Setup { ticket_secret, ..setup(to.clone()) };
                let before = server(&first);
                let after = Server::load(&second, Some(&before)).unwrap();
                let own = if n == 3 { other.sign(&["client"]) } else { ca.sign(&["client"]) };
                let client = client("localhost", Trust::InsecureAnyCertificate, Some(own));
                connect(&Acceptor::new(&before), &client, false).unwrap();
                let outcome = connect(&Acceptor::new(&after), &client, true);
                // The same authentication resumes, whatever the certificate; another one begins anew.
                match outcome {
                    Ok(pair) => assert_eq!(pair.server.is_resumed(), n == m),
                    Err(_) => assert!((n == 3) != (m == 3) && n != m && m != 0),
                }
            }
        }
    }
}

#[test]
fn an_expired_client_does_not_resume() {
    let ca = Ca::new();
    // 2090-01-01 less an hour.
    let clock = Clock::at(3_786_912_000 - 3_600);
    let setup = setup(ClientAuth::Required(ca.pem()));
    let server = Server::with_clock(&setup, None, clock.clone()).unwrap();
    let acceptor = Acceptor::new(&server);
    let client = client("localhost", Trust::InsecureAnyCertificate, Some(ca.sign_until(&["client"], 2090)));
    connect(&acceptor, &client, true).unwrap();
    assert!(connect(&acceptor, &client, true).unwrap().server.is_resumed());
    clock.add(2 * 3_600);
    assert_eq!(connect(&acceptor, &client, true).err(), Some((Some(End::TlsHandshake), Some(End::TlsAlert))));
}

#[test]
fn wrong_files_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path: PathBuf = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Pem::File(path)
    };
    let text = |pem: &Pem| match pem {
        Pem::Text(text) => text.clone(),
        Pem::File(_) => unreachable!(),
    };
    let good = Ca::new().sign(&["a"]);
    let chain = file("chain.pem", &text(&good.chain));
    let key = file("key.pem", &text(&good.key));
    let other_key = file("other.pem", &text(&Ca::new().sign(&["a"]).key));
    let missing = Pem::File(dir.path().join("missing.pem"));
    let empty = file("empty.pem", "");
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\nMIIB!!\n-----END CERTIFICATE-----\n");
    let nonsense = file("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let short = file("short.key", "0011");
    let base = Setup {
        certificates: vec![Certificate { chain: chain.clone(), key: key.clone() }],
        ..Setup::default()
    };
    assert!(Server::load(&base, None).is_ok());
    let pair = |chain: &Pem, key: &Pem| Setup {
        certificates: vec![Certificate { chain: chain.clone(), key: key.clone() }],
        ..Setup::default()
    };
    let cases = [
        (Setup::default(), "certificates", "at least one"),
        (pair(&missing, &key), "missing.pem", "expected a file"),
        (pair(&chain, &missing), "missing.pem", "expected a file"),
        (pair(&empty, &key), "empty.pem", "section CERTIFICATE"),
        (pair(&broken, &key), "broken.pem", "section CERTIFICATE"),
        (pair(&nonsense, &key), "nonsense.pem", "X.509"),
        (pair(&key, &key), "key.pem", "no certificate"),
        (pair(&chain, &chain), "chain.pem", "no private key"),
        (pair(&chain, &other_key), "other.pem", "is not the key of certificate"),
        (
            Setup { certificates: vec![base.certificates[0].clone(); 2], ..Setup::default() },
            "chain.pem",
            "a DNS name of its own",
        ),
        (Setup { ticket_secret: Some(short), ..base.clone() }, "short.key", "2 bytes; expected 32"),
        (Setup { client_auth: ClientAuth::Required(empty), ..base.clone() }, "empty.pem", "tls_client_ca"),
        (
            Setup { client_auth: ClientAuth::Optional(nonsense), ..base.clone() },
            "nonsense.pem",
            "tls_client_ca",
        ),
    ];
    for (setup, from, words) in cases {
        let said = Server::load(&setup, None).unwrap_err().to_string();
        assert!(said.contains(from) && said.contains(words), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }
    // What is logged says where, never what.
    let logged = format!("{:?}", Setup { ticket_secret: Some(Pem::Text("22".repeat(32))), ..base });
    assert!(!logged.contains("2222") && logged.contains("key.pem"), "{logged}");
}
