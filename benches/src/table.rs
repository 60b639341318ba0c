//! The table: what was measured, next to what, and the goal where there is one.

use std::fmt;

/// A measured number with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// A time in nanoseconds.
    Nanos(f64),
    /// Transactions in a second.
    PerSecond(f64),
    /// Bytes.
    Bytes(f64),
    /// A plain factor.
    Factor(f64),
}

impl Quantity {
    /// The number without its unit.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Self::Nanos(number)
            | Self::PerSecond(number)
            | Self::Bytes(number)
            | Self::Factor(number) => number,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::Nanos(nanos) if nanos < 1e3 => format!("{nanos:.0} ns"),
            Self::Nanos(nanos) if nanos < 1e5 => format!("{:.2} us", nanos / 1e3),
            Self::Nanos(nanos) if nanos < 1e6 => format!("{:.0} us", nanos / 1e3),
            Self::Nanos(nanos) => format!("{:.2} ms", nanos / 1e6),
            Self::PerSecond(count) if count < 1e3 => format!("{count:.0} /s"),
            Self::PerSecond(count) if count < 1e5 => format!("{:.1} k/s", count / 1e3),
            Self::PerSecond(count) => format!("{:.0} k/s", count / 1e3),
            Self::Bytes(bytes) if bytes < 1e4 => format!("{bytes:.0} B"),
            Self::Bytes(bytes) if bytes < 1e7 => format!("{:.1} KiB", bytes / 1024.0),
            Self::Bytes(bytes) => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
            Self::Factor(factor) => format!("x {factor:.3}"),
        };
        f.pad(&text)
    }
}

/// What a number should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The value divided by what it is compared with: at most this.
    Ratio(f64),
    /// The value divided by what it is compared with: at least this.
    Times(f64),
    /// The value: at most this.
    AtMost(Quantity),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => f.pad(&format!("ratio <= {ratio:.2}")),
            Self::Times(times) => f.pad(&format!("ratio >= {times:.0}")),
            Self::AtMost(quantity) => f.pad(&format!("<= {quantity}")),
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Row {
    what: String,
    value: Option<Quantity>,
    against: Option<(String, Quantity)>,
    goal: Option<Goal>,
    note: String,
}

impl Row {
    /// A line with a value.
    #[must_use]
    pub fn new(what: impl Into<String>, value: Quantity) -> Self {
        let what = what.into();
        Self { what, value: Some(value), against: None, goal: None, note: String::new() }
    }

    /// A line that says why there is no value.
    #[must_use]
    pub fn missing(what: impl Into<String>, note: impl Into<String>) -> Self {
        let (what, note) = (what.into(), note.into());
        Self { what, value: None, against: None, goal: None, note }
    }

    /// Compares the value with another one.
    #[must_use]
    pub fn against(mut self, name: impl Into<String>, other: Quantity) -> Self {
        self.against = Some((name.into(), other));
        self
    }

    /// Sets the goal.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.value?.number() / self.against.as_ref()?.1.number())
    }

    /// Whether the goal is met; none without goal or value.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        match self.goal? {
            Goal::Ratio(ratio) => Some(self.ratio()? <= ratio),
            Goal::Times(times) => Some(self.ratio()? >= times),
            Goal::AtMost(quantity) => Some(self.value?.number() <= quantity.number()),
        }
    }

    fn cells(&self) -> [String; 6] {
        let against = self.against.as_ref();
        let ratio = self.ratio().map(|ratio| match ratio {
            ratio if ratio < 0.1 => format!("{ratio:.4}"),
            ratio if ratio < 10.0 => format!("{ratio:.2}"),
            ratio => format!("{ratio:.1}"),
        });
        [
            self.what.clone(),
            self.value.map_or("-".to_owned(), |value| value.to_string()),
            against.map_or(String::new(), |(name, other)| format!("{other:>8}  {name}")),
            ratio.unwrap_or_default(),
            self.goal.map_or(String::new(), |goal| goal.to_string()),
            match self.met() {
                Some(true) => "met".to_owned(),
                Some(false) => "MISSED".to_owned(),
                None => String::new(),
            },
        ]
    }
}

/// Lines under headings.
#[derive(Clone, Debug, Default)]
pub struct Table {
    parts: Vec<(String, Vec<Row>)>,
    /// Why the goals can't be judged.
    disturbed: Option<String>,
}

