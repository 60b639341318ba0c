//! A `PgBouncer` in front of a `PostgreSQL` server.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use rustix::process::Signal;

use crate::Postgres;
use crate::kept::Kept;
use crate::port::on_free_port;
use crate::process::{Listens, Server, User, command, find, home};

/// Where `pgbouncer` is.
///
/// # Errors
///
/// What to install.
pub fn pgbouncer_program() -> Result<PathBuf, String> {
    find("pgbouncer", &[PathBuf::from("/usr/sbin")])
        .ok_or_else(|| "pgbouncer not found: apt-get install pgbouncer".to_owned())
}

/// A pooler on 127.0.0.1 that trusts everybody. Gone when this is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    kept: Kept,
}

impl PgBouncer {
    /// Starts one in front of that server, with these lines of its section `[pgbouncer]`, and waits
    /// until it takes connections.
    ///
    /// # Panics
    ///
    /// When there is none, or it doesn't start.
    #[must_use]
    pub fn start(server: &Postgres, lines: &[&str]) -> Self {
        let program = pgbouncer_program().unwrap_or_else(|error| panic!("{error}"));
        on_free_port("pgbouncer", |port| {
            let user = User::unprivileged(&["postgres", "nobody"])?;
            let home = home("pgbouncer", user)?;
            let (file, users) = (home.path().join("pgbouncer.ini"), home.path().join("users"));
            let text = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n{}\n",
                server.port(),
                users.display(),
                lines.join("\n"),
            );
            for (path, text) in [(&file, text.as_str()), (&users, "\"bulkhead\" \"\"\n")] {
                std::fs::write(path, text).map_err(|error| error.to_string())?;
                User::give(user, path)?;
            }
            let mut command = command(&program, user, home.path());
            command.arg(&file);
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let server =
                Server::start(command, home, Listens::Tcp(addr, |_, _| true), Signal::INT)?;
            Ok(Self { kept: Kept::new("pgbouncer", server, addr) })
        })
    }

    /// Where it listens, as a URL with user and database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://bulkhead@{}/bulkhead", self.addr())
    }
}

impl Deref for PgBouncer {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        &self.kept
    }
}

impl DerefMut for PgBouncer {
    fn deref_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }
}
