//! A client by the crate rustls, with its ordinary buffered API. Also what [`super::operator`] asks with: it says of each
//! connection whether it was resumed and which certificate it was shown.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use crate::support::client::Client;
use crate::support::wait::PATIENCE;

use super::life;
use super::papers::{Pair, Papers};
use super::scene::{SHARDS, Scene};

/// A configuration: its sessions remember their tickets for later ones.
#[derive(Clone)]
pub struct Native(Arc<ClientConfig>);

/// A connection. Its stream is copied by a thread, which ends with the client.
pub struct Connection {
    pub client: Client,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    facts: OnceLock<Result<Facts, String>>,
    /// KeyUpdates that have been asked for.
    updates: AtomicU32,
}

/// What a handshake came to.
#[derive(Clone, Debug)]
pub struct Facts {
    pub resumed: bool,
    /// The server's certificate, DER; of the session that was resumed, when there was one.
    pub certificate: Vec<u8>,
}

impl Native {
    /// One that trusts this authority and shows this certificate.
    pub fn new(papers: &Papers, own: Option<&Pair>) -> Native {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(papers.authority()).expect("PEM")).expect("authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = builder.with_root_certificates(roots);
        let mut config = match own {
            Some(own) => builder.with_client_auth_cert(chain(&own.chain), key(&own.key)).expect("pair"),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(64);
        Native(Arc::new(config))
    }

    /// A connection that has shaken hands by TLS; the client has said nothing yet.
    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> Connection {
        self.try_connect(address).unwrap_or_else(|e| panic!("no TLS handshake with {address}: {e}"))
    }

    pub fn try_connect(&self, address: SocketAddr) -> Result<Connection, String> {
        let name = ServerName::try_from("localhost").expect("name");
        let tls = ClientConnection::new(Arc::clone(&self.0), name).expect("configuration");
        let socket = TcpStream::connect(address).map_err(|e| e.to_string())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("port");
        let client = Client::open(listener.local_addr().expect("port"), None).expect("our own port");
        let (ours, _) = listener.accept().expect("our own client");
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            let end = copy(tls, socket, &ours, &theirs);
            let why = end.err().map_or("closed".to_string(), |e| e.to_string());
            let _ = theirs.facts.set(Err(why));
            let _ = ours.shutdown(Shutdown::Both);
        });
        match shared.facts.wait() {
            Ok(_) => Ok(Connection { client, shared }),
            Err(why) => Err(why.clone()),
        }
    }

    /// A connection that has lived to its first pong, so that its ticket is there; closed again.
    #[track_caller]
    pub fn visit(&self, address: SocketAddr) -> Facts {
        let mut connection = self.connect(address);
        life::greet(&mut connection.client);
        connection.client.ping();
        connection.facts()
    }
}

impl Connection {
    pub fn facts(&self) -> Facts {
        self.shared.facts.wait().clone().expect("connected")
    }

    /// A KeyUpdate that asks for one in return, sent with what is sent next.
    pub fn update_keys(&self) {
        self.shared.updates.fetch_add(1, Ordering::SeqCst);
    }
}

/// Both ways until one ends. TLS 1.3 closes each way by itself; here both end with the first.
fn copy(
    mut tls: ClientConnection,
    mut socket: TcpStream,
    mut client: &TcpStream,
    shared: &Shared,
) -> std::io::Result<()> {
    socket.set_nonblocking(true)?;
    client.set_nonblocking(true)?;
    let (mut buffer, started) = (vec![0; 64 * 1024], Instant::now());
    loop {
        let mut idle = true;
        if let Some(read) = ready(tls.read_tls(&mut socket))? {
            idle = false;
            let state = tls.process_new_packets().map_err(std::io::Error::other);
            // What was opened before the end is the client's still.
            while let Ok(count @ 1..) = tls.reader().read(&mut buffer) {
                write_all(client, &buffer[..count])?;
            }
            if state?.peer_has_closed() || read == 0 {
                flush(&mut tls, &mut socket)?;
                return Ok(());
            }
        }
        if !tls.is_handshaking() {
            shared.facts.get_or_init(|| Ok(facts(&tls)));
            if let Some(read) = ready(client.read(&mut buffer))? {
                idle = false;
                if read == 0 {
                    tls.send_close_notify();
                    return flush(&mut tls, &mut socket);
                }
                while shared.updates.load(Ordering::SeqCst) > 0 {
                    shared.updates.fetch_sub(1, Ordering::SeqCst);
                    tls.refresh_traffic_keys().map_err(std::io::Error::other)?;
                }
                tls.writer().write_all(&buffer[..read])?;
            }
        } else if started.elapsed() > PATIENCE {
            return Err(std::io::Error::other("the handshake takes too long"));
        }
        flush(&mut tls, &mut socket)?;
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn facts(tls: &ClientConnection) -> Facts {
    Facts {
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        certificate: tls.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec()).unwrap_or_default(),
    }
}

fn ready(result: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

fn flush(tls: &mut ClientConnection, socket: &mut TcpStream) -> std::io::Result<()> {
    while tls.wants_write() {
        if ready(tls.write_tls(socket))?.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn write_all(mut to: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match ready(to.write(bytes))? {
            Some(count) => bytes = &bytes[count..],
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(())
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_file_iter(path).expect("PEM");
    certificates.map(|c| c.expect("certificate")).collect()
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).expect("key")
}

/// Full, resumed, and with KeyUpdates both ways.
pub fn lives() {
    let scene = Scene::new();
    let native = Native::new(&scene.papers, None);
    for resumed in [false, true, true] {
        let mut connection = native.connect(scene.tls);
        life::whole(&mut connection.client, &scene.node);
        for _ in 0..3 {
            connection.update_keys();
            life::goes_on(&mut connection.client, &scene.node);
        }
        let facts = connection.facts();
        assert_eq!(facts.resumed, resumed);
        assert_eq!(facts.certificate, scene.certificate.certificate());
    }
}

/// A ticket of one shard is good on all.
pub fn resumes_across_shards() {
    let scene = Scene::new();
    let native = Native::new(&scene.papers, None);
    assert!(!native.visit(scene.tls).resumed);
    // The kernel chooses the shard: that all of so many come to the same is one in 2^39.
    for _ in 0..40 {
        assert!(native.visit(scene.tls).resumed);
    }
    for shard in 0..SHARDS {
        scene.wait_metric("breakwater_tls_resumed_total{", &format!("shard=\"{shard}\""), 1);
    }
    scene.wait_metric("breakwater_tls_resumed_total{", "", 40);
    assert_eq!(scene.metric("breakwater_tls_full_total{", ""), 1);
}
