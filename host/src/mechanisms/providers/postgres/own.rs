//! Whether a session is what was asked for: its settings, a backend of its own, a server that takes
//! changes. A pooler in between may give it none of these, and says so to nobody.

use tokio_postgres::SimpleQueryMessage;

use super::super::NoConnection;
use super::session::{Link, Session};
use super::{Server, within};
use crate::base::limits::CANCEL_TIME_MAX;

/// How a session is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stand {
    /// The server's process.
    backend: String,
    read_only: bool,
    /// Values of the settings that were asked for, in their order.
    settings: Vec<String>,
}

const POOLED: &str = "a pooler gives the session one backend after the other, so that others would \
                      get its answers: only a pool for each session will do";

impl Stand {
    /// What is wrong with a session at its start.
    pub(super) fn check(&self, server: &Server) -> Result<(), String> {
        let mut settings = server.asked.iter().zip(&self.settings);
        if let Some(((name, asked), found)) = settings.find(|((_, asked), found)| asked != *found) {
            return Err(format!(
                "`{name}` is {found}, and {asked} was asked for: a pooler that ignores `options` \
                 may be in between"
            ));
        }
        self.takes_changes(server)
    }

    /// What is wrong with it later, when it may have been told to have other settings.
    pub(super) fn check_again(&self, first: &Self, server: &Server) -> Result<(), String> {
        if self.backend != first.backend {
            return Err(POOLED.to_owned());
        }
        self.takes_changes(server)
    }

    fn takes_changes(&self, server: &Server) -> Result<(), String> {
        match server.writes && self.read_only {
            true => Err("it takes no changes: `transaction_read_only` is on".to_owned()),
            false => Ok(()),
        }
    }
}

impl Session {
    /// Whether it is the only one with its backend: another one begins a transaction, and must have
    /// got another backend, and left this one its own.
    pub(super) async fn is_alone(&self) -> Result<(), NoConnection> {
        let Link { server, place, .. } = self.link.as_ref();
        let other = within(CANCEL_TIME_MAX, Self::open(server.clone(), (&place.0, place.1))).await;
        let other = match other {
            Some(Ok(other)) => other,
            // Where there is no room for two, nobody gets this one's.
            None | Some(Err(NoConnection::Full(_))) => return Ok(()),
            Some(Err(failed)) => return Err(failed),
        };
        other.link.run("BEGIN").await?;
        let its = other.link.stand().await?;
        let again = within(CANCEL_TIME_MAX, self.link.stand()).await;
        match again {
            Some(Ok(again)) if its.backend != again.backend => {
                Ok(again.check_again(&self.first, server)?)
            }
            Some(Err(why)) => Err(why.into()),
            // Or it waits for the other one's to be free.
            _ => Err(POOLED.to_owned().into()),
        }
    }
}

impl Link {
    /// How it is.
    pub(super) async fn stand(&self) -> Result<Stand, String> {
        let asked =
            self.server.asked.iter().map(|(name, _)| format!(", current_setting('{name}')"));
        let asked: String = asked.collect();
        let query =
            format!("SELECT pg_backend_pid(), current_setting('transaction_read_only'){asked}");
        let answer = self.client.simple_query(&query).await;
        let answer = answer.map_err(|error| self.reason(&error))?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.ok_or("it did not say how the session is")?;
        let value = |index| row.try_get(index).ok().flatten().unwrap_or_default().to_owned();
        let settings = (0..self.server.asked.len()).map(|index| value(index + 2));
        Ok(Stand { backend: value(0), read_only: value(1) == "on", settings: settings.collect() })
    }
}
