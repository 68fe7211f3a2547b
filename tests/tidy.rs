//! The house rules a machine can check: the map in `src/lib.rs`, import directions, bans, dead files, file sizes.
//!
//! Every failure names file and line, and what to do. The tables of exceptions are here, each with its reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a source file: beyond, a concept is missing its name.
const MAX_LINES: usize = 600;

/// Where `unsafe` may stand, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("src/ring/", "io_uring shares memory with the kernel"),
    ("src/link/", "the doorbell's eventfd"),
    ("src/hub/store/disk.rs", "memory-mapped files"),
    ("src/main.rs", "allocator set-up"),
    ("src/transport/v2/stream.rs", "aws-lc's primitives: its AEAD cannot be fed in parts"),
];

/// Rooms that speak to no kernel and therefore carry `#![forbid(unsafe_code)]`.
const SANS_IO: &[&str] = &["admission", "client", "feed", "stub", "wire"];

/// A word that must not appear, where, and what to use instead.
struct Ban {
    word: &'static str,
    /// True exactly when the ban holds in this file (path from the root).
    holds: fn(&str) -> bool,
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        word: "std::time::Instant",
        holds: below_ring_and_hub,
        instead: "take a base::Instant as argument",
    },
    Ban { word: "Instant::now()", holds: below_ring_and_hub, instead: "take a base::Instant as argument" },
    Ban { word: "SystemTime", holds: below_ring_and_hub, instead: "take a base::UnixTime as argument" },
    Ban { word: "thread_rng", holds: below_ring_and_hub, instead: "take a seed or an Rng as argument" },
    Ban { word: "rand::rng()", holds: below_ring_and_hub, instead: "take a seed or an Rng as argument" },
    Ban { word: "println!", holds: outside_cli, instead: "tracing, or a value returned to cli" },
    Ban { word: "eprintln!", holds: outside_cli, instead: "tracing, or an error returned to cli" },
    Ban {
        word: "unbounded_channel",
        holds: everywhere,
        instead: "a bounded channel, and say what happens when full",
    },
    Ban { word: "mpsc::channel()", holds: everywhere, instead: "mpsc::sync_channel with a bound" },
    Ban {
        word: ".lock()",
        holds: client_path,
        instead: "an entry over the link: no lock on the client path",
    },
    Ban { word: "Mutex<", holds: client_path, instead: "an entry over the link: no lock on the client path" },
    Ban { word: "thread::sleep", holds: below_ring_and_hub, instead: "return the instant when work is due" },
    Ban {
        word: "#[cfg(feature",
        holds: everywhere,
        instead: "a value in the configuration: there are no features",
    },
];

fn room(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// A file that holds a room's tests.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn everywhere(_: &str) -> bool {
    true
}

fn below_ring_and_hub(path: &str) -> bool {
    let sans_io_hub = ["brain", "session", "store", "chain", "mempool", "compact", "submissions", "outbox"];
    match room(path) {
        "ring" | "control" | "cli" | "main" | "stub_host" => false,
        "hub" => sans_io_hub.iter().any(|part| path.starts_with(&format!("src/hub/{part}"))),
        _ => true,
    }
}

fn outside_cli(path: &str) -> bool {
    !["cli", "main"].contains(&room(path))
}

fn client_path(path: &str) -> bool {
    ["shard", "client", "feed", "wire", "admission"].contains(&room(path))
}

