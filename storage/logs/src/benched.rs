//! What benchmarks measure beside the store as a whole; no part of the interface.

use std::path::Path;

use storage_api::LogBatch;

use crate::codec::{BatchWriter, NO_HASH, Packers, encode_origin, encode_stream};
use crate::index::IndexBuilder;

/// Encodes batches as an append does, without tests of any limit.
#[derive(Debug, Default)]
pub struct Encoder {
    packers: Packers,
}

impl Encoder {
    /// Encodes and compresses a batch; returns its bytes in the write-ahead log.
    #[must_use]
    pub fn encode(&self, batch: &LogBatch) -> usize {
        let mut writer = BatchWriter::new(0, &self.packers);
        for group in &batch.groups {
            writer.begin_group(&encode_stream(&group.stream), &encode_origin(&group.resource, &group.scope));
            for record in &group.records {
                let Ok(()) = writer.push::<std::convert::Infallible>(record, |_| Ok(()));
            }
        }
        writer.finish(NO_HASH).map_or(0, |(bytes, _)| bytes.len())
    }
}

/// Makes the three indexes of a block, page by page.
pub struct Tokenizer(IndexBuilder);

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Starts the indexes of a block; `dir` is empty.
    ///
    /// # Errors
    /// When the index of words cannot be made.
    pub fn create(dir: &Path) -> Result<Self, String> {
        IndexBuilder::create(dir).map(Self).map_err(|error| error.to_string())
    }

    /// Adds a page.
    ///
    /// # Errors
    /// When the words cannot be written.
    pub fn page(&mut self, lines: &[String]) -> Result<(), String> {
        lines.iter().for_each(|line| self.0.push_line(line));
        self.0.finish_page().map_err(|error| error.to_string())
    }
}
