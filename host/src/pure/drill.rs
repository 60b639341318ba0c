//! What a host that was killed must have left behind: the judgement of `simulate-crash --host`.

/// A state, by the number of its commit and its hash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// The last commit.
    pub sequence: u64,
    /// Hash of memory and globals.
    pub hash: String,
}

/// One kill of a host with one daemon, and what was seen before and after.
#[derive(Clone, Debug)]
pub struct Kill<'a> {
    /// What the kill before this one left on the disk.
    pub left: Option<&'a State>,
    /// What the host then started with.
    pub started: &'a State,
    /// Requests that were sent.
    pub attempts: u64,
    /// The last commit that was acknowledged; 0 when none was.
    pub acknowledged: u64,
    /// What is on the disk now.
    pub recovered: &'a State,
    /// No request changed the state: all went back to the last commit.
    pub only_reverts: bool,
    /// The guest commits something by itself when it is told of a restart.
    pub changes_itself: bool,
}

impl Kill<'_> {
    /// What is not as it must be, in words; nothing: all is good.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        let Self { started, recovered, attempts, acknowledged, .. } = *self;
        let mut wrong = Vec::new();
        if let Some(left) = self.left {
            let (was, is) = (left.sequence, started.sequence);
            if is < was || (is > was && !self.changes_itself) {
                wrong.push(format!("commit {was} was on the disk, the next start had {is}"));
            }
            if left.hash != started.hash && !self.changes_itself {
                wrong.push(format!("the next start had another state of commit {was}"));
            }
        }
        let acknowledged = acknowledged.max(started.sequence);
        if recovered.sequence < acknowledged {
            let last = recovered.sequence;
            wrong.push(format!("commit {acknowledged} was acknowledged, {last} is the last one"));
        }
        // A revert may be followed by a commit of the guest's own.
        let each = if self.changes_itself { 2 } else { 1 };
        let most = started.sequence.saturating_add(attempts.saturating_mul(each));
        if recovered.sequence > most {
            let last = recovered.sequence;
            wrong.push(format!("commit {last}, after {attempts} requests at {}", started.sequence));
        }
        if self.only_reverts && !self.changes_itself && recovered.hash != started.hash {
            wrong.push("going back to the last commit changed the state".to_owned());
        }
        wrong
    }
}

/// The manifest of a copy in a second host: its daemon has resources of the same names and kinds as
/// the original's, `(name, kind)`, and none of them can be reached. So a drill asks nothing of the
/// real ones, and the daemon runs, since it merely uses them.
#[must_use]
pub fn absent_service(daemon: &str, resources: &[(&str, &str)]) -> String {
    let mut text = "[service]\nname = \"drill\"\n".to_owned();
    for (name, kind) in resources {
        // Nobody listens on port 1 of this machine.
        let place = match *kind {
            "redis" => "url = \"redis://127.0.0.1:1\"\n",
            "postgres" => "url = \"postgres://drill@127.0.0.1:1/drill\"\n",
            "http" => {
                "allow = [{ url = \"http://127.0.0.1:1/\", private = true }]\ncheck = \"connect\"\n"
            }
            "directory" => "path = \"absent\"\naccess = \"read\"\n",
            // These can't be away; there are no constants here.
            "config" => "values = {}\n",
            _ => "",
        };
        text.push_str(&format!("[resources.{name}]\nprovider = \"{kind}\"\n{place}"));
    }
    let uses: Vec<String> = resources.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let uses = uses.join(", ");
    text.push_str(&format!("[daemons.{daemon}]\nguest = \"{daemon}.wasm\"\nuses = [{uses}]\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(sequence: u64, hash: &str) -> State {
        State { sequence, hash: hash.to_owned() }
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_nothing_else() {
        let (left, started) = (state(10, "a"), state(10, "a"));
        let judge = |attempts, acknowledged, recovered: &State| {
            let (only_reverts, changes_itself) = (true, false);
            let left = Some(&left);
            let started = &started;
            Kill { left, started, attempts, acknowledged, recovered, only_reverts, changes_itself }
                .wrong()
                .len()
        };
        for (attempts, acknowledged, recovered, wrong) in [
            (5, 13, state(13, "a"), 0),
            (5, 13, state(15, "a"), 0),
            (0, 0, state(10, "a"), 0),
            (5, 13, state(12, "a"), 1),
            (5, 13, state(16, "a"), 1),
            (0, 0, state(9, "a"), 1),
            (5, 13, state(13, "b"), 1),
            (5, 13, state(12, "b"), 2),
        ] {
            assert_eq!(judge(attempts, acknowledged, &recovered), wrong, "{recovered:?}");
        }
    }

    #[test]
    fn the_next_start_goes_on_with_what_was_left() {
        let left = state(10, "a");
        let judge = |started: &State, changes_itself| {
            let (left, recovered, only_reverts) = (Some(&left), started, false);
            let (attempts, acknowledged) = (0, 0);
            Kill { left, started, attempts, acknowledged, recovered, only_reverts, changes_itself }
                .wrong()
                .len()
        };
        for (started, changes_itself, wrong) in [
            (state(10, "a"), false, 0),
            (state(10, "b"), false, 1),
            (state(11, "b"), true, 0),
            (state(11, "b"), false, 2),
            (state(9, "a"), true, 1),
        ] {
            assert_eq!(judge(&started, changes_itself), wrong, "{started:?}");
        }
    }

    #[test]
    fn a_copy_has_the_names_of_its_resources_in_a_valid_manifest() {
        use crate::pure::manifest::{Given, bind, parse};
        let all = ["redis", "postgres", "http", "directory", "config", "clock", "entropy"];
        let named: Vec<(String, &str)> =
            all.iter().map(|kind| (format!("{kind}-1"), *kind)).collect();
        let named: Vec<(&str, &str)> = named.iter().map(|(name, kind)| (&**name, *kind)).collect();
        for count in 0..=all.len() {
            let text = absent_service("ledger_2", &named[..count]);
            let manifest = parse(text.as_bytes());
            let bound = bind(&manifest, &Given::default());
            let bound = bound.unwrap_or_else(|wrong| panic!("{wrong:?}\n{text}"));
            let kinds: Vec<&str> = bound.resources.iter().map(|one| one.kind()).collect();
            assert_eq!(kinds.len(), count, "{text}");
            assert!(named[..count].iter().all(|(_, kind)| kinds.contains(kind)), "{text}");
            assert_eq!(bound.daemons[0].uses.len(), count, "{text}");
        }
    }
}