struct Source {
    path: String,
    /// The lines as they are.
    text: String,
    /// The lines of product code: comments blanked, tests at the end cut off.
    code: Vec<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        match path.is_dir() {
            true if path.file_name().is_some_and(|name| name != "target" && name != "node_modules") => {
                files_below(&path, found);
            }
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            _ => {}
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    files_below(&root().join(folder), &mut paths);
    assert!(!paths.is_empty() || folder != "src", "no sources below {folder}");
    // A crate of its own, with its own rules.
    paths.retain(|path| !path.starts_with(root().join("tests/fuzz")));
    paths.iter().map(|path| load(path)).collect()
}

fn load(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap();
    // A `mod tests {` at the end is no product code; `mod tests;` at the top is followed by some.
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'));
    let product = &lines[..tests.unwrap_or(lines.len())];
    let code = product.iter().map(|line| without_strings(line.split("//").next().unwrap_or(""))).collect();
    let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    Source { path, text, code }
}

/// The line with the contents of string literals blanked, so that words in messages are not taken for code.
fn without_strings(line: &str) -> String {
    let (mut out, mut inside, mut escaped) = (String::new(), false, false);
    for c in line.chars() {
        let quote = c == '"' && !escaped;
        if quote {
            inside = !inside;
        }
        out.push(if inside && !quote { ' ' } else { c });
        escaped = c == '\\' && !escaped;
    }
    out
}

fn check(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The lines of a ```text block of lib.rs's header that follows the line beginning with `title`.
fn block(title: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let lines = text.lines().map(|line| line.trim_start_matches("//!").trim_end().to_owned());
    let mut lines = lines.skip_while(|line| !line.trim_start().starts_with(title));
    let inside = lines.by_ref().skip_while(|line| line.trim() != "```text").skip(1);
    let found: Vec<String> = inside.take_while(|line| line.trim() != "```").collect();
    assert!(!found.is_empty(), "src/lib.rs: no ```text block after \"{title}\"");
    found
}

fn rooms_in_map() -> BTreeSet<String> {
    let first = |line: &String| line.split_whitespace().next().unwrap_or("").to_owned();
    block("# Breakwater").iter().map(first).collect()
}

/// For each room the rooms it may import: lib.rs's drawing, closed transitively.
fn directions() -> BTreeMap<String, BTreeSet<String>> {
    let rooms = rooms_in_map();
    let mut allowed: BTreeMap<String, BTreeSet<String>> =
        rooms.iter().map(|room| (room.clone(), BTreeSet::new())).collect();
    for line in block("## Directions") {
        let steps: Vec<Vec<String>> = line
            .split("<-")
            .map(|step| step.split(',').map(|room| room.trim().to_owned()).collect())
            .collect();
        for pair in steps.windows(2) {
            for upper in &pair[1] {
                let above = ["control", "cli"];
                for lower in &pair[0] {
                    let entry = allowed.get_mut(upper).unwrap_or_else(|| {
                        panic!("src/lib.rs: the drawing names \"{upper}\", which is not in the map")
                    });
                    match lower.as_str() {
                        "everything" => {
                            entry.extend(rooms.iter().filter(|r| !above.contains(&r.as_str())).cloned())
                        }
                        _ => assert!(
                            rooms.contains(lower) && entry.insert(lower.clone()) | true,
                            "src/lib.rs: the drawing names \"{lower}\", which is not in the map"
                        ),
                    }
                }
            }
        }
    }
    loop {
        let before = allowed.clone();
        for reach in allowed.values_mut() {
            let more: Vec<String> = reach.iter().flat_map(|room| before[room].iter().cloned()).collect();
            reach.extend(more);
        }
        if allowed == before {
            return allowed;
        }
    }
}

#[test]
fn the_map_is_complete_and_true() {
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !["lib.rs", "main.rs"].contains(&name.as_str()) {
            there.insert(name.trim_end_matches(".rs").to_owned());
        }
    }
    let map = rooms_in_map();
    let mut complaints: Vec<String> = there
        .difference(&map)
        .map(|r| format!("src/lib.rs:7: the map lacks the room \"{r}\": add its line"))
        .collect();
    complaints.extend(map.difference(&there).map(|r| {
        format!("src/lib.rs:7: the map names the room \"{r}\", which does not exist: remove its line")
    }));
    check(complaints);
}

#[test]
fn the_drawing_has_no_circle() {
    let circles = directions().into_iter().filter(|(room, reach)| reach.contains(room));
    check(
        circles.map(|(room, _)| format!("src/lib.rs: \"{room}\" imports itself by way of others")).collect(),
    );
}

/// Rooms named by `crate::room` in a line, `crate::{a, b}` included.
fn imports(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split(['}', ';']).next().unwrap_or("").split(',').collect(),
            None => vec![rest],
        };
        let name =
            |s: &str| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        found.extend(names.into_iter().map(name).filter(|n| !n.is_empty()));
    }
    found
}

#[test]
fn imports_go_only_in_the_directions_drawn() {
    let (allowed, mut complaints) = (directions(), Vec::new());
    for source in sources("src") {
        let here = room(&source.path).to_owned();
        let Some(reach) = allowed.get(&here) else { continue };
        for (number, line) in source.code.iter().enumerate() {
            for target in imports(line) {
                if target != here && allowed.contains_key(&target) && !reach.contains(&target) {
                    complaints.push(format!(
                        "{}:{}: {here} imports {target}, which the drawing in src/lib.rs does not allow: move the code, or \
                         pass a value",
                        source.path,
                        number + 1
                    ));
                }
            }
        }
    }
    check(complaints);
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        if UNSAFE.iter().any(|(place, _)| source.path.starts_with(place)) {
            continue;
        }
        for (number, line) in source.code.iter().enumerate() {
            let unsafe_word =
                line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
            if unsafe_word || line.contains("allow(unsafe_code)") {
                complaints.push(format!(
                    "{}:{}: `unsafe` outside the places listed in tests/tidy.rs: find a safe way, or move it to ring",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    check(complaints);
}

#[test]
fn every_unsafe_block_says_why_it_is_safe() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, code) in source.code.iter().enumerate() {
            if code.contains("unsafe {") || code.contains("unsafe impl") {
                let above = &lines[number.saturating_sub(8)..=number];
                if !above.iter().any(|line| line.contains("SAFETY:")) {
                    complaints.push(format!(
                        "{}:{}: write // SAFETY: above this block",
                        source.path,
                        number + 1
                    ));
                }
            }
        }
    }
    check(complaints);
}

#[test]
fn sans_io_rooms_forbid_unsafe() {
    let missing = SANS_IO.iter().filter(|room| {
        let text = fs::read_to_string(root().join(format!("src/{room}/mod.rs"))).unwrap_or_default();
        // A room that is still one line has nothing to forbid.
        text.lines().count() > 1 && !text.contains("#![forbid(unsafe_code)]")
    });
    check(missing.map(|room| format!("src/{room}/mod.rs:1: add #![forbid(unsafe_code)]")).collect());
}

#[test]
fn banned_words_are_absent() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        if is_test(&source.path) {
            continue;
        }
        for ban in BANS.iter().filter(|ban| (ban.holds)(&source.path)) {
            for (number, line) in source.code.iter().enumerate() {
                // "eprintln!" contains "println!": one complaint is enough.
                if line.contains(ban.word) && !(ban.word == "println!" && line.contains("eprintln!")) {
                    complaints.push(format!(
                        "{}:{}: `{}` is banned here; instead: {}",
                        source.path,
                        number + 1,
                        ban.word,
                        ban.instead
                    ));
                }
            }
        }
    }
    check(complaints);
}

