//! Checks a block: every byte of its files, and that they tell the same.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use model::Labels;
use storage_api::{Finding, Findings, MillisRange, Result};

use super::extras::table::Table;
use super::file::CheckedFile;
use super::meta::META_FILE;
use super::writer::labels_json;
use super::{Block, BlockCursor, BlockName, SAMPLES_FILE};
use crate::compaction::series_order;
use crate::error::corrupt;
use crate::postings::Postings;

/// Rows that other programs read, decoded at a time.
const BATCH_ROWS: usize = 8_192;
/// Most damaged places that are told of one block; behind them the rest is damaged in the same way.
const PLACES_MAX: usize = 16;

/// Checks the block in `dir`, and returns how many samples it has. Nothing is changed.
pub(crate) fn verify_block(dir: &Path, name: BlockName, found: Findings<'_>) -> u64 {
    let block = match Block::open(dir, name) {
        Ok(block) => block,
        Err(error) => {
            found(Finding::of(&error, dir));
            return 0;
        }
    };
    let damaged = Cell::new(false);
    let mut tell = |finding: Finding| {
        damaged.set(damaged.get() || finding.is_damage);
        found(finding);
    };
    check_files(&block, &mut tell);
    let tables = [&block.extras.histograms, &block.extras.starts, &block.extras.exemplars];
    let tables = tables.into_iter().flatten().map(Table::file);
    for file in std::iter::once(&block.samples).chain(tables) {
        check_extents(file, &mut tell);
    }
    if !damaged.get() {
        // What follows reads the rows: damage that was told would be told again.
        let checks: [fn(&Block) -> Result<()>; 4] = [check_series, check_postings, check_columns, check_exemplars];
        for check in checks {
            if let Err(error) = check(&block) {
                tell(Finding::of(&error, dir));
            }
        }
    }
    block.meta.all_samples()
}

/// Looks for files that are missing, or that nobody knows.
fn check_files(block: &Block, tell: Findings<'_>) {
    for file in &block.meta.files {
        let path = block.dir.join(&file.name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == file.size_bytes => {}
            Ok(metadata) => {
                let reason = format!("it has {} bytes, meta.json says {}", metadata.len(), file.size_bytes);
                tell(Finding::damage(path, reason));
            }
            Err(error) => tell(Finding::damage(path, format!("reading failed: {error}"))),
        }
    }
    for entry in fs::read_dir(&block.dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name != META_FILE && !block.meta.files.iter().any(|file| *file.name == *name) {
            tell(Finding::note(entry.path(), "not a file of this block"));
        }
    }
}

fn check_extents(file: &CheckedFile, tell: Findings<'_>) {
    let mut count = 0;
    let result = file.check_all(&mut |reason| {
        count += 1;
        if count <= PLACES_MAX {
            tell(Finding::damage(&file.path, reason));
        }
    });
    if let Err(error) = result {
        tell(Finding::damage(&file.path, format!("reading failed: {error}")));
    }
    if count > PLACES_MAX {
        tell(Finding::damage(&file.path, format!("{} more places are damaged", count - PLACES_MAX)));
    }
}

