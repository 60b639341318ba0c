//! `PostgreSQL`: a connection for each transaction that calls it, from its first call to its end.
//!
//! A statement goes to the server as it is; values take the places of `$1`, `$2` .. as if they were
//! written there. One is prepared first, so that the types of its answer are known before it runs.
//! The server's settings for these connections: time is UTC, no statement runs longer than a call
//! may take. What a transaction sets, makes or leaves open in its session is gone after it.

mod own;
mod session;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use self::session::Session;
use super::dial::{Stream, dial, dial_unix};
use super::{Connection, Line, NoConnection, Opened, Pending, Provider, Sharing};
use crate::base::limits::CALL_TIME_MAX;

/// Where a server listens if its URL says no port.
const PORT: u16 = 5432;

/// A server, and how many transactions use it at a time.
#[derive(Debug)]
pub struct Postgres {
    server: Arc<Server>,
    connections: u32,
}

struct Server {
    config: Config,
    jobs: BTreeMap<String, String>,
    /// Settings that each session must have.
    asked: Vec<(&'static str, String)>,
    /// It must take changes.
    writes: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Statements may hold secrets.
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Postgres {
    /// The server at this URL, or at the first place in it that answers. `jobs` are the statements
    /// of init jobs, by what the jobs are called; a job that is not there is its own statements.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL, without what is in it.
    pub fn new(
        url: &str,
        connections: u32,
        jobs: BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut config: Config = url.parse().map_err(|error| session::say(&error))?;
        let refuse = |what: &str| Err(format!("`{what}` is not supported"));
        if config.get_ssl_mode() == SslMode::Require {
            return refuse("sslmode=require");
        }
        if config.get_target_session_attrs() != TargetSessionAttrs::Any {
            return refuse("target_session_attrs");
        }
        if !config.get_hostaddrs().is_empty() {
            return refuse("hostaddr");
        }
        if config.get_hosts().is_empty() {
            return Err("it names no host".to_owned());
        }
        // The URL's own come last, which is what counts; a reset brings all of them back.
        let own = config.get_options().unwrap_or_default();
        let asked = [("TimeZone", "UTC".to_owned()), ("statement_timeout", seconds(CALL_TIME_MAX))];
        let options: String =
            asked.iter().map(|(name, value)| format!("-c {name}={value} ")).collect();
        let own_names = own.to_ascii_lowercase();
        let says = |name: &str| own_names.contains(&name.to_ascii_lowercase());
        let asked = asked.into_iter().filter(|(name, _)| !says(name)).collect();
        config.options(options + own);
        if config.get_application_name().is_none() {
            config.application_name("bulkhead");
        }
        let server = Server { config, jobs, asked, writes: true };
        Ok(Self { server: Arc::new(server), connections })
    }

    /// The same, for reading alone: one that takes no changes will do.
    #[must_use]
    pub fn to_read(self) -> Self {
        let Self { server, connections } = self;
        let Server { config, jobs, asked, .. } = server.as_ref();
        let (config, jobs, asked) = (config.clone(), jobs.clone(), asked.clone());
        Self { server: Arc::new(Server { config, jobs, asked, writes: false }), connections }
    }

    async fn connected(&self) -> Result<Session, NoConnection> {
        let mut failed = NoConnection::Failed(String::new());
        for place in self.server.places() {
            match Session::open(self.server.clone(), place).await {
                Ok(session) => return Ok(session),
                // That one is there, whatever is the matter with the others.
                Err(_) if matches!(failed, NoConnection::Full(_)) => {}
                Err(none) => failed = none,
            }
        }
        Err(failed)
    }
}

/// As the server writes it.
fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

const _: () = assert!(CALL_TIME_MAX.as_secs() < 60 && CALL_TIME_MAX.subsec_nanos() == 0);

impl Provider for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn place(&self) -> String {
        let place = |(host, port): (&Host, u16)| match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => path.display().to_string(),
        };
        let places: Vec<String> = self.server.places().map(place).collect();
        let database = self.server.config.get_dbname().unwrap_or_default();
        format!("{}/{database}", places.join(","))
    }

    fn sharing(&self) -> Sharing {
        Sharing::Exclusive(self.connections)
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, NoConnection>> {
        Box::pin(async {
            let session = self.connected().await?;
            session.is_alone().await?;
            Ok(Box::new(session) as Box<dyn Connection>)
        })
    }

    fn open(&self) -> Pending<'_, Opened> {
        Box::pin(async { Ok(Box::new(self.connected().await?) as Box<dyn Line>) })
    }
}

impl Server {
    /// Where it may be: one port is for all hosts, and so many as there are hosts for one each.
    fn places(&self) -> impl Iterator<Item = (&Host, u16)> {
        let ports = self.config.get_ports();
        let port = |index| ports.get(index).or(ports.first()).copied().unwrap_or(PORT);
        self.config.get_hosts().iter().enumerate().map(move |(index, host)| (host, port(index)))
    }
}

/// A stream to a server, for queries or to cancel one.
async fn reach((host, port): (&Host, u16)) -> Result<Box<dyn Stream>, String> {
    match host {
        Host::Tcp(name) => dial(name, port).await,
        Host::Unix(folder) => dial_unix(&folder.join(format!(".s.PGSQL.{port}"))).await,
    }
}

/// What ends within the time, or doesn't.
async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Postgres::new(url, 1, BTreeMap::new()).unwrap_err()
    }

    #[test]
    fn its_place_is_shown_without_secrets() {
        let table = [
            ("postgres://u:secret@db.example:7000/sales", "db.example:7000/sales"),
            ("postgres://u:secret@db.example/sales", "db.example:5432/sales"),
            ("postgresql://u:secret@a:1,b:2/x", "a:1,b:2/x"),
            ("postgres://u:secret@%2Frun%2Fpg/x", "/run/pg/x"),
        ];
        for (url, place) in table {
            let postgres = Postgres::new(url, 3, BTreeMap::new()).unwrap();
            assert_eq!(postgres.place(), place);
            assert_eq!(postgres.sharing(), Sharing::Exclusive(3));
            assert!(!format!("{postgres:?}").contains("secret"));
        }
    }

    #[test]
    fn what_would_be_ignored_in_a_url_is_refused() {
        for option in ["sslmode=require", "target_session_attrs=read-write", "hostaddr=127.0.0.1"] {
            let said = refusal(&format!("postgres://u:secret@h/x?{option}"));
            let name = option.split('=').next().unwrap();
            assert!(said.contains(name) && said.ends_with("is not supported"), "{said}");
        }
        assert_eq!(refusal("postgres:///x"), "it names no host");
        for wrong in ["postgres://u:secret@h:secret/x", "postgres://u:secret@h/x?secret=1&a"] {
            let said = refusal(wrong);
            assert!(said.starts_with("invalid"), "{said}");
        }
    }
}
