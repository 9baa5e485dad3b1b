//! What benchmarks measure beside the store as a whole; no part of the interface.

use crate::head::chunk::{self, Chunk};

/// Samples that are packed at a time.
pub const SAMPLES_PER_CHUNK: usize = chunk::SAMPLES_PER_CHUNK;

/// Samples of one series as the head keeps them.
#[derive(Debug)]
pub struct Packed(Chunk);

impl Packed {
    /// Packs samples, values by their bits.
    #[must_use]
    pub fn encode(samples: &[(i64, u64)], scratch: &mut Vec<u8>) -> Self {
        Self(Chunk::encode(samples, scratch))
    }

    /// Appends the samples to `times` and `values`.
    pub fn decode(&self, times: &mut Vec<i64>, values: &mut Vec<f64>) {
        self.0.decode(times, values);
    }
}
