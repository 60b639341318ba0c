//! Which code a daemon is started on: that of its file, or that which made its state.
//!
//! The data directory knows every code that a daemon ran. So a file whose code is among them is an
//! older one, and its state goes on with the code that it has. A file with code that never ran is
//! new: taking the state over is an upgrade, which somebody has to ask for.

/// BLAKE3 of a guest's file.
pub type Digest = [u8; 32];

/// Which code to start on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartCode {
    /// The file's.
    File,
    /// That of the state: the file has code that ran before.
    KeptFileOlder,
    /// That of the state: there is no file.
    KeptFileMissing,
    /// That of the state, then an upgrade to the file's.
    Upgrade,
    /// None: the file has code that never ran, and nobody asked for an upgrade.
    Refused,
}

/// Decides from the file's code (none when there is no file), the code that made the last commit
/// (none when there is no state), and whether the file's code is among those that the daemon ran.
#[must_use]
pub fn start_code(
    file: Option<Digest>,
    last: Option<Digest>,
    ran: bool,
    upgrade: bool,
) -> StartCode {
    match (file, last) {
        (None, Some(_)) => StartCode::KeptFileMissing,
        // Without a state there is nothing to go on with, and whoever reads the file says why.
        (_, None) => StartCode::File,
        (Some(file), Some(last)) if file == last => StartCode::File,
        (Some(_), Some(_)) if ran => StartCode::KeptFileOlder,
        (Some(_), Some(_)) if upgrade => StartCode::Upgrade,
        (Some(_), Some(_)) => StartCode::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_goes_on_with_its_code_unless_an_upgrade_is_asked_for() {
        const A: Option<Digest> = Some([1; 32]);
        const B: Option<Digest> = Some([2; 32]);
        use StartCode::{File, KeptFileMissing, KeptFileOlder, Refused, Upgrade};
        for (file, last, ran, upgrade, expected) in [
            (A, None, false, false, File),
            (A, None, false, true, File),
            (None, None, false, false, File),
            (A, A, true, false, File),
            (A, A, true, true, File),
            // A start right after the upgrade: its code may not be written down yet.
            (A, A, false, false, File),
            (A, B, true, false, KeptFileOlder),
            // An option that always stands there must not take an upgrade back.
            (A, B, true, true, KeptFileOlder),
            (A, B, false, true, Upgrade),
            (A, B, false, false, Refused),
            (None, B, false, false, KeptFileMissing),
            (None, B, true, true, KeptFileMissing),
        ] {
            let decided = start_code(file, last, ran, upgrade);
            assert_eq!(decided, expected, "{file:?} {last:?} {ran} {upgrade}");
        }
    }
}
