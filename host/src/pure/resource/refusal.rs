//! What it means that a server refuses something: for what was asked, and for the server.
//!
//! | a refusal | what was asked | the server |
//! |---|---|---|
//! | [`Refusal::Final`] | would be refused again | is as it should be |
//! | [`Refusal::Moment`] | others were in its way; nothing was done | is as it should be |
//! | [`Refusal::Unfit`] | nothing was done, whoever asks | can't do what it is for, at the moment |

/// See the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It is about what was asked.
    Final,
    /// Of a moment: other transactions, or a script, were in the way.
    Moment,
    /// The server can't do what it is for: it is another one than it was, or lacks something.
    Unfit,
}

/// Of `PostgreSQL`: serialization, deadlock, a lock that is held. Of Redis: a script runs, keys are
/// moved to another node.
const MOMENT: [&str; 5] = ["40001", "40P01", "55P03", "BUSY", "TRYAGAIN"];

/// Of `PostgreSQL`, beside the classes below: it takes no changes; its disk fails. Of Redis: parts
/// of a cluster are elsewhere or nowhere; it loads; it is a replica, or one that has lost its
/// master; it can't save; it has too few replicas, or too little memory.
const UNFIT: [&str; 11] = [
    "25006",
    "58030",
    "ASK",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOREPLICAS",
    "OOM",
    "READONLY",
];

/// Classes of `PostgreSQL`: it lacks resources; somebody shuts it down.
const UNFIT_CLASSES: [&str; 2] = ["53", "57P0"];

impl Refusal {
    /// By the code of a refusal: an SQLSTATE, or the first word of an error of Redis.
    #[must_use]
    pub fn of(code: &str) -> Self {
        let is_sqlstate = code.len() == 5;
        let of_class = || UNFIT_CLASSES.iter().any(|class| code.starts_with(class));
        if MOMENT.contains(&code) {
            Self::Moment
        } else if UNFIT.contains(&code) || (is_sqlstate && of_class()) {
            Self::Unfit
        } else {
            Self::Final
        }
    }
}

/// Whether a server that refuses a connection is there, and has as many as it takes.
#[must_use]
pub fn is_full(code: &str, message: &str) -> bool {
    // A pooler and a Redis have no code of their own for it.
    code == "53300"
        || message.contains("no more connections allowed")
        || message.contains("max number of clients reached")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_mean_what_servers_say_they_do() {
        let table = [
            ("23505", Refusal::Final),
            ("42601", Refusal::Final),
            ("57014", Refusal::Final),
            ("ERR", Refusal::Final),
            ("WRONGTYPE", Refusal::Final),
            ("NOPERM", Refusal::Final),
            // No SQLSTATE, though it begins like one.
            ("53", Refusal::Final),
            ("40001", Refusal::Moment),
            ("40P01", Refusal::Moment),
            ("55P03", Refusal::Moment),
            ("BUSY", Refusal::Moment),
            ("TRYAGAIN", Refusal::Moment),
            ("25006", Refusal::Unfit),
            ("53100", Refusal::Unfit),
            ("53200", Refusal::Unfit),
            ("53300", Refusal::Unfit),
            ("53400", Refusal::Unfit),
            ("57P01", Refusal::Unfit),
            ("57P02", Refusal::Unfit),
            ("57P03", Refusal::Unfit),
            ("57P04", Refusal::Unfit),
            ("57P05", Refusal::Unfit),
            ("READONLY", Refusal::Unfit),
            ("MOVED", Refusal::Unfit),
        ];
        for (code, meaning) in table {
            assert_eq!(Refusal::of(code), meaning, "{code}");
        }
    }

    #[test]
    fn a_server_that_is_full_is_there() {
        for (code, message, full) in [
            ("53300", "sorry, too many clients already", true),
            ("53300", "too many connections for role \"app\"", true),
            ("08P01", "no more connections allowed (max_client_conn)", true),
            ("ERR", "max number of clients reached", true),
            ("28000", "role \"app\" is not permitted to log in", false),
            ("57P03", "the database system is starting up", false),
        ] {
            assert_eq!(is_full(code, message), full, "{message}");
        }
    }
}
