//! A write-ahead log: records of bytes in segment files, each checksummed, each on disk before it is acknowledged.
//!
//! It knows bytes, not signals: what a record means is up to the store that appends it. Callers that append at the same
//! time share one write and one fsync. The log is bounded by its user, who [cuts](Wal::cut) it when the records so far
//! are about to become durable elsewhere, and [removes](Wal::remove_before) the segments below the cut once they are.
//!
//! ```
//! # fn main() -> Result<(), storage_wal::Error> {
//! # let dir = tempfile::tempdir().unwrap();
//! use storage_wal::{Error, Options, Wal};
//!
//! let (wal, _) = Wal::open::<Error>(dir.path(), Options::default(), &mut |_, _| Ok(()))?;
//! wal.append(b"one")?;
//! let cut = wal.cut()?;
//! wal.append(b"two")?;
//! wal.remove_before(cut)?;
//! drop(wal);
//!
//! let mut records = Vec::new();
//! Wal::open::<Error>(dir.path(), Options::default(), &mut |_, record| {
//!     records.push(record.to_vec());
//!     Ok(())
//! })?;
//! assert_eq!(records, [b"two"]);
//! # Ok(())
//! # }
//! ```
//!
//! After a failed write the log is as before the call. After a failed fsync nobody knows what is on disk, so it refuses
//! records until it is opened again. Layout and recovery: `docs/format/wal.md`.

mod check;
mod error;
mod fault;
mod files;
mod format;
mod reader;
mod replay;
mod wal;

#[cfg(test)]
mod tests;

pub use check::{CheckReport, check};
pub use error::{Error, Result};
pub use fault::Faults;
pub use files::segment_path;
pub use replay::{Damage, Replay, ReplayReport};
pub use wal::{Commit, Observer, Options, Position, RECORD_BYTES_LIMIT, SegmentId, SegmentInfo, Wal};
