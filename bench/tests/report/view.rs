//! What is seen while a run goes on.

use std::io::Write;
use std::sync::{Arc, Mutex};

use breakwater::cli::live::Room;
use breakwater_rig::rig::view::View;

use super::made::well;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn shown(terminal: Option<fn() -> Room>) -> String {
    let (paper, results) = (Paper::default(), well());
    let mut view = View::onto(Box::new(paper.clone()), 10_000, terminal);
    let total = results.total();
    results.samples.iter().take(13).for_each(|sample| view.show(sample, &total));
    view.end();
    paper.text()
}

#[test]
fn the_plain_view_is_a_line_every_five_seconds() {
    let text = shown(None);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(!text.contains('\x1b'));
    assert!(lines[1].contains("open 1,250 ready 1,243 of 10,000 refused 0 lost 0"), "{}", lines[1]);
    assert!(lines[2].contains("target 2") && lines[2].contains("ping p50"), "{}", lines[2]);
}

#[test]
fn the_live_view_redraws_in_place_and_leaves_the_terminal_as_it_was() {
    let text = shown(Some(|| Room { columns: 30, rows: 8 }));
    // As many drawings as samples, each on at most seven rows (one stays free) of at most 29 characters.
    let drawings: Vec<&str> = text.trim_end().split("\x1b[7A\r\x1b[J").collect();
    assert_eq!(drawings.len(), 13, "{text}");
    assert!(drawings.iter().all(|drawing| drawing.lines().count() == 7));
    assert!(drawings.iter().all(|drawing| drawing.lines().all(|line| line.chars().count() < 30)));
    assert!(drawings[12].contains("ready         [###"), "{}", drawings[12]);
    // Only movements of the cursor: no mode is set that would have to be taken back.
    assert!(!text.contains("\x1b[?"));
    assert!(text.ends_with("\n\n"));
}
