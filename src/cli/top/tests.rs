//! The model under keys and answers, and what it looks like at 80 by 24.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::data::{Page, Snapshot};
use super::filter::Filter;
use super::model::{Ask, Message, Mode, Model, Screen};
use super::{read, view};

/// A relay with two shards, after so many seconds of half its time asleep.
fn snapshot(seconds: f64, shards: usize) -> Box<Snapshot> {
    let shard = |n: usize| {
        let regimes = json!({"idle": seconds / 2.0, "kernel": seconds / 4.0, "handle": seconds / 4.0});
        let announcements = json!({"clients": 600, "p50": 0.0016, "p99": 0.32, "max": 0.5});
        json!({"shard": n, "clients": 600 + n, "bytes_in": (seconds * 1e4) as u64, "bytes_out": (seconds * 2e6) as u64,
               "regimes": regimes, "announcements": announcements})
    };
    let shards: Vec<Value> = (0..shards).map(shard).collect();
    let info = json!({
        "version": "0.1.0", "network": "regtest", "started": 1_700_000_000, "height": 150, "tip": "ab".repeat(32),
        "clients": 1201, "max_clients": 1_000_000, "ready": 1199, "tls": 300, "v2": 200, "sessions": 900,
        "probes": 301, "priority": 7, "mempool": 42, "per_shard": shards, "unknown": 1,
        "announcements": {"clients": 1200, "p50": 0.0016, "p99": 0.32, "max": 12.0},
    });
    let service = |id: u8, draining: bool| {
        json!({"id": id, "name": format!("service-{id}"), "listen": ["127.0.0.1:8333"], "tls": false, "draining": draining,
               "sessions": 900, "max_sessions": 1000, "probes": 301, "max_probes": 10000})
    };
    let node = json!([{"node": "127.0.0.1:8335", "up": true, "transport": "v2", "user_agent": "/Satoshi:29.0.0/", "losses": 1},
                      {"node": "192.0.2.1:8333", "up": false, "losses": 3}]);
    Box::new(Snapshot {
        info: read(info).unwrap(),
        services: read(json!([service(0, false), service(1, true)])).unwrap(),
        nodes: read(node).unwrap(),
    })
}

fn page(ids: std::ops::Range<u32>, next: Option<&str>) -> Page {
    let client = |n: u32| {
        json!({"id": format!("0-{n}-7"), "address": format!("192.0.2.{n}:50000"), "class": "free", "transport": "plain",
               "connected": 61.0 + f64::from(n), "bytes_in": 1000, "bytes_out": 1000 * ((n * 7) % 10), "round_trip": null,
               "user_agent": if n == 3 { "/Bitcoinj:1/" } else { "/other:2/" }, "capacity": 50})
    };
    read(json!({"clients": ids.map(client).collect::<Vec<_>>(), "next": next})).unwrap()
}

