//! The least that durability costs: records appended to a file, then `fdatasync`.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use smallbank::mix::Request;

use super::{DurableBank, Ending, Queue, Served};

/// What the file is like before records are appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Space {
    /// It grows with every record.
    Growing,
    /// It has been written before as far as it will get: a sync changes no size and no extents.
    Preallocated,
}

/// Written before a round of appends to a preallocated file, in bytes: more than a round's records.
const PREALLOCATED_BYTES: usize = 32 << 20;

/// A file to which records are appended.
#[derive(Debug)]
pub struct Appends {
    file: File,
    space: Space,
    /// What a round appends, by the place of the request; none for one that changes nothing.
    records: Vec<Option<Vec<u8>>>,
}

impl Appends {
    /// A file in `dir`, for the records of the requests of one round.
    ///
    /// # Panics
    ///
    /// When it can't be created.
    #[must_use]
    pub fn new(dir: &Path, space: Space, records: Vec<Option<Vec<u8>>>) -> Self {
        let path = dir.join(format!("appends-{space:?}").to_lowercase());
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).open(path).expect("a file");
        let mut appends = Self { file, space, records };
        if space == Space::Preallocated {
            appends.file.write_all(&vec![0x5a; PREALLOCATED_BYTES]).expect("space");
            appends.file.sync_all().expect("a sync");
        }
        appends
    }

    /// Bytes of a record, on average.
    #[must_use]
    pub fn record_bytes(&self) -> f64 {
        let (mut bytes, mut count) = (0, 0);
        for record in self.records.iter().flatten() {
            bytes += record.len();
            count += 1;
        }
        bytes as f64 / f64::from(count)
    }
}

impl DurableBank for Appends {
    /// One write and one sync for as many records as there are clients: with one client that is
    /// one sync per commit, with more the best that a group commit could do.
    fn serve(&mut self, clients: usize, requests: &[Request]) -> Served {
        let records = self.records.get(..requests.len()).expect("there are records for a round");
        if self.space == Space::Preallocated {
            self.file.seek(SeekFrom::Start(0)).expect("the start");
        }
        let (mut group, mut endings) = (Vec::new(), Vec::new());
        let mut queue = Queue::new(clients, requests.len());
        for records in records.chunks(clients) {
            group.clear();
            endings.clear();
            for record in records {
                group.extend_from_slice(record.as_deref().unwrap_or_default());
                endings.push(record.as_ref().map_or(Ending::Nothing, |_| Ending::Committed));
            }
            if !group.is_empty() {
                self.file.write_all(&group).expect("a write");
                self.file.sync_data().expect("a sync");
            }
            queue.answer(&endings);
        }
        queue.served()
    }

    fn total(&mut self) -> Option<i64> {
        None
    }
}
