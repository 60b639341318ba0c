//! What all daemons together may take, decided before the first one starts.

use std::fmt;

use super::images::{Images, ImagesError, Shape};
use crate::base::limits::{
    BUDGET_MAX_BYTES, BUDGET_MIN_BYTES, DAEMON_OVERHEAD_BYTES, TRAFFIC_BYTES_MAX,
    TRAFFIC_BYTES_MIN, TRAFFIC_MEMORY_PART,
};
use crate::pure::cgroup::{limit_files, smallest};
use crate::pure::size::show_bytes;

/// One daemon's part of the bill.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BillLine {
    /// The daemon.
    pub name: String,
    /// Bytes of its budget, hence of each of its two images.
    pub budget_bytes: usize,
}

impl BillLine {
    /// Bytes reserved: live and committed image, card tables, mailbox, stack.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.budget_bytes.saturating_mul(2).saturating_add(DAEMON_OVERHEAD_BYTES)
    }
}

/// What the daemons ask for, against what there is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bill {
    /// In the order of the command line.
    pub lines: Vec<BillLine>,
    /// Bytes of copies of states that are under way.
    pub lent_bytes: usize,
    /// Bytes that all together may take.
    pub limit_bytes: usize,
    /// Bytes for arguments that wait and answers that are not read yet.
    pub traffic_bytes: usize,
}

/// The bill can't be paid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BillError {
    /// The sum is over the limit.
    #[error("the daemons' memory is over the limit\n{0}")]
    Over(Bill),
    /// One budget is out of range.
    #[error(
        "daemon `{name}`: a budget of {} is out of range; {} to {} is possible",
        show_bytes(*bytes), show_bytes(BUDGET_MIN_BYTES), show_bytes(BUDGET_MAX_BYTES)
    )]
    OutOfRange {
        /// The daemon.
        name: String,
        /// Its budget.
        bytes: usize,
    },
}

impl Bill {
    /// A bill of these lines, and of what requests and answers may take.
    #[must_use]
    pub fn new(lines: Vec<BillLine>, limit_bytes: usize) -> Self {
        let part = limit_bytes / TRAFFIC_MEMORY_PART;
        let traffic_bytes = part.clamp(TRAFFIC_BYTES_MIN, TRAFFIC_BYTES_MAX);
        Self { lines, lent_bytes: 0, limit_bytes, traffic_bytes }
    }

    /// Bytes of all lines, of requests and answers, and what is lent.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        let lines = self.lines.iter().map(BillLine::total_bytes);
        lines.fold(self.traffic_bytes.saturating_add(self.lent_bytes), usize::saturating_add)
    }

    /// Checks every line and the sum.
    ///
    /// # Errors
    ///
    /// [`BillError`] with the whole bill, for people to read.
    pub fn check(self) -> Result<Self, BillError> {
        for line in &self.lines {
            if !(BUDGET_MIN_BYTES..=BUDGET_MAX_BYTES).contains(&line.budget_bytes) {
                let (name, bytes) = (line.name.clone(), line.budget_bytes);
                return Err(BillError::OutOfRange { name, bytes });
            }
        }
        if self.total_bytes() > self.limit_bytes { Err(BillError::Over(self)) } else { Ok(self) }
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let (budget, total) = (show_bytes(line.budget_bytes), show_bytes(line.total_bytes()));
            let name = &line.name;
            let overhead = show_bytes(DAEMON_OVERHEAD_BYTES);
            writeln!(f, "  {name:<16} {total:>10}  = 2 x {budget} budget + {overhead} overhead")?;
        }
        let traffic = show_bytes(self.traffic_bytes);
        writeln!(f, "  {:<16} {traffic:>10}  for arguments and answers", "requests")?;
        if self.lent_bytes > 0 {
            writeln!(f, "  {:<16} {:>10}", "copies", show_bytes(self.lent_bytes))?;
        }
        writeln!(f, "  {:<16} {:>10}", "sum", show_bytes(self.total_bytes()))?;
        write!(f, "  {:<16} {:>10}", "limit", show_bytes(self.limit_bytes))
    }
}