fn press(model: &mut Model, keys: &str) -> Vec<Ask> {
    let mut asks = Vec::new();
    for letter in keys.chars() {
        let code = match letter {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            'v' => KeyCode::Down,
            letter => KeyCode::Char(letter),
        };
        asks = model.update(Message::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
    asks
}

/// On the list, with a page in it.
fn listing() -> Model {
    let mut model = Model::new();
    model.update(Message::Snapshot(Ok(snapshot(10.0, 2))));
    let asks = press(&mut model, "\t");
    assert_eq!(asks, [Ask::Snapshot, Ask::Page(1, "/api/v1/clients?limit=1000".into())]);
    model.update(Message::Page(1, Ok(page(1..6, Some("0-5-7")))));
    model
}

fn lines(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(model, frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn shows(model: &Model, words: &str) -> bool {
    lines(model, 80, 24).iter().any(|line| line.contains(words))
}

#[test]
fn the_overview_fits_80_by_24() {
    let mut model = Model::new();
    assert!(shows(&model, "asking the relay"));
    model.update(Message::Snapshot(Ok(snapshot(10.0, 2))));
    model.update(Message::Snapshot(Ok(snapshot(12.0, 2))));
    let screen = lines(&model, 80, 24);
    let all = screen.join("\n");
    for words in [
        "0.1.0 regtest, up",
        &format!("tip 150 {}", "ab".repeat(32)),
        "1201 of 1000000, 1199 ready",
        "plain 701  v2 200  tls 300",
        "probe 301  free 893  priority 7",
        "announced to 1200: p50 1.6ms  p99 320ms  max 12s",
        "900/1000",
        "301/10000",
        "draining",
        "/Satoshi:29.0.0/",
        "IDL KER HDL LNK ANN SHK OPR TIM",
    ] {
        assert!(all.contains(words), "{words:?} is not in\n{all}");
    }
    let shard: Vec<&str> = screen
        .iter()
        .find(|line| line.starts_with("1 ") && line.contains('%'))
        .unwrap()
        .split_whitespace()
        .collect();
    let busy =
        ["1", "601", "50%", "10k", "2.0M", "1.6ms", "320ms", "50", "25", "25", "0", "0", "0", "0", "0"];
    assert_eq!(shard, busy);
    let down = screen.iter().find(|line| line.starts_with("192.0.2.1:8333")).unwrap();
    assert!(down.contains("down"), "{down}");
}

#[test]
fn more_than_fits_is_counted() {
    let mut model = Model::new();
    model.update(Message::Snapshot(Ok(snapshot(10.0, 64))));
    let screen = lines(&model, 80, 24);
    let shards = screen.iter().filter(|line| line.contains("1.6ms") && line.contains("320ms")).count();
    let more =
        screen.iter().find_map(|line| line.split("and ").nth(1)?.split(' ').next()?.parse::<usize>().ok());
    // The sum has the same figures.
    assert_eq!(Some(64 - (shards - 1)), more, "{screen:#?}");
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    let model = listing();
    for (width, height) in [(79, 24), (80, 23), (30, 5), (1, 1)] {
        let screen = lines(&model, width, height);
        assert!(width < 30 || screen[0].contains("too small"), "{screen:?}");
    }
    assert!(!lines(&model, 200, 60)[0].contains("too small"));
}

#[test]
fn a_relay_that_goes_away_is_said_and_asked_again() {
    let mut model = Model::new();
    assert_eq!(model.update(Message::Tick), [Ask::Snapshot]);
    assert_eq!(model.update(Message::Tick), [], "one question at a time");
    model.update(Message::Snapshot(Ok(snapshot(10.0, 2))));
    model.update(Message::Snapshot(Ok(snapshot(12.0, 2))));
    assert_eq!(model.rates.len(), 2);
    model.update(Message::Snapshot(Err("cannot reach it".into())));
    assert!(shows(&model, "no answer, trying again: cannot reach it") && shows(&model, "1201 of"));
    assert_eq!(model.update(Message::Tick), [Ask::Snapshot]);
    let mut other = snapshot(1.0, 2);
    other.info.started += 100;
    model.update(Message::Snapshot(Ok(other)));
    assert!(!shows(&model, "no answer"));
    assert!(model.rates.is_empty(), "another relay's totals are no difference");
}

#[test]
fn the_list_is_ordered_filtered_and_paged() {
    let mut model = listing();
    assert!(shows(&model, "all: page 1, 5 clients, n: more; by id"));
    assert!(shows(&model, "192.0.2.1:50000") && shows(&model, "/Bitcoinj:1/") && shows(&model, "1m02s"));
    let ids = |model: &Model| model.rows().iter().map(|client| client.id.clone()).collect::<Vec<_>>();
    press(&mut model, "vv");
    assert_eq!(model.chosen.as_deref(), Some("0-3-7"));
    press(&mut model, "ssss");
    assert_eq!(ids(&model), ["0-4-7", "0-1-7", "0-5-7", "0-2-7", "0-3-7"], "by what was sent to them");
    assert_eq!(model.chosen.as_deref(), Some("0-3-7"), "the same one, elsewhere");
    press(&mut model, "r");
    assert_eq!(ids(&model)[0], "0-3-7");

    let asks = press(&mut model, "n");
    assert_eq!(asks, [Ask::Page(2, "/api/v1/clients?limit=1000&after=0-5-7".into())]);
    // What comes late is another page.
    model.update(Message::Page(1, Ok(page(100..200, None))));
    assert_eq!(model.clients.len(), 5);
    model.update(Message::Page(2, Ok(page(6..9, None))));
    assert_eq!((model.page_number(), ids(&model).len()), (2, 3));
    assert_eq!(press(&mut model, "n"), [], "there is no more");
    assert_eq!(press(&mut model, "p"), [Ask::Page(3, "/api/v1/clients?limit=1000".into())]);
    model.update(Message::Page(3, Ok(page(1..6, None))));

    let asks = press(&mut model, "/class:free 192.0.2.0/24 bitcoinJ\n");
    assert_eq!(asks, [Ask::Page(4, "/api/v1/clients?class=free&network=192.0.2.0%2F24&limit=1000".into())]);
    model.update(Message::Page(4, Ok(page(1..6, None))));
    assert_eq!(ids(&model), ["0-3-7"]);
    assert!(shows(&model, "filter class:free 192.0.2.0/24 bitcoinJ: page 1, 1 clients"));
    assert_eq!(press(&mut model, "\x1b"), [Ask::Page(5, "/api/v1/clients?limit=1000".into())]);
    press(&mut model, "/colour:red\n");
    assert!(shows(&model, "colour: is unknown, expected one of class, transport, service, tag"));
    assert!(matches!(model.mode, Mode::Line(..)), "the line stays");
    assert!(Filter::read("class:free class:probe").is_err());
}

#[test]
fn nothing_is_done_before_it_is_confirmed() {
    let cases = [
        ("k", "Kick 0-2-7 (192.0.2.2:50000)?", "/clients/kick", json!({"ids": ["0-2-7"]})),
        (
            "b\n",
            "Ban 192.0.2.2 for 24h?",
            "/bans",
            json!({"network": "192.0.2.2", "seconds": 86_400, "reason": ""}),
        ),
        (
            "b\x08\x08\x08 5m it floods\n",
            "Ban 192.0.2.2 for 5m?",
            "/bans",
            json!({"network": "192.0.2.2", "seconds": 300, "reason": "it floods"}),
        ),
        (
            "t2MB none\n",
            "Throttle 0-2-7 (192.0.2.2:50000) to 2MB down, none up?",
            "/clients/throttle",
            json!({"ids": ["0-2-7"], "down": 2_000_000, "up": null}),
        ),
        (
            "c0\n",
            "Give 0-2-7 (192.0.2.2:50000) a capacity of 500?",
            "/clients/set",
            json!({"ids": ["0-2-7"], "capacity": 500}),
        ),
    ];
    for (keys, question, path, body) in cases {
        let mut model = listing();
        press(&mut model, "v");
        assert_eq!(press(&mut model, keys), [], "{keys}");
        assert!(shows(&model, question), "{keys}: {:#?}", lines(&model, 80, 24));
        assert_eq!(press(&mut model, "xq\n"), [], "only y does it");
        assert!(!model.quits);
        assert_eq!(press(&mut model, "n"), []);
        assert!(shows(&model, "nothing was done"), "{keys}");
        press(&mut model, keys);
        let path = format!("/api/v1{path}");
        assert_eq!(press(&mut model, "y"), [Ask::Do { method: "POST", path, body }], "{keys}");
        assert_eq!(press(&mut model, "y"), [], "once");
        model.update(Message::Done(Ok(Some(1))));
        assert!(shows(&model, "done: 1 client"));
        model.update(Message::Done(Err("ids: 0-2-7 is unknown".into())));
        assert!(shows(&model, "ids: 0-2-7 is unknown"));
    }
}

#[test]
fn lines_that_cannot_be_read_stay_with_the_reason() {
    for (keys, reason) in [
        ("b\x1bb\x08\x08\x080s\n", "TIME is 0s"),
        ("b/99\n", "TIME is 24h/99"),
        ("t\n", "expected DOWN UP"),
        ("t1 fast\n", "UP is fast, expected bytes a second"),
        ("c\x08\x08-1\n", "expected a number from 1"),
        ("c\x08\x080\n", "expected a number from 1"),
    ] {
        let mut model = listing();
        assert_eq!(press(&mut model, keys), []);
        assert!(
            matches!(model.mode, Mode::Line(..)) && shows(&model, reason),
            "{keys}: {:#?}",
            lines(&model, 80, 24)
        );
        assert_eq!(press(&mut model, "\x1b"), []);
        assert_eq!(model.mode, Mode::Browse);
    }
    let mut model = listing();
    model.update(Message::Page(1, Ok(Page::default())));
    model.chosen = None;
    press(&mut model, "k");
    assert!(shows(&model, "no client is chosen") && model.mode == Mode::Browse);
}

#[test]
fn help_covers_the_screen_and_q_ends() {
    let mut model = listing();
    press(&mut model, "?");
    assert!(shows(&model, "any key goes back"));
    press(&mut model, "q");
    assert!(!model.quits && model.mode == Mode::Browse);
    press(&mut model, "\t");
    assert_eq!(model.screen, Screen::Overview);
    press(&mut model, "k");
    assert_eq!(model.mode, Mode::Browse, "there is nobody to kick here");
    press(&mut model, "q");
    assert!(model.quits);
    let mut model = listing();
    model.update(Message::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(model.quits);
}
