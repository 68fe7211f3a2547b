//! Tables: aligned columns, numbers to the right, the last column cut where a terminal ends.

use std::io::IsTerminal as _;

use crate::cli::live::Room;
use crate::control::one_line;

/// A table that is printed in one go or page for page.
#[derive(Debug)]
pub(super) struct Table {
    heads: Vec<&'static str>,
    /// Least width of each column; grows with what is in it.
    widths: Vec<usize>,
    began: bool,
}

impl Table {
    /// With these columns; a head that begins with `>` is of numbers.
    pub(super) fn new(heads: &[&'static str]) -> Table {
        let widths = heads.iter().map(|head| head.trim_start_matches('>').len()).collect();
        Table { heads: heads.to_vec(), widths, began: false }
    }

    /// These rows, the heads before the first of all.
    pub(super) fn page(&mut self, rows: &[Vec<String>]) -> String {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if !self.began {
            let heads: Vec<String> =
                self.heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
            text += &self.line(&heads);
            self.began = true;
        }
        rows.iter().for_each(|row| text += &self.line(row));
        text
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (n, cell) in cells.iter().enumerate() {
            let (width, is_last) = (self.widths.get(n).copied().unwrap_or(0), n + 1 == cells.len());
            let is_number = self.heads.get(n).is_some_and(|head| head.starts_with('>'));
            let gap = if n == 0 { "" } else { "  " };
            line += &match (is_number, is_last) {
                (true, _) => format!("{gap}{cell:>width$}"),
                (false, true) => format!("{gap}{cell}"),
                (false, false) => format!("{gap}{cell:<width$}"),
            };
        }
        let cut: String = line.trim_end().chars().take(columns()).collect();
        cut + "\n"
    }
}

/// Columns of the terminal; no bound where there is none.
fn columns() -> usize {
    let out = std::io::stdout();
    if out.is_terminal() { Room::of(&out).columns } else { usize::MAX }
}

/// Names and values, a line each.
pub(super) fn list(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:<width$}  {}\n", one_line(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_heads_come_once() {
        let mut table = Table::new(&["ID", ">BYTES", "NAME"]);
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table.page(&[row(["0-1-2", "7", "a"]), row(["1-22-3", "1234567", "b\u{1b}c"])]);
        assert_eq!(text, "ID        BYTES  NAME\n0-1-2         7  a\n1-22-3  1234567  b\\u{1b}c\n");
        assert_eq!(table.page(&[row(["2", "1", ""])]), "2             1\n");
    }
}
