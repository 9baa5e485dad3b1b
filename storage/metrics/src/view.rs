//! What a query sees: the heads and blocks of one moment.

use std::sync::Arc;

use storage_wal::SegmentId;

use crate::block::{Block, DamagedBlock};
use crate::head::Head;
use crate::tombstones::Tombstones;

/// A head that takes no more samples and is on its way into a block.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) head: Arc<Head>,
    /// Its samples lie in WAL segments before this one.
    pub(crate) cut: SegmentId,
}

/// Heads and blocks. Never changed: a new one takes its place.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) head: Arc<Head>,
    pub(crate) frozen: Option<Frozen>,
    /// From the oldest write to the newest; the heads come after.
    pub(crate) blocks: Vec<Arc<Block>>,
    pub(crate) damaged: Vec<DamagedBlock>,
    /// What is deleted of the blocks; nothing is of the heads.
    pub(crate) tombstones: Arc<Tombstones>,
}

/// A place where samples lie. Of two samples for one time the one of the later source wins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Block(&'a Arc<Block>),
    Head(&'a Arc<Head>),
}

impl View {
    /// Returns all places, the oldest write first.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Source<'_>> {
        let frozen = self.frozen.iter().map(|frozen| Source::Head(&frozen.head));
        self.blocks.iter().map(Source::Block).chain(frozen).chain([Source::Head(&self.head)])
    }

    /// Returns the memory of the heads.
    pub(crate) fn head_bytes(&self) -> u64 {
        self.head.size_bytes() + self.frozen.as_ref().map_or(0, |frozen| frozen.head.size_bytes())
    }
}
