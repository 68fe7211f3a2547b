//! Lines that redraw in place on a terminal; the demo's view and the load rig's are made of them.
//!
//! It changes no mode of the terminal, so there is nothing to restore, however the program ends. It writes nothing itself:
//! the text to write is returned.

use std::os::fd::AsFd;

use terminal_size::{Height, Width};

/// Room on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

impl Room {
    /// That of the terminal behind a descriptor; 80 by 24 when it does not say.
    pub fn of(terminal: &impl AsFd) -> Room {
        let said =
            terminal_size::terminal_size_of(terminal).filter(|(columns, rows)| columns.0 > 0 && rows.0 > 0);
        let (Width(columns), Height(rows)) = said.unwrap_or((Width(80), Height(24)));
        Room { columns: columns.into(), rows: rows.into() }
    }
}

/// What stands on the terminal.
#[derive(Debug, Default)]
pub struct Live {
    /// Characters of each line that was drawn last.
    drawn: Vec<usize>,
}

impl Live {
    /// Nothing yet.
    pub fn new() -> Live {
        Live::default()
    }

    /// What to write so that these lines stand where the former ones do; lines hold no control characters.
    pub fn redraw(&mut self, lines: &[String], room: Room) -> String {
        let mut out = String::new();
        let above = self.height(room);
        if above > 0 {
            // Up to where the last drawing began, and clear from there.
            out.push_str(&format!("\x1b[{above}A\r\x1b[J"));
        }
        // One row stays free: the cursor stands below. One column, too: a full line may or may not have wrapped already.
        let (columns, rows) = (room.columns.saturating_sub(1).max(1), room.rows.saturating_sub(1).max(1));
        self.drawn.clear();
        for line in lines.iter().take(rows) {
            let cut: String = line.chars().take(columns).collect();
            self.drawn.push(cut.chars().count());
            out.push_str(&cut);
            out.push('\n');
        }
        out
    }

    /// Rows that the last drawing takes now: a terminal made narrower has wrapped its lines.
    fn height(&self, room: Room) -> usize {
        let columns = room.columns.max(1);
        let rows: usize = self.drawn.iter().map(|length| length.div_ceil(columns).max(1)).sum();
        rows.min(room.rows.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_drawing_is_cut_to_the_terminal_and_redrawn_where_it_stands() {
        let mut live = Live::new();
        let room = Room { columns: 5, rows: 3 };
        assert_eq!(live.redraw(&lines(&["abcdefg", "h", "never seen"]), room), "abcd\nh\n");
        assert_eq!(live.redraw(&lines(&["i"]), room), "\x1b[2A\r\x1b[Ji\n");
        assert_eq!(live.redraw(&lines(&["j"]), room), "\x1b[1A\r\x1b[Jj\n");
    }

    #[test]
    fn a_terminal_made_narrower_has_wrapped_the_lines() {
        let mut live = Live::new();
        live.redraw(&lines(&["abcdefgh", "i"]), Room { columns: 80, rows: 24 });
        assert!(live.redraw(&lines(&["j"]), Room { columns: 3, rows: 24 }).starts_with("\x1b[4A"));
    }
}
