//! Deletes: rows of blocks that no query sees any more. A request is worked out once, when it comes, to sets of row numbers;
//! readers skip these, and whoever writes a block anew leaves them out.

mod file;
mod request;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use roaring::RoaringBitmap;
use storage_api::Result;

use crate::block::{Block, Sequence};
use crate::store::DAMAGED_PREFIX;
pub(crate) use file::{Content, DAMAGED_FILE, DELETES_FILE, load};

/// Requests that are remembered after all their rows are gone.
const PROCESSED_MAX: usize = 1_000;

/// Rows of one block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BlockRows {
    pub(crate) sequence: Sequence,
    pub(crate) rows: Arc<RoaringBitmap>,
}

/// One delete. It never changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) id: u32,
    /// The query as it came.
    pub(crate) query: String,
    /// First and last timestamp, both inside.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// When it came.
    pub(crate) created: i64,
    /// How many records it deleted.
    pub(crate) records: u64,
    /// How many blocks held some of them.
    pub(crate) blocks: u64,
    /// Those that may still do, with their rows.
    pub(crate) left: Vec<BlockRows>,
}

/// The deletes of a store. Never changed: a new one takes its place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deletes {
    content: Content,
    by_block: HashMap<Sequence, Arc<RoaringBitmap>>,
    /// Some are lost with a damaged file.
    pub(crate) is_damaged: bool,
}

impl Deletes {
    fn new(content: Content, is_damaged: bool) -> Self {
        let mut by_block: HashMap<Sequence, Arc<RoaringBitmap>> = HashMap::new();
        for BlockRows { sequence, rows } in content.requests.iter().flat_map(|request| &request.left) {
            by_block
                .entry(*sequence)
                .and_modify(|have| *Arc::make_mut(have) |= &**rows)
                .or_insert_with(|| Arc::clone(rows));
        }
        Self { content, by_block, is_damaged }
    }

    /// Reads what is kept in `dir`.
    ///
    /// # Errors
    /// I/O. A damaged file is set aside.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let (content, is_damaged) = file::load_or_set_aside(dir)?;
        Ok(Self::new(content, is_damaged))
    }

    /// Returns the rows of a block that nobody sees.
    pub(crate) fn of(&self, block: Sequence) -> Option<&Arc<RoaringBitmap>> {
        self.by_block.get(&block)
    }

    /// Returns how many rows of a block nobody sees.
    pub(crate) fn rows_of(&self, block: Sequence) -> u64 {
        self.of(block).map_or(0, |rows| rows.len())
    }

    /// Returns the greatest number that blocks had.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.content.last_sequence
    }

    /// Returns the segment of the log before which nothing is needed.
    pub(crate) fn wal_before(&self) -> u64 {
        self.content.wal_before
    }

    /// Returns the same for other requests. What is said of a block whose folder is gone goes, and the oldest requests of
    /// which nothing is left beyond [`PROCESSED_MAX`].
    fn with(&self, requests: Vec<Arc<Request>>, blocks: &[Arc<Block>], dir: &Path) -> Self {
        let is_there = |sequence: Sequence| {
            let stands = |block: &Arc<Block>| block.meta().sequence.covers(sequence);
            match blocks.iter().find(|block| stands(block)) {
                Some(block) => block.meta().sequence == sequence,
                None => {
                    dir.join(sequence.to_string()).exists() || dir.join(format!("{DAMAGED_PREFIX}{sequence}")).exists()
                }
            }
        };
        let shorten = |request: Arc<Request>| {
            if request.left.iter().all(|left| is_there(left.sequence)) {
                return request;
            }
            let left = request.left.iter().filter(|left| is_there(left.sequence)).cloned().collect();
            Arc::new(Request { left, ..(*request).clone() })
        };
        let mut requests: Vec<Arc<Request>> = requests.into_iter().map(shorten).collect();
        let processed = requests.iter().filter(|request| request.left.is_empty()).count();
        let mut too_many = processed.saturating_sub(PROCESSED_MAX);
        requests.retain(|request| {
            let goes = too_many > 0 && request.left.is_empty();
            too_many -= usize::from(goes);
            !goes
        });
        let metas = || blocks.iter().map(|block| block.meta());
        let content = Content {
            requests,
            last_sequence: metas().map(|meta| meta.sequence.last).fold(self.content.last_sequence, u64::max),
            wal_before: metas().map(|meta| meta.wal_before).fold(self.content.wal_before, u64::max),
        };
        Self::new(content, self.is_damaged)
    }
}
