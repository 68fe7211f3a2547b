//! Who may come in, over what, and how many at a time.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use breakwater::control::admin::{Listen, Listeners};

use crate::http::{exchange, request, tcp, unix};
use crate::server::{Server, TOKEN, Tcp};

fn listen(path: &std::path::Path) -> Result<Listeners, String> {
    let listen = Listen { socket: Some(path.to_owned()), ..Listen::default() };
    Listeners::bind(&listen).map_err(|error| error.to_string())
}

#[test]
fn the_socket_is_the_users_own_and_goes_with_the_relay() {
    let mut server = Server::start(Tcp::No);
    let mode = std::fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let alive = listen(&server.socket).unwrap_err();
    assert!(alive.contains("`admin_socket`") && alive.contains("another relay answers there"), "{alive}");
    server.expect(200, "GET", "/info", None);
    let path = server.socket.clone();
    server.stop();
    assert!(!path.exists());
}

#[test]
fn what_a_killed_relay_has_left_is_replaced_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = listen(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(first);
    assert!(!path.exists());

    std::fs::write(&path, "somebody's").unwrap();
    let taken = listen(&path).unwrap_err();
    assert!(taken.contains("`admin_socket`") && taken.contains("a free path"), "{taken}");
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
    for path in [dir.path().join("no/folder"), dir.path().join("x".repeat(120))] {
        let error = listen(&path).unwrap_err();
        assert!(error.contains("`admin_socket`") && error.contains("at most 60 bytes"), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_folder_may_be_deeper_than_an_address_is_long() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("admin.sock");
    let first = listen(&path).unwrap();
    assert!(listen(&path).unwrap_err().contains("another relay answers there"));
    drop(first);
    assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
}

#[test]
fn tcp_from_elsewhere_is_not_listened_without_a_token() {
    let address = Some("0.0.0.0:0".parse().unwrap());
    let error = Listeners::bind(&Listen { address, ..Listen::default() }).unwrap_err().to_string();
    assert!(error.contains("`admin`") && error.contains("admin_token_file"), "{error}");
}

#[test]
fn over_tcp_the_token_is_asked_for() {
    let server = Server::start(Tcp::Token);
    let ask =
        |path: &str, more: &str| exchange(tcp(server.address.unwrap()), &request("GET", path, None, more));
    let wrong = [
        String::new(),
        "Authorization: Bearer\r\n".to_owned(),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {}\r\n", &TOKEN[1..]),
        "Authorization: Bearer \u{fe}\r\n".to_owned(),
    ];
    for more in &wrong {
        for path in ["/api/v1/info", "/api/v1/openapi.json", "/metrics", "/nothing"] {
            let answer = ask(path, more);
            assert_eq!(answer.status, 401, "{path} {more}: {}", answer.body);
            assert_eq!(answer.header("www-authenticate").as_deref(), Some("bearer"));
            assert!(answer.json()["error"]["message"].as_str().unwrap().contains("admin_token_file"));
        }
    }
    assert!(server.asked.lock().unwrap().is_empty());
    assert_eq!(ask("/api/v1/info", &format!("Authorization: Bearer {TOKEN}\r\n")).status, 200);
    assert_eq!(ask("/api/v1/info", &format!("Authorization: bearer {TOKEN}\r\n")).status, 200);
    assert_eq!((ask("/healthz", "").status, ask("/readyz", "").status), (200, 200));
    // The socket's mode has decided already.
    server.expect(200, "GET", "/info", None);
}

#[test]
fn pages_from_elsewhere_cannot_use_a_browser_on_this_host() {
    let server = Server::start(Tcp::Open);
    let at = server.address.unwrap();
    let ask = |host: &str, more: &str| {
        let text = format!(
            "POST /api/v1/reload HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}Content-Length: 0\r\n\r\n"
        );
        exchange(tcp(at), text.as_bytes()).status
    };
    // A name of theirs that leads here (DNS rebinding).
    for host in
        ["evil.example", "evil.example:9333", "127.0.0.1.evil.example", "10.0.0.1", "localhost@evil.example"]
    {
        assert_eq!(ask(host, ""), 403, "{host}");
    }
    // A form of theirs that is sent here.
    for origin in ["https://evil.example", "null", "http://evil.example", "http://localhost:1"] {
        assert_eq!(ask("localhost", &format!("Origin: {origin}\r\n")), 403, "{origin}");
    }
    assert!(server.asked.lock().unwrap().is_empty());
    for host in [at.to_string(), format!("LOCALHOST:{}", at.port()), "[::1]:80".into(), "127.8.9.1".into()] {
        assert_eq!(ask(&host, ""), 200, "{host}");
    }
    assert_eq!(ask(&at.to_string(), &format!("Origin: http://{at}\r\n")), 200);
}

#[test]
fn connections_are_bounded_and_idle_ones_give_way() {
    let server = Server::start(Tcp::No);
    let idle: Vec<_> = (0..64).map(|_| unix(&server.socket)).collect();
    let mut waiting = UnixStream::connect(&server.socket).unwrap();
    waiting.write_all(&request("GET", "/healthz", None, "")).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(waiting.read(&mut [0; 16]).is_err(), "one more than 64 is served");
    // Whoever says nothing is closed by us, and the next has its turn.
    waiting.set_read_timeout(Some(crate::support::wait::PATIENCE)).unwrap();
    let mut text = String::new();
    waiting.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    drop(idle);
}

#[test]
fn headers_without_end_are_refused() {
    let server = Server::start(Tcp::No);
    let many = format!("X-Long: {}\r\n", "x".repeat(20_000));
    assert_eq!(server.raw(&request("GET", "/healthz", None, &many)).status, 431);
    assert_eq!(server.raw(b"nonsense\r\n\r\n").status, 400);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(Tcp::No);
    let head = "POST /api/v1/clients/kick HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let answer = server
        .raw(format!("{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{").as_bytes());
    assert_eq!(answer.status, 408, "{}", answer.body);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("10 s"));
}

/// A browser can send no token with the address that is typed: the page is there without, and says nothing of the relay.
#[test]
fn the_page_needs_no_token_and_lets_nothing_in() {
    let server = Server::start(Tcp::Token);
    for (path, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let answer = exchange(tcp(server.address.unwrap()), &request("GET", path, None, ""));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.header("content-type").is_some_and(|said| said.starts_with(kind)), "{path}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !answer.body.contains("https://"), "{path}");
        assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
        let foreign = "Origin: http://evil.example\r\n";
        assert_eq!(exchange(tcp(server.address.unwrap()), &request("GET", path, None, foreign)).status, 403);
        assert_eq!(exchange(tcp(server.address.unwrap()), &request("POST", path, None, "")).status, 405);
    }
    assert_eq!(exchange(tcp(server.address.unwrap()), &request("GET", "/page.map", None, "")).status, 401);
    assert_eq!(server.asked.lock().unwrap().len(), 0, "the relay was not asked");
    assert_eq!(exchange(unix(&server.socket), &request("GET", "/", None, "")).status, 200);
}
