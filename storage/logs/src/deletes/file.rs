//! `deletes.idx` beside the blocks: the requests, and which rows of which blocks they mean. Layout:
//! docs/format/logs-deletes.md.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use roaring::RoaringBitmap;
use storage_api::{Error, Result};

use super::{BlockRows, Request};
use crate::block::{Sequence, corrupt, rename, seal, sync_dir, unseal, write_file};
use crate::codec::{Input, Malformed, put_bytes, put_i64, put_text, put_u32, put_varint};

/// The file's name.
pub(crate) const DELETES_FILE: &str = "deletes.idx";
/// What a damaged file is called once it was set aside. As long as it is there, answers carry a warning.
pub(crate) const DAMAGED_FILE: &str = "deletes.damaged";
/// What the file is called while it is written; removed with all that is unfinished.
const TEMPORARY_FILE: &str = "tmp-deletes";
/// The first bytes: magic and version.
const MAGIC: [u8; 8] = *b"DBKLDEL1";
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What the file holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) requests: Vec<Arc<Request>>,
    /// The greatest number that a block had: later ones have greater numbers, even when no block is left.
    pub(crate) last_sequence: u64,
    /// The greatest of the blocks' `wal_before`: what is before it in the log is in no block any more, or still in one.
    pub(crate) wal_before: u64,
}

impl Content {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.last_sequence);
        put_varint(&mut out, self.wal_before);
        put_varint(&mut out, self.requests.len() as u64);
        for request in &self.requests {
            put_u32(&mut out, request.id);
            put_text(&mut out, &request.query);
            for time in [request.start, request.end, request.created] {
                put_i64(&mut out, time);
            }
            put_varint(&mut out, request.records);
            put_varint(&mut out, request.blocks);
            put_varint(&mut out, request.left.len() as u64);
            for BlockRows { sequence, rows } in &request.left {
                put_varint(&mut out, sequence.first);
                put_varint(&mut out, sequence.last);
                put_varint(&mut out, u64::from(sequence.rewrite));
                let mut bytes = Vec::with_capacity(rows.serialized_size());
                // Writing to memory does not fail.
                if rows.serialize_into(&mut bytes).is_ok() {
                    put_bytes(&mut out, &bytes);
                }
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(bytes);
        let (last_sequence, wal_before) = (input.varint()?, input.varint()?);
        let mut requests = Vec::new();
        for _ in 0..input.count(32)? {
            let (id, query) = (input.u32()?, input.text()?.to_owned());
            let (start, end, created) = (input.i64()?, input.i64()?, input.i64()?);
            let (records, blocks) = (input.varint()?, input.varint()?);
            let mut left = Vec::new();
            for _ in 0..input.count(4)? {
                let (first, last) = (input.varint()?, input.varint()?);
                let rewrite = u32::try_from(input.varint()?).map_err(|_| Malformed("a small number of rewrites"))?;
                let rows = RoaringBitmap::deserialize_from(input.bytes()?).map_err(|_| Malformed("a set of rows"))?;
                left.push(BlockRows { sequence: Sequence { first, last, rewrite }, rows: Arc::new(rows) });
            }
            requests.push(Arc::new(Request { id, query, start, end, created, records, blocks, left }));
        }
        input.end()?;
        Ok(Self { requests, last_sequence, wal_before })
    }
}

/// Reads the file in `dir`; none is no delete.
///
/// # Errors
/// I/O, and a file that does not hold what it should.
pub(crate) fn load(dir: &Path) -> Result<Content> {
    let path = dir.join(DELETES_FILE);
    let reading = |source| Error::io("reading", &path, source);
    let size = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        found => found.map_err(reading)?.len(),
    };
    if size > FILE_BYTES_MAX {
        return Err(corrupt(&path, format!("it has {size} bytes, the most is {FILE_BYTES_MAX}")));
    }
    let content = unseal(MAGIC, &path, &fs::read(&path).map_err(reading)?)?;
    Content::decode(&content).map_err(|error| corrupt(&path, format!("expected {}", error.0)))
}

/// Reads the file in `dir`, and sets a damaged one aside. Says whether one is.
///
/// # Errors
/// I/O.
pub(crate) fn load_or_set_aside(dir: &Path) -> Result<(Content, bool)> {
    let aside = dir.join(DAMAGED_FILE);
    let content = match load(dir) {
        Err(error @ Error::Corrupt { .. }) => {
            tracing::error!(%error, "the list of deletes is damaged: deleted log lines may be shown again");
            let path = dir.join(DELETES_FILE);
            rename(&path, &aside)?;
            sync_dir(dir)?;
            Content::default()
        }
        content => content?,
    };
    Ok((content, aside.exists()))
}

/// Replaces the file in `dir`.
///
/// # Errors
/// Disk full and other I/O; the old file is there then.
pub(crate) fn store(dir: &Path, content: &Content) -> Result<()> {
    let (temporary, path) = (dir.join(TEMPORARY_FILE), dir.join(DELETES_FILE));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("removing", &temporary, error));
        }
        _ => {}
    }
    let bytes = seal(MAGIC, &content.encode()).map_err(|source| Error::io("encoding", &path, source))?;
    write_file(&temporary, &bytes)?;
    rename(&temporary, &path)?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        let sequence = Sequence::new(1, 3).rewritten();
        let left = vec![BlockRows { sequence, rows: Arc::new((5..5000).step_by(7).collect()) }];
        let request = Request {
            id: 0xdead_beef,
            query: "{app=\"x\"} |= \"결제\"".to_owned(),
            start: -5,
            end: 77,
            created: 99,
            records: 714,
            blocks: 2,
            left,
        };
        Content { requests: vec![Arc::new(request)], last_sequence: 9, wal_before: 12 }
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().requests.is_empty());
        store(dir.path(), &Content::default()).unwrap();
        store(dir.path(), &content()).unwrap();
        let (found, is_damaged) = load_or_set_aside(dir.path()).unwrap();
        assert!(!is_damaged);
        assert_eq!((found.last_sequence, found.wal_before), (9, 12));
        assert_eq!(found.requests, content().requests);
    }

    #[test]
    fn the_file_of_an_earlier_version_is_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1-deletes");
        let found = load(&dir).unwrap();
        assert_eq!((found.last_sequence, found.wal_before), (9, 12));
        assert_eq!(found.requests, content().requests);
    }

    #[test]
    fn any_flipped_byte_and_any_cut_is_seen_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DELETES_FILE);
        store(dir.path(), &content()).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(load(dir.path()), Err(Error::Corrupt { .. })), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(load(dir.path()), Err(Error::Corrupt { .. })), "cut at {at}");
        }
        let (found, is_damaged) = load_or_set_aside(dir.path()).unwrap();
        assert!(is_damaged && found.requests.is_empty() && !path.exists());
        assert!(load_or_set_aside(dir.path()).unwrap().1, "as long as it is there");
    }

    #[test]
    fn any_bytes_under_a_right_checksum_are_an_answer_or_an_error() {
        let whole = content().encode();
        for at in 0..whole.len() {
            assert!(Content::decode(&whole[..at]).is_err(), "cut at {at}");
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                drop(Content::decode(&bytes));
            }
        }
    }
}