/// Checks that series ascend, and that each has the rows and times that the index says.
fn check_series(block: &Block) -> Result<()> {
    let bad = |labels: &Labels, reason: String| corrupt(&block.dir, format!("series {labels}: {reason}"));
    let mut cursor = BlockCursor::new(block, None)?;
    let mut last: Option<Labels> = None;
    let (mut numbers, mut histograms) = (0_u64, 0_u64);
    let mut whole: Option<MillisRange> = None;
    while let Some(labels) = cursor.labels.clone() {
        if last.as_ref().is_some_and(|last| series_order(last, &labels).is_ge()) {
            return Err(bad(&labels, "it does not follow the one before".to_owned()));
        }
        let series = cursor.series();
        let entry = block.index.entry(series)?;
        if entry.first_row != numbers {
            return Err(bad(&labels, format!("its first row is {}, expected {numbers}", entry.first_row)));
        }
        let mut times: Vec<i64> = Vec::new();
        if let Some(extras) = &mut cursor.extras {
            while let Some(sample) = extras.next_histogram(series)? {
                times.push(sample.timestamp_ms);
            }
        }
        histograms += times.len() as u64;
        if !times.is_sorted_by(|a, b| a < b) {
            return Err(bad(&labels, "the times of its histograms do not ascend".to_owned()));
        }
        let mut range = times.first().zip(times.last()).map(|(min, max)| (*min, *max));
        let (mut rows, mut before) = (0_u64, None);
        while cursor.next_batch()? {
            for time in &cursor.batch.0 {
                if before.is_some_and(|before| before >= *time) {
                    return Err(bad(&labels, format!("the time {time} does not follow the one before")));
                }
                if times.binary_search(time).is_ok() {
                    return Err(bad(&labels, format!("there are a number and a histogram at {time}")));
                }
                if let Some(extras) = &mut cursor.extras {
                    extras.start_ms(series, *time)?;
                }
                before = Some(*time);
                range = Some(range.map_or((*time, *time), |(min, max)| (min.min(*time), max.max(*time))));
            }
            rows += cursor.batch.0.len() as u64;
        }
        if rows != entry.rows || range != Some((entry.min_ms, entry.max_ms)) {
            let got = format!("{rows} rows from {range:?}");
            return Err(bad(
                &labels,
                format!("{got}, expected {} from {:?}", entry.rows, (entry.min_ms, entry.max_ms)),
            ));
        }
        numbers += rows;
        let MillisRange { min_ms, max_ms } = whole.unwrap_or(entry.range());
        whole = Some(MillisRange { min_ms: min_ms.min(entry.min_ms), max_ms: max_ms.max(entry.max_ms) });
        last = Some(labels);
        cursor.next_series()?;
    }
    let meta = &block.meta;
    if (numbers, histograms) != (meta.samples, meta.histograms) {
        let expected = format!("{} and {}", meta.samples, meta.histograms);
        return Err(corrupt(&block.dir, format!("{numbers} numbers and {histograms} histograms, expected {expected}")));
    }
    // Exemplars may lie outside of the samples' times.
    let is_inside = |range: MillisRange| meta.min_time_ms <= range.min_ms && range.max_ms <= meta.max_time_ms;
    let is_right = match whole {
        Some(range) if meta.exemplars == 0 => range == meta.range(),
        Some(range) => is_inside(range),
        None => meta.exemplars > 0,
    };
    if is_right { Ok(()) } else { Err(corrupt(&block.dir, "its times are not those in meta.json")) }
}

/// Checks that every label leads to its series, and to no other.
fn check_postings(block: &Block) -> Result<()> {
    let index = &block.index;
    let mut expected = 0_u64;
    for series in 0..index.series_len() {
        let labels = index.labels(&index.entry(series)?)?;
        expected += labels.len() as u64;
        for (name, value) in labels.iter() {
            if !index.equal(name, value)?.contains(series) {
                return Err(corrupt(&block.dir, format!("the label {name}={value:?} does not lead to {labels}")));
            }
        }
    }
    let mut got = 0_u64;
    for name in index.names() {
        // Values are disjoint: the series that have the name at all are as many as those of each value together.
        let mut of_name = 0;
        for value in index.values(name, &mut |_| true)? {
            of_name += index.equal(name, &value)?.len();
        }
        got += of_name;
    }
    match got == expected {
        true => Ok(()),
        false => Err(corrupt(&block.dir, format!("labels lead to {got} series, expected {expected}"))),
    }
}

/// The columns of `samples.parquet`.
const COLUMNS: [&str; 8] = ["metric", "labels", "series", "timestamp", "value", "mantissa", "factor", "divisor"];

/// The columns of a batch for other programs.
struct Columns<'b> {
    metric: &'b StringArray,
    labels: &'b StringArray,
    series: &'b UInt32Array,
    timestamp: &'b TimestampMillisecondArray,
    value: &'b Float64Array,
    mantissa: &'b Int64Array,
    factor: &'b Int64Array,
    divisor: &'b Int64Array,
}

