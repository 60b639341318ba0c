//! Tables for terminals.

use std::fmt;

use rustix::termios::{isatty, tcgetwinsize};

/// Which side a column keeps to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a header, columns as wide as they need to be.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(String, Align)>,
    /// The columns that a narrow terminal does without, in the order in which they go.
    spared: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Characters between two columns.
const GAP: usize = 2;

impl Table {
    pub(super) fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|&(name, align)| (name.to_owned(), align)).collect();
        Self { columns, spared: Vec::new(), rows: Vec::new() }
    }

    /// Leaves these columns out, the first one first, where the terminal is too narrow for all.
    pub(super) fn sparing(self, spared: &[&'static str]) -> Self {
        Self { spared: spared.to_vec(), ..self }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Column names, then the rows.
    fn lines(&self) -> impl Iterator<Item = Vec<&str>> {
        let header = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(String::as_str).collect());
        std::iter::once(header).chain(rows)
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.columns.len()];
        for line in self.lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        widths
    }

    /// The table in lines of at most `most` characters, if there is a limit: some columns are left
    /// out, and what is still too long is cut.
    fn show(&self, most: Option<usize>) -> String {
        let (widths, most) = (self.widths(), most.unwrap_or(usize::MAX));
        let mut shown: Vec<bool> = vec![true; widths.len()];
        let needed = |shown: &[bool]| {
            let its = widths.iter().zip(shown).filter(|(_, shown)| **shown);
            its.map(|(width, _)| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        for spared in &self.spared {
            if needed(&shown) <= most {
                break;
            }
            let its = self.columns.iter().zip(&mut shown).filter(|((name, _), _)| name == spared);
            its.for_each(|(_, shown)| *shown = false);
        }
        let lines = self.lines().map(|line| {
            let mut text = String::new();
            let cells = line.iter().zip(&self.columns).zip(widths.iter().zip(&shown));
            for ((cell, (_, align)), (&width, _)) in cells.filter(|(_, (_, shown))| **shown) {
                if !text.is_empty() {
                    text.push_str("  ");
                }
                text.push_str(&match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            }
            cut(text.trim_end(), most)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn cut(line: &str, most: usize) -> String {
    if line.chars().count() <= most {
        return line.to_owned();
    }
    let kept: String = line.chars().take(most.saturating_sub(3)).collect();
    format!("{kept}...")
}

/// Characters in a line of the terminal that reads standard output; none when none does.
fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    let size = isatty(&stdout).then(|| tcgetwinsize(&stdout).ok())??;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(terminal_width()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [("A", Align::Left), ("N", Align::Right), ("WHY", Align::Left)];
        let mut table = Table::new(&columns).sparing(&["N"]);
        table.row(["long", "1", "it is"].map(str::to_owned).to_vec());
        table.row(["x", "100", "nothing that matters"].map(str::to_owned).to_vec());
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let whole = "A       N  WHY\nlong    1  it is\nx     100  nothing that matters";
        assert_eq!(table().show(None), whole);
        assert_eq!(table().show(Some(31)), whole);
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_and_spared_columns_go_first() {
        let without = "A     WHY\nlong  it is\nx     nothing that matters";
        assert_eq!(table().show(Some(30)), without);
        assert_eq!(table().show(Some(26)), without);
        assert_eq!(table().show(Some(14)), "A     WHY\nlong  it is\nx     nothi...");
        for most in 3..40 {
            let shown = table().show(Some(most));
            assert!(shown.lines().all(|line| line.chars().count() <= most), "{most}: {shown}");
        }
    }
}
