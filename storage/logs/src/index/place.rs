//! Where an index lies: in memory, or in a file of which only what is asked for is read.

use std::fmt;

use bytes::Bytes;
use storage_api::Result;

use super::Unusable;
use crate::codec::Malformed;

/// Reads parts of a file, verified.
pub(crate) trait ReadAt: fmt::Debug + Send + Sync {
    /// Reads `length` bytes from `start` on.
    fn read_at(&self, start: u64, length: usize) -> Result<Bytes>;
}

/// An index as it was encoded.
#[derive(Debug)]
pub(crate) enum Place {
    Memory(Bytes),
    /// A file of so many bytes.
    File(Box<dyn ReadAt>, u64),
}

impl From<Bytes> for Place {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl From<Vec<u8>> for Place {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

impl Place {
    /// Returns how long the index is.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// Returns the memory that it takes.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(_, length) => usize::try_from(*length >> 12).unwrap_or(usize::MAX),
        }
    }

    /// Returns `length` bytes from `start` on.
    pub(super) fn get(&self, start: u64, length: usize) -> std::result::Result<Bytes, Unusable> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.length());
        let end = end.ok_or(Malformed("a part inside the file"))?;
        match self {
            Self::Memory(bytes) => {
                let place = |at: u64| usize::try_from(at).map_err(|_| Malformed("a part inside the file"));
                Ok(bytes.slice(place(start)?..place(end)?))
            }
            Self::File(file, _) => Ok(file.read_at(start, length)?),
        }
    }
}
