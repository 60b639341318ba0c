//! How a store is opened.

use super::Durability;
use super::log::BLOCK_BYTES;
use crate::base::limits::{COMPACT_BYTES_MIN, PART_BYTES_MAX, RETAIN_TOTAL_BYTES};

/// Bytes of redb's cache by default: the upper levels of the tree and the pages of a group.
const CACHE_BYTES_DEFAULT: usize = 16 << 20;

/// Bytes of the log by default: some seconds of a busy host, and a moment to read after a crash.
const LOG_BYTES_DEFAULT: u64 = 32 << 20;

/// How to open a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Bytes of redb's cache.
    pub cache_bytes: usize,
    /// Bytes of the log in front of the tables; at least [`Self::LOG_BYTES_MIN`].
    pub log_bytes: u64,
    /// Compare the checksums of every page before the first append, so that nothing is written
    /// into a tree that is rotten. Reads the whole file.
    pub check_pages: bool,
    /// Commits of each daemon that are kept as records, for history and reverting.
    pub retain_commits: u64,
    /// Bytes of records per daemon over which fewer are kept.
    pub retain_bytes: u64,
    /// Bytes of records of all daemons over which each keeps only its share.
    pub retain_total_bytes: u64,
    /// Bytes of a whole state in one record; a larger one takes several.
    pub part_bytes: usize,
    /// Bytes of tables that are not worth compacting.
    pub compact_bytes_min: u64,
}

impl StoreOptions {
    /// Bytes of the smallest log.
    pub const LOG_BYTES_MIN: u64 = 16 * BLOCK_BYTES;

    /// Bytes of the log, whole blocks.
    pub(super) fn ring(&self) -> u64 {
        self.log_bytes.max(Self::LOG_BYTES_MIN) / BLOCK_BYTES * BLOCK_BYTES
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            cache_bytes: CACHE_BYTES_DEFAULT,
            log_bytes: LOG_BYTES_DEFAULT,
            check_pages: true,
            retain_commits: super::fold::RETAIN_COMMITS,
            retain_bytes: super::fold::RETAIN_BYTES,
            retain_total_bytes: RETAIN_TOTAL_BYTES,
            part_bytes: PART_BYTES_MAX,
            compact_bytes_min: COMPACT_BYTES_MIN,
        }
    }
}
