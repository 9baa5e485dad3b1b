//! What a selection would read, before it does: the same choice of blocks and pages, without reading them.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Labels, TimeRange};
use storage_api::{LogBlockPlan, LogPart, LogPlan, LogSelect, LogTallySelect, QueryContext, Result};

use crate::LogStore;
use crate::block::{Block, Detail};
use crate::part::BlockPart;
use crate::query::{block_parts, passes};
use crate::store::State;
use crate::tally::{Borders, plan};

impl LogStore {
    pub(crate) fn plan_rows(&self, select: &LogSelect, context: &QueryContext) -> Result<LogPlan> {
        let range = self.visible(select.range);
        let state = self.snapshot(context);
        let detail = Detail::new(select.with_metadata, select.without_lines);
        let of_block = |block: &Arc<Block>| {
            let parts = block_parts(block, select, range, state.deleted_of(block));
            let mut found = about(block, &select.matchers, range);
            found.by_index = block.candidates(&select.needles).is_some();
            add_parts(block, &parts, detail, &mut found, &mut BTreeSet::new())?;
            Ok(found)
        };
        let mut found = of_blocks(&state, range, context, of_block)?;
        for head in state.heads() {
            for part in head.parts(range, |labels: &Labels| passes(labels, &select.matchers), &[], detail) {
                found.head_records += part.rows_max();
            }
        }
        Ok(found)
    }

    pub(crate) fn plan_tally_rows(&self, select: &LogTallySelect, context: &QueryContext) -> Result<LogPlan> {
        let range = self.visible(select.range);
        let state = self.snapshot(context);
        let borders = Borders::new(&select.cuts, range);
        let of_block = |block: &Arc<Block>| {
            let plan = plan(block, select, &borders, state.deleted_of(block));
            let mut found = about(block, &select.matchers, range);
            found.records_counted = plan.records;
            let mut pages = BTreeSet::new();
            for number in plan.runs.iter().flat_map(|run| run.pages.clone()) {
                if pages.insert(number) {
                    let first_row = block.catalog().pages.get(number).map_or(0, |page| page.first_row);
                    found.records_read += u64::from(block.catalog().page_end(number).saturating_sub(first_row));
                    found.bytes_read += block.stored_bytes(number, Detail::Severities)?;
                }
            }
            add_parts(block, &plan.parts, Detail::Metadata, &mut found, &mut pages)?;
            Ok(found)
        };
        let mut found = of_blocks(&state, range, context, of_block)?;
        for head in state.heads() {
            for part in head.parts(range, |labels: &Labels| passes(labels, &select.matchers), &[], Detail::Metadata) {
                found.head_records += part.rows_max();
            }
        }
        Ok(found)
    }
}

fn of_blocks(
    state: &State,
    range: TimeRange,
    context: &QueryContext,
    of_block: impl Fn(&Arc<Block>) -> Result<LogBlockPlan>,
) -> Result<LogPlan> {
    let mut found = LogPlan::default();
    for block in &state.blocks {
        context.check()?;
        if range.is_empty() || !block.overlaps(range) {
            found.blocks_outside += 1;
            continue;
        }
        match of_block(block) {
            Ok(plan) => found.blocks.push(plan),
            Err(error) => block.do_without_rows(error, context)?,
        }
    }
    Ok(found)
}

/// Tells what is selected of a block, whatever of it is read.
fn about(block: &Arc<Block>, matchers: &[model::Matcher], range: TimeRange) -> LogBlockPlan {
    let all = LogSelect {
        matchers: matchers.to_vec(),
        range,
        needles: Vec::new(),
        with_metadata: false,
        without_lines: true,
    };
    let parts = block_parts(block, &all, range, None);
    let streams: BTreeSet<&Labels> = parts.iter().map(LogPart::stream).collect();
    let pages: BTreeSet<usize> = parts.iter().flat_map(|part| pages_of(block, part)).collect();
    LogBlockPlan {
        name: block.meta().sequence.to_string(),
        records: block.meta().rows,
        pages: block.meta().pages,
        streams: streams.len() as u64,
        pages_inside: pages.len() as u64,
        ..LogBlockPlan::default()
    }
}

fn pages_of(block: &Block, part: &BlockPart) -> std::ops::RangeInclusive<usize> {
    let rows = part.block_rows();
    block.catalog().page_of(rows.start)..=block.catalog().page_of(rows.end.saturating_sub(1))
}

/// Adds what parts read; `pages` are those that are counted already.
fn add_parts(
    block: &Arc<Block>,
    parts: &[BlockPart],
    detail: Detail,
    found: &mut LogBlockPlan,
    pages: &mut BTreeSet<usize>,
) -> Result<()> {
    for part in parts {
        found.records_read += part.rows_max();
        for number in pages_of(block, part) {
            if pages.insert(number) {
                found.bytes_read += block.stored_bytes(number, detail)?;
            }
        }
    }
    found.pages_read = pages.len() as u64;
    Ok(())
}