impl<'b> Columns<'b> {
    fn of(table: &Table, batch: &'b RecordBatch) -> Result<Self> {
        Ok(Self {
            metric: table.column(batch, "metric")?,
            labels: table.column(batch, "labels")?,
            series: table.column(batch, "series")?,
            timestamp: table.column(batch, "timestamp")?,
            value: table.column(batch, "value")?,
            mantissa: table.column(batch, "mantissa")?,
            factor: table.column(batch, "factor")?,
            divisor: table.column(batch, "divisor")?,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "both are exact as doubles")]
    fn value(&self, row: usize) -> f64 {
        if self.value.is_valid(row) {
            return self.value.value(row);
        }
        self.mantissa.value(row).wrapping_mul(self.factor.value(row)) as f64 / self.divisor.value(row) as f64
    }
}

/// Checks that the columns which only other programs read tell what we read.
fn check_columns(block: &Block) -> Result<()> {
    let bad =
        |row: u64, what: &str| corrupt(&block.dir.join(SAMPLES_FILE), format!("the {what} of row {row} is wrong"));
    let table = Table::new(Arc::clone(&block.samples), &[]);
    let mut cursor = BlockCursor::new(block, None)?;
    let (mut at, mut row) = (0_usize, 0_u64);
    // (metric, labels) of the series that `told` is the number of.
    let mut told: Option<(u32, String, String)> = None;
    for batch in table.scan(&COLUMNS, BATCH_ROWS)? {
        let batch = batch.map_err(|error| table.bad(error))?;
        let columns = Columns::of(&table, &batch)?;
        for i in 0..batch.num_rows() {
            while at >= cursor.batch.0.len() {
                at = 0;
                if !cursor.next_batch()? {
                    cursor.next_series()?;
                    if cursor.labels.is_none() {
                        return Err(bad(row, "series"));
                    }
                }
            }
            let (Some(labels), Some(time), Some(value)) =
                (&cursor.labels, cursor.batch.0.get(at), cursor.batch.1.get(at))
            else {
                return Err(bad(row, "series"));
            };
            let series = cursor.series();
            if told.as_ref().is_none_or(|told| told.0 != series) {
                told = Some((series, labels.metric_name().to_owned(), labels_json(labels)));
            }
            let Some((_, metric, json)) = &told else { continue };
            for (is_right, what) in [
                (columns.series.value(i) == series, "series"),
                (columns.metric.value(i) == metric, "metric"),
                (columns.labels.value(i) == json, "label set"),
                (columns.timestamp.value(i) == *time, "timestamp"),
                (columns.value(i).to_bits() == value.to_bits(), "value"),
            ] {
                if !is_right {
                    return Err(bad(row, what));
                }
            }
            at += 1;
            row += 1;
        }
    }
    match row == block.meta.samples {
        true => Ok(()),
        false => Err(corrupt(&block.dir.join(SAMPLES_FILE), format!("{row} rows, expected {}", block.meta.samples))),
    }
}

/// Checks that exemplars ascend and are as many as they should be.
fn check_exemplars(block: &Block) -> Result<()> {
    let mut cursor = BlockCursor::new(block, None)?;
    let Some(extras) = &mut cursor.extras else {
        return match block.meta.exemplars {
            0 => Ok(()),
            count => Err(corrupt(&block.dir, format!("there is no exemplar, expected {count}"))),
        };
    };
    let (mut count, mut last) = (0_u64, None);
    while let Some((labels, exemplar)) = extras.exemplar()?.cloned() {
        let follows = |(last_labels, last): &(Labels, model::Exemplar)| {
            series_order(last_labels, &labels).then_with(|| super::exemplar_order(last, &exemplar)).is_lt()
        };
        if !last.as_ref().is_none_or(follows) {
            return Err(corrupt(&block.dir, format!("an exemplar of {labels} does not follow the one before")));
        }
        if !block.meta.range().contains(exemplar.sample.timestamp_ms) {
            return Err(corrupt(&block.dir, format!("an exemplar of {labels} lies outside of the block's times")));
        }
        count += 1;
        extras.next_exemplar()?;
        last = Some((labels, exemplar));
    }
    match count == block.meta.exemplars {
        true => Ok(()),
        false => Err(corrupt(&block.dir, format!("{count} exemplars, expected {}", block.meta.exemplars))),
    }
}
