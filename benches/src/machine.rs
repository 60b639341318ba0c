//! What else ran on the machine while something was measured.
//!
//! A sync wakes its thread when the device is done. Where other programs hold all processors, that
//! takes milliseconds instead of microseconds, and not the same for all contenders: such a table
//! says nothing about goals, in either direction.

use std::fs;

/// Share of all processors that other programs may use before goals are not judged, in percent.
/// The kernel's own threads, which do the writing, are among them.
pub const OTHERS_PERCENT_MAX: f64 = 10.0;

/// Processor time since the machine started, in the kernel's ticks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Ticks {
    busy: u64,
    idle: u64,
    /// This program's, with helpers and servers that have ended.
    own: u64,
}

/// Watches from when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Watch(Option<Ticks>);

impl Watch {
    /// Begins to watch.
    #[must_use]
    pub fn start() -> Self {
        Self(Ticks::now())
    }

    /// What other programs used of all processors since then, in percent; none when the kernel
    /// doesn't say. Helpers and servers must have ended.
    #[must_use]
    pub fn others_percent(&self) -> Option<f64> {
        share(self.0?, Ticks::now()?)
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let (busy, idle) = all(&stat)?;
        let own = own(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Self { busy, idle, own })
    }
}

fn share(before: Ticks, after: Ticks) -> Option<f64> {
    let busy = after.busy.saturating_sub(before.busy);
    let all = busy + after.idle.saturating_sub(before.idle);
    let others = busy.saturating_sub(after.own.saturating_sub(before.own));
    (all > 0).then(|| others as f64 * 100.0 / all as f64)
}

/// `cpu user nice system idle iowait irq softirq steal guest ...`; guests are in user already.
fn all(stat: &str) -> Option<(u64, u64)> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let numbers = numbers.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    let [user, nice, system, idle, waiting, hard, soft, stolen] = numbers.as_slice() else {
        return None;
    };
    Some((user + nice + system + hard + soft + stolen, idle + waiting))
}

/// User and system time, own and of children that have ended: fields 14 to 17. The second field is
/// a name in parentheses, which may hold anything.
fn own(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(4).map(str::parse::<u64>);
    let times = times.collect::<Result<Vec<_>, _>>().ok()?;
    (times.len() == 4).then(|| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_others() {
        let stat = "cpu  10 20 30 400 50 6 7 8 9 9\ncpu0 1 1 1 1\n";
        assert_eq!(all(stat), Some((81, 450)));
        let own_stat = "1 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0";
        assert_eq!(own(own_stat), Some(127));
        assert_eq!((all("cpu 1"), own("1 (x) S 1")), (None, None));
        let before = Ticks { busy: 100, idle: 100, own: 10 };
        let after = Ticks { busy: 200, idle: 200, own: 70 };
        assert_eq!(share(before, after), Some(20.0));
        assert_eq!(share(before, before), None);
    }
}