/// Files that a module file declares by `mod name;`, as paths from the root.
fn declared(source: &Source) -> Vec<String> {
    let path = Path::new(&source.path);
    let stem = path.file_stem().unwrap().to_string_lossy();
    let parent = path.parent().unwrap().to_string_lossy().into_owned();
    let is_root = path.parent() == Some(Path::new("tests"));
    let folder = match stem.as_ref() {
        "mod" | "lib" | "main" => parent.clone(),
        _ if is_root => parent.clone(),
        _ => format!("{parent}/{stem}"),
    };
    let mut found = Vec::new();
    let mut at = None;
    for line in source.text.lines() {
        let line = line.trim();
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            at = Some(format!("{parent}/{path}"));
        }
        let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
        if let [.., "mod", name] = words[..]
            && line.ends_with(';')
        {
            match at.take() {
                Some(path) => found.push(path),
                None => found.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]),
            }
        }
    }
    found
}

#[test]
fn no_file_is_dead() {
    let mut complaints = Vec::new();
    for (folder, roots) in [("src", &["src/lib.rs", "src/main.rs"][..]), ("tests", &[][..])] {
        let all = sources(folder);
        // Cargo finds tests/NAME.rs and tests/NAME/main.rs by itself.
        let top = |path: &str| {
            Path::new(path).parent() == Some(Path::new("tests"))
                || (folder == "tests" && path.ends_with("/main.rs"))
        };
        let mut reached: BTreeSet<String> = roots.iter().map(|&r| r.to_owned()).collect();
        reached.extend(all.iter().filter(|s| top(&s.path)).map(|s| s.path.clone()));
        loop {
            let more: BTreeSet<String> =
                all.iter().filter(|s| reached.contains(&s.path)).flat_map(declared).collect();
            let before = reached.len();
            reached.extend(all.iter().filter(|s| more.contains(&s.path)).map(|s| s.path.clone()));
            if reached.len() == before {
                break;
            }
        }
        let own_crate = |path: &str| path.starts_with("tests/fuzz/");
        let dead = all.iter().filter(|s| !reached.contains(&s.path) && !own_crate(&s.path));
        complaints
            .extend(dead.map(|s| format!("{}:1: no `mod` leads here: declare it or remove it", s.path)));
    }
    check(complaints);
}

#[test]
fn no_file_has_swollen() {
    let mut complaints = Vec::new();
    for source in ["src", "tests", "bench", "examples"].iter().flat_map(|folder| sources(folder)) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            complaints.push(format!(
                "{}:{MAX_LINES}: {lines} lines; a concept in it is missing its name: split by it",
                source.path
            ));
        }
    }
    check(complaints);
}

#[test]
fn every_limit_is_used() {
    let limits = fs::read_to_string(root().join("src/base/limits.rs")).unwrap();
    let all: String = ["src", "bench"]
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|source| source.path != "src/base/limits.rs")
        .flat_map(|source| source.code)
        .collect::<Vec<_>>()
        .join("\n");
    let words: BTreeSet<&str> = all.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut complaints = Vec::new();
    for (number, line) in limits.lines().enumerate() {
        let Some(name) = line.strip_prefix("pub const ").and_then(|rest| rest.split(':').next()) else {
            continue;
        };
        if !words.contains(name) {
            complaints.push(format!(
                "src/base/limits.rs:{}: {name} is declared and enforced nowhere: enforce it or remove it",
                number + 1
            ));
        }
    }
    check(complaints);
}

#[test]
fn every_file_says_what_it_is() {
    let mut complaints = Vec::new();
    for source in ["src", "tests", "bench", "examples"].iter().flat_map(|folder| sources(folder)) {
        let first = source.text.lines().find(|line| !line.starts_with("#!") && !line.trim().is_empty());
        if !is_test(&source.path) && !first.is_some_and(|line| line.starts_with("//!")) {
            complaints
                .push(format!("{}:1: begin with a //! header: purpose, what it does not do", source.path));
        }
    }
    check(complaints);
}
