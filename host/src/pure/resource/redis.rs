//! Which commands of Redis the host lets guests send.
//!
//! Many transactions share a connection, and what one sends must leave it as it was for the others.
//! This keeps guests from each other's way; what they may do with the data is for the server's own
//! access rules.

/// Why a command is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Why {
    Blocks,
    Session,
    Server,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Self::Blocks => "it waits, and all others on the connection with it",
            Self::Session => "it changes the connection, which others use too",
            Self::Server => "it is for whoever runs the server",
        }
    }
}

/// Commands that are refused, whatever their arguments are.
const DENIED: &[(Why, &[&str])] = &[
    (
        Why::Blocks,
        &[
            "BLMOVE",
            "BLMPOP",
            "BLPOP",
            "BRPOP",
            "BRPOPLPUSH",
            "BZMPOP",
            "BZPOPMAX",
            "BZPOPMIN",
            "WAIT",
            "WAITAOF",
        ],
    ),
    (
        Why::Session,
        &[
            "ASKING",
            "AUTH",
            "DISCARD",
            "EXEC",
            "HELLO",
            "MONITOR",
            "MULTI",
            "PSUBSCRIBE",
            "PSYNC",
            "PUNSUBSCRIBE",
            "QUIT",
            "READONLY",
            "READWRITE",
            "REPLCONF",
            "RESET",
            "SELECT",
            "SSUBSCRIBE",
            "SUBSCRIBE",
            "SUNSUBSCRIBE",
            "SYNC",
            "UNSUBSCRIBE",
            "UNWATCH",
            "WATCH",
        ],
    ),
    (
        Why::Server,
        &[
            "BGREWRITEAOF",
            "BGSAVE",
            "CLUSTER",
            "CONFIG",
            "DEBUG",
            "FAILOVER",
            "LATENCY",
            "MIGRATE",
            "MODULE",
            "PFDEBUG",
            "PFSELFTEST",
            "REPLICAOF",
            "RESTORE-ASKING",
            "SAVE",
            "SHUTDOWN",
            "SLAVEOF",
            "SLOWLOG",
        ],
    ),
];

/// Commands of which only some are not refused.
const ONLY: &[(&str, Why, &[&str])] = &[
    ("ACL", Why::Server, &["CAT", "WHOAMI"]),
    ("CLIENT", Why::Session, &["GETNAME", "ID", "INFO"]),
    ("FUNCTION", Why::Server, &["DELETE", "DUMP", "FLUSH", "LIST", "LOAD", "RESTORE"]),
    ("MEMORY", Why::Server, &["USAGE"]),
    ("SCRIPT", Why::Server, &["EXISTS", "FLUSH", "LOAD"]),
];

/// Why a command is refused, for people; nothing, if it may be sent.
#[must_use]
pub fn denied(words: &[Vec<u8>]) -> Option<String> {
    let Some(name) = words.first() else { return Some("there is no command".to_owned()) };
    let is = |word: &[u8], other: &str| word.eq_ignore_ascii_case(other.as_bytes());
    let refused = |command: &str, why: Why| Some(format!("{command}: {}", why.text()));
    for (why, names) in DENIED {
        if let Some(command) = names.iter().find(|command| is(name, command)) {
            return refused(command, *why);
        }
    }
    if let Some((command, why, some)) = ONLY.iter().find(|(command, ..)| is(name, command)) {
        let Some(sub) = words.get(1) else { return refused(command, *why) };
        if !some.iter().any(|other| is(sub, other)) {
            return refused(&format!("{command} {}", shown(sub)), *why);
        }
    }
    let reads = ["XREAD", "XREADGROUP"].into_iter().find(|command| is(name, command));
    reads
        .filter(|_| blocks(words))
        .and_then(|command| refused(&format!("{command} BLOCK"), Why::Blocks))
}

