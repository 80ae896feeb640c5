//! Aligned columns for terminals.

use super::text::{clip, clip_start, columns};

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Text whose end says most, such as `file:line`; it is cut at its beginning.
    LeftKeepEnd,
    /// Numbers.
    Right,
}

/// A table that is laid out once all its rows are known.
#[derive(Debug)]
pub struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

const GAP: usize = 2;
const NARROWEST: usize = 6;

impl Table {
    /// Starts a table with its head.
    pub fn new(head: &[(&str, Align)]) -> Self {
        Self {
            align: head.iter().map(|(_, align)| *align).collect(),
            rows: vec![head.iter().map(|(title, _)| (*title).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Lays the table out in at most `width` columns; the widest column gives way first.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let mut widths: Vec<usize> = vec![0; self.align.len()];
        for row in &self.rows {
            for (held, cell) in widths.iter_mut().zip(row) {
                *held = columns(cell).max(*held);
            }
        }
        let room = width.saturating_sub(GAP * widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut out = String::new();
        for (index, ((cell, width), align)) in row.iter().zip(widths).zip(&self.align).enumerate() {
            let cell =
                if *align == Align::LeftKeepEnd { clip_start(cell, *width) } else { clip(cell, *width) };
            let pad = " ".repeat(width.saturating_sub(columns(&cell)));
            if index > 0 {
                out.push_str(&" ".repeat(GAP));
            }
            match align {
                Align::Left | Align::LeftKeepEnd => {
                    out.push_str(&cell);
                    out.push_str(&pad);
                }
                Align::Right => {
                    out.push_str(&pad);
                    out.push_str(&cell);
                }
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_column_gives_way_and_numbers_line_up() {
        let mut table = Table::new(&[("name", Align::Left), ("points", Align::Right)]);
        table.row(vec!["x".repeat(50), "7".into()]);
        table.row(vec!["short".into(), "12345678".into()]);
        let lines = table.lines(30);
        assert!(lines.iter().all(|line| columns(line) <= 30), "{lines:?}");
        assert!(lines[1].contains('…') && lines[1].ends_with("       7"), "{lines:?}");
        assert!(lines[2].ends_with("12345678"));
    }
}
