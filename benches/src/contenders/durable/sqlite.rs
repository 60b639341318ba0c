//! `SQLite` on disk: write-ahead log, synced at every commit.

use std::path::Path;

use rusqlite::Connection;
use smallbank::mix::Request;

use super::{DurableBank, Ending, Queue, Served};
use crate::contenders::sqlite::{Bank, Transactions, create_tables};

/// Makes a database in that directory.
///
/// # Panics
///
/// When `SQLite` refuses.
#[must_use]
pub fn open(dir: &Path) -> Connection {
    let connection = Connection::open(dir.join("bank.db")).expect("a database");
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .expect("a journal mode");
    assert_eq!(mode, "wal");
    connection.execute_batch("PRAGMA synchronous = FULL").expect("a pragma");
    create_tables(&connection);
    connection
}

/// A bank in a database. It has one writer at a time, so one thread runs all requests.
#[derive(Debug)]
pub struct SqliteBank<'a> {
    connection: &'a Connection,
    bank: Bank<'a>,
    transactions: Transactions,
}

impl<'a> SqliteBank<'a> {
    /// Opens the accounts. With [`Transactions::Savepoints`], all requests that wait are run in
    /// one transaction, each in a savepoint: the group commit that an application could build.
    #[must_use]
    pub fn load(connection: &'a Connection, customers: u64, transactions: Transactions) -> Self {
        let bank = Bank::load(connection, customers, transactions);
        Self { connection, bank, transactions }
    }
}

impl DurableBank for SqliteBank<'_> {
    fn serve(&mut self, clients: usize, requests: &[Request]) -> Served {
        let group = match self.transactions {
            Transactions::Own => 1,
            Transactions::Savepoints => clients,
        };
        let mut endings = Vec::new();
        let mut queue = Queue::new(clients, requests.len());
        for requests in requests.chunks(group) {
            endings.clear();
            if self.transactions == Transactions::Savepoints {
                self.connection.execute_batch("BEGIN").expect("a transaction");
            }
            for request in requests {
                endings.push(Ending::of(request, self.bank.run(request).is_some()));
            }
            if self.transactions == Transactions::Savepoints {
                self.connection.execute_batch("COMMIT").expect("a commit");
            }
            queue.answer(&endings);
        }
        queue.served()
    }

    fn total(&mut self) -> Option<i64> {
        Some(self.bank.total())
    }
}
