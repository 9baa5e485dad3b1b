//! Writes a head to a block.

use std::path::Path;

use model::{Exemplar, Labels};
use rayon::prelude::*;
use runtime::CpuPool;
use storage_api::{MillisRange, Result};
use storage_wal::SegmentId;

use crate::block::{Block, BlockName, BlockWriter, NewBlock, exemplar_order};
use crate::compaction::series_order;
use crate::head::{Head, SeriesRef, same_exemplar};
use crate::mixed::Mixed;
use crate::options::Options;

/// Series that are decoded at a time, over all threads of the pool.
const SERIES_AT_A_TIME: usize = 256;

/// Writes a head that takes no more samples to a block; `None` when it has no sample.
pub(crate) fn write_head(
    dir: &Path,
    head: &Head,
    sequence: u64,
    first_needed: SegmentId,
    options: &Options,
    cpu: &CpuPool,
) -> Result<Option<Block>> {
    let name = BlockName { first: sequence, last: sequence, level: 0 };
    let new = NewBlock {
        name,
        wal_first_needed_segment: first_needed.0,
        is_decimal: head.samples() >= options.decimal_rows_min,
        row_group_rows: options.row_group_rows,
    };
    let mut all = head.all();
    if all.is_empty() {
        return Ok(None);
    }
    cpu.install(|| all.par_sort_unstable_by(|(a, _), (b, _)| series_order(a, b)));
    let mut writer = BlockWriter::create(dir, new, &options.faults)?;
    let decode = |(_, series): &(Labels, SeriesRef)| {
        let snapshot = head.snapshot(*series, MillisRange::ALL);
        let mixed = snapshot.map(|snapshot| snapshot.decode_mixed(MillisRange::ALL)).unwrap_or_default();
        let mut exemplars = head.exemplars_of(*series);
        exemplars.sort_by(exemplar_order);
        exemplars.dedup_by(|a, b| same_exemplar(a, b));
        (mixed, exemplars)
    };
    for some in all.chunks(SERIES_AT_A_TIME) {
        let decoded: Vec<(Mixed, Vec<Exemplar>)> = cpu.install(|| some.par_iter().map(decode).collect());
        for ((labels, _), (samples, exemplars)) in some.iter().zip(&decoded) {
            writer.begin_series(labels)?;
            writer.push_mixed(samples)?;
            exemplars.iter().try_for_each(|exemplar| writer.push_exemplar(exemplar))?;
        }
    }
    match writer.finish()? {
        Some(path) => Block::open(&path, name).map(Some),
        None => Ok(None),
    }
}