/// The memory of all daemons, mapped before any of them runs.
#[derive(Debug)]
pub struct Arena {
    bill: Bill,
    images: Vec<Option<Images>>,
}

impl Arena {
    /// Maps the images of every line of a checked bill; `shapes` are in the order of its lines.
    ///
    /// # Errors
    ///
    /// [`ImagesError`] when the machine doesn't give the memory; what was mapped is released.
    pub fn reserve(bill: Bill, shapes: &[Shape]) -> Result<Self, ImagesError> {
        assert_eq!(bill.lines.len(), shapes.len());
        let images = bill
            .lines
            .iter()
            .zip(shapes)
            .map(|(line, shape)| Images::new(line.budget_bytes, shape).map(Some))
            .collect::<Result<_, _>>()?;
        Ok(Self { bill, images })
    }

    /// The bill that was paid.
    #[must_use]
    pub fn bill(&self) -> &Bill {
        &self.bill
    }

    /// Hands the images of line `index` to their daemon, once.
    pub fn take(&mut self, index: usize) -> Option<Images> {
        self.images.get_mut(index).and_then(Option::take)
    }
}

/// Bytes of memory of this machine, or of the control groups around this process if that is less.
#[must_use]
pub fn machine_memory_bytes() -> usize {
    let pages = rustix::system::sysinfo();
    let machine = usize::try_from(pages.totalram)
        .unwrap_or(usize::MAX)
        .saturating_mul(usize::try_from(pages.mem_unit).unwrap_or(1));
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let files = limit_files(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    let limits: Vec<String> = files.iter().map(|file| read(file)).collect();
    smallest(limits.iter().map(String::as_str)).map_or(machine, |limit| machine.min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(budgets: &[usize], limit_bytes: usize) -> Bill {
        let lines = budgets
            .iter()
            .enumerate()
            .map(|(i, &budget_bytes)| BillLine { name: format!("d{i}"), budget_bytes })
            .collect();
        Bill::new(lines, limit_bytes)
    }

    #[test]
    fn a_bill_up_to_the_limit_is_paid_and_one_byte_more_is_not() {
        let budgets = [1 << 20, 3 << 20];
        let total = 2 * (4 << 20) + 2 * DAEMON_OVERHEAD_BYTES + TRAFFIC_BYTES_MIN;
        assert!(bill(&budgets, total).check().is_ok());
        let refused = bill(&budgets, total - 1).check().unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("d0") && text.contains("sum") && text.contains("limit"), "{text}");
    }

    #[test]
    fn what_is_lent_counts() {
        let total = (2 << 20) + DAEMON_OVERHEAD_BYTES + TRAFFIC_BYTES_MIN;
        let lent = |lent_bytes| Bill { lent_bytes, ..bill(&[1 << 20], total + 5) }.check();
        assert!(lent(5).is_ok());
        assert!(lent(6).unwrap_err().to_string().contains("copies"));
    }

    #[test]
    fn budgets_out_of_range_are_refused_by_name() {
        for budget in [0, BUDGET_MIN_BYTES - 1, BUDGET_MAX_BYTES + 1, usize::MAX] {
            let refused = bill(&[1 << 20, budget], usize::MAX).check().unwrap_err();
            assert!(matches!(&refused, BillError::OutOfRange { name, .. } if name == "d1"));
        }
    }

    #[test]
    fn everything_is_mapped_before_the_first_image_is_handed_out() {
        let shape =
            Shape { card_shift: 12, control_bytes: 0, state_offset: 1 << 20, controls: vec![] };
        let bill = bill(&[1 << 20, 1 << 20], usize::MAX).check().unwrap();
        let mut arena = Arena::reserve(bill, &[shape.clone(), shape]).unwrap();
        assert!(arena.take(0).is_some());
        assert!(arena.take(0).is_none());
        assert!(arena.take(1).is_some());
        assert!(arena.take(2).is_none());
        assert!(machine_memory_bytes() > 1 << 20);
    }
}