/// Whether a read of streams asks to wait. Names of groups and streams may be any word.
fn blocks(words: &[Vec<u8>]) -> bool {
    let mut rest = words.get(1..).unwrap_or_default();
    while let Some(option) = rest.first() {
        let is = |other: &str| option.eq_ignore_ascii_case(other.as_bytes());
        let length = match () {
            () if is("STREAMS") => return false,
            () if is("NOACK") => 1,
            () if is("COUNT") => 2,
            () if is("GROUP") => 3,
            // An option of a server that is newer than this: it may have any words.
            () => return rest.iter().any(|word| word.eq_ignore_ascii_case(b"BLOCK")),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    false
}

/// A guest's word, cut and made plain.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word.get(..32).unwrap_or(word)).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<String> {
        denied(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn ordinary_commands_are_let_through() {
        for line in [
            "GET a",
            "set BLOCK SELECT",
            "LPOP a",
            "EVAL return 0",
            "evalsha x 0",
            "XREAD COUNT 5 STREAMS BLOCK 0",
            "XREAD STREAMS s 0",
            "XREADGROUP GROUP BLOCK BLOCK COUNT 5 NOACK STREAMS BLOCK >",
            "xreadgroup group streams c streams s >",
            "XREAD COUNT",
            "XREAD",
            "CLIENT GETNAME",
            "client id",
            "SCRIPT LOAD x",
            "SUBSTR a 0 1",
            "PUBLISH channel x",
            "UNLINK a",
            "WAITS",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn what_blocks_changes_the_session_or_rules_the_server_is_refused() {
        for (line, expected) in [
            ("BLPOP a 0", "BLPOP: it waits"),
            ("blpop a 0", "BLPOP: it waits"),
            ("BzPopMin a 0", "BZPOPMIN: it waits"),
            ("XREAD BLOCK 0 STREAMS s $", "XREAD BLOCK: it waits"),
            ("xread COUNT 5 block 0 streams s $", "XREAD BLOCK: it waits"),
            ("XREADGROUP GROUP streams c BLOCK 0 STREAMS s >", "XREADGROUP BLOCK: it waits"),
            ("XREADGROUP NOACK GROUP g c Block 0 STREAMS s >", "XREADGROUP BLOCK: it waits"),
            ("XREADGROUP GROUP g c CLAIM 5 BLOCK 0 STREAMS s >", "XREADGROUP BLOCK: it waits"),
            ("SELECT 1", "SELECT: it changes the connection"),
            ("HELLO 3", "HELLO: it changes the connection"),
            ("MULTI", "MULTI: it changes the connection"),
            ("SSUBSCRIBE a", "SSUBSCRIBE: it changes the connection"),
            ("CLIENT KILL x", "CLIENT KILL: it changes the connection"),
            ("CLIENT reply off", "CLIENT reply: it changes the connection"),
            ("CLIENT", "CLIENT: it changes the connection"),
            ("CLIENT \u{1b}[2J", "CLIENT \\u{1b}[2J: it changes the connection"),
            ("SCRIPT KILL", "SCRIPT KILL: it is for whoever runs the server"),
            ("CONFIG GET requirepass", "CONFIG: it is for whoever runs the server"),
            ("shutdown", "SHUTDOWN: it is for whoever runs the server"),
            ("DEBUG SLEEP 5", "DEBUG: it is for whoever runs the server"),
            ("MIGRATE h 1 k 0 5", "MIGRATE: it is for whoever runs the server"),
        ] {
            let refused = of(line).unwrap_or_default();
            assert!(refused.starts_with(expected), "{line}: {refused}");
        }
        assert_eq!(denied(&[]), Some("there is no command".to_owned()));
    }

    #[test]
    fn the_lists_are_sorted_and_name_nothing_twice() {
        let all: Vec<&str> = DENIED
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .chain(ONLY.iter().map(|(command, ..)| *command))
            .collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
        let lists = DENIED.iter().map(|(_, names)| *names).chain(ONLY.iter().map(|(.., s)| *s));
        for names in lists {
            assert!(names.is_sorted(), "{names:?}");
            assert!(names.iter().all(|name| *name == name.to_ascii_uppercase()));
        }
    }
}