impl Table {
    /// Adds lines under a heading.
    pub fn add(&mut self, heading: impl Into<String>, rows: Vec<Row>) {
        self.parts.push((heading.into(), rows));
    }

    /// Judges no goals, for that reason.
    pub fn disturb(&mut self, reason: String) {
        self.disturbed = Some(reason);
    }

    /// The cells of a line; without the verdict where goals can't be judged.
    fn cells(&self, row: &Row) -> [String; 6] {
        let mut cells = row.cells();
        if self.disturbed.is_some() {
            cells[5] = row.met().map_or(String::new(), |_| "?".to_owned());
        }
        cells
    }

    /// How many goals are met, and how many there are that were measured.
    #[must_use]
    pub fn score(&self) -> (usize, usize) {
        let verdicts: Vec<bool> =
            self.parts.iter().flat_map(|(_, rows)| rows).filter_map(Row::met).collect();
        (verdicts.iter().filter(|met| **met).count(), verdicts.len())
    }
}

const TITLES: [&str; 6] = ["", "value", "compared with", "ratio", "goal", ""];

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = TITLES.map(str::len);
        for row in self.parts.iter().flat_map(|(_, rows)| rows) {
            for (width, cell) in widths.iter_mut().zip(self.cells(row)) {
                *width = cell.len().max(*width);
            }
        }
        let line = |cells: [String; 6], note: &str| {
            let [what, value, against, ratio, goal, met] = cells;
            let [what_w, value_w, against_w, ratio_w, goal_w, met_w] = widths;
            let line = format!(
                "  {what:what_w$}  {value:>value_w$}  {against:against_w$}  {ratio:>ratio_w$}  \
                 {goal:goal_w$}  {met:met_w$}  {note}"
            );
            line.trim_end().to_owned()
        };
        writeln!(f, "{}", line(TITLES.map(str::to_owned), ""))?;
        for (heading, rows) in &self.parts {
            writeln!(f, "{heading}")?;
            for row in rows {
                writeln!(f, "{}", line(self.cells(row), &row.note))?;
            }
        }
        if let Some(reason) = &self.disturbed {
            return writeln!(f, "goals are not judged: {reason}");
        }
        let (met, all) = self.score();
        writeln!(f, "{met} of {all} goals are met; values are medians of interleaved rounds")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_knows_whether_its_goal_is_met() {
        let row = Row::new("x", Quantity::Nanos(10.0)).against("y", Quantity::Nanos(100.0));
        assert_eq!(row.met(), None);
        assert_eq!(row.clone().goal(Goal::Ratio(0.1)).met(), Some(true));
        assert_eq!(row.clone().goal(Goal::Ratio(0.09)).met(), Some(false));
        assert_eq!(row.clone().goal(Goal::Times(0.1)).met(), Some(true));
        assert_eq!(row.clone().goal(Goal::Times(0.2)).met(), Some(false));
        assert_eq!(row.goal(Goal::AtMost(Quantity::Nanos(9.0))).met(), Some(false));
        assert_eq!(Row::missing("x", "why").goal(Goal::Ratio(1.0)).met(), None);
    }

    #[test]
    fn a_disturbed_run_judges_no_goals() {
        let mut table = Table::default();
        let row = Row::new("x", Quantity::Nanos(1.0)).against("y", Quantity::Nanos(9.0));
        table.add("speed", vec![row.goal(Goal::Ratio(0.5))]);
        assert!(table.to_string().contains(" met"), "{table}");
        table.disturb("a build ran".to_owned());
        let text = table.to_string();
        assert!(!text.contains(" met") && text.contains("?"), "{text}");
        assert!(text.ends_with("goals are not judged: a build ran\n"), "{text}");
    }

    #[test]
    fn lines_are_aligned() {
        let mut table = Table::default();
        let slow = Row::new("slow", Quantity::Nanos(1_234_567.0)).note("a remark");
        table.add("speed", vec![Row::new("fast one", Quantity::Nanos(999.0)), slow]);
        let text = table.to_string();
        assert!(text.contains("  fast one   999 ns\n"), "{text}");
        assert!(text.contains("  slow      1.23 ms  "), "{text}");
        assert!(text.ends_with("0 of 0 goals are met; values are medians of interleaved rounds\n"));
    }
}
