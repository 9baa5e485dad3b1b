//! Checks a block: every byte of its files, and that they tell the same.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use model::Labels;
use roaring::RoaringBitmap;
use storage_api::{Finding, Findings, MillisRange, Result};

use super::extras::ExtrasCursor;
use super::extras::starts::StartRow;
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
        let mut runs = Runs { series, open: None };
        while cursor.next_batch()? {
            for time in &cursor.batch.0 {
                if before.is_some_and(|before| before >= *time) {
                    return Err(bad(&labels, format!("the time {time} does not follow the one before")));
                }
                if times.binary_search(time).is_ok() {
                    return Err(bad(&labels, format!("there are a number and a histogram at {time}")));
                }
                if let Some(extras) = &mut cursor.extras {
                    runs.take(extras, *time)?.map_err(|reason| bad(&labels, reason))?;
                }
                before = Some(*time);
                range = Some(range.map_or((*time, *time), |(min, max)| (min.min(*time), max.max(*time))));
            }
            rows += cursor.batch.0.len() as u64;
        }
        if let Some(extras) = &mut cursor.extras {
            runs.end(extras)?.map_err(|reason| bad(&labels, reason))?;
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
    if let Some(extras) = &mut cursor.extras
        && let Some((series, _)) = extras.next_run(|_, _| true)?
    {
        return Err(corrupt(&block.dir, format!("there are start times of series {series}, which is not there")));
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

/// Checks that the start times of a series belong to its numbers.
struct Runs {
    series: u32,
    /// The run that numbers were found of, and how many.
    open: Option<(StartRow, u64)>,
}

impl Runs {
    /// Takes the next number's time; the inner error says what is wrong.
    fn take(&mut self, extras: &mut ExtrasCursor<'_>, time: i64) -> Result<std::result::Result<(), String>> {
        if self.open.is_none() {
            let Some((series, row)) =
                extras.next_run(|of, row| of < self.series || (of == self.series && row.first_ms <= time))?
            else {
                return Ok(Ok(()));
            };
            if series != self.series {
                return Ok(Err(format!("there are start times of series {series} before its own")));
            }
            if row.first_ms != time {
                return Ok(Err(format!("start times from {} on, where it has no number", row.first_ms)));
            }
            self.open = Some((row, 0));
        }
        let Some((row, count)) = &mut self.open else { return Ok(Ok(())) };
        *count += 1;
        if time > row.last_ms {
            return Ok(Err(format!("start times up to {}, where it has no number", row.last_ms)));
        }
        if time == row.last_ms {
            if *count != row.samples {
                return Ok(Err(format!("start times of {} numbers, but there are {count}", row.samples)));
            }
            self.open = None;
        }
        Ok(Ok(()))
    }

    /// Ends the series.
    fn end(&mut self, extras: &mut ExtrasCursor<'_>) -> Result<std::result::Result<(), String>> {
        let late = extras.next_run(|of, _| of <= self.series)?.map(|(_, row)| row);
        Ok(match self.open.map(|(row, _)| row).or(late) {
            Some(row) => Err(format!("start times up to {}, where it has no number", row.last_ms)),
            None => Ok(()),
        })
    }
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
        for value in index.values(name, &RoaringBitmap::full())? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockWriter, NewBlock};

    /// Writes a block of two series with numbers from 1 to 9 at the times that are numbers of ms, and with start times.
    fn found(starts: &[(i64, i64)], more: &[(i64, i64)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let name = BlockName { first: 1, last: 1, level: 0 };
        let new = NewBlock { name, wal_first_needed_segment: 0, is_decimal: true, row_group_rows: 1_000 };
        let mut writer = BlockWriter::create(dir.path(), new, &storage_wal::Faults::default()).unwrap();
        for (metric, starts) in [("a", starts), ("b", more)] {
            writer.begin_series(&Labels::from_pairs([("__name__", metric)])).unwrap();
            for time in 1..10 {
                writer.push(&[time], &[1.0]).unwrap();
            }
            starts.iter().for_each(|(time, start)| writer.push_start(*time, *start).unwrap());
        }
        let path = writer.finish().unwrap().unwrap();
        let mut findings = String::new();
        verify_block(&path, name, &mut |finding| {
            assert!(finding.is_damage);
            findings.push_str(&finding.reason);
        });
        findings
    }

    #[test]
    fn start_times_belong_to_numbers() {
        let run = |from: i64, to: i64, start: i64| (from..=to).map(move |at| (at, start)).collect::<Vec<_>>();
        assert_eq!(found(&run(1, 9, 5), &[]), "");
        assert_eq!(found(&[run(2, 3, 1), run(4, 4, 2), run(6, 9, 1)].concat(), &run(9, 9, 1)), "");
        let wrong = |starts: &[(i64, i64)], more: &[(i64, i64)], reason: &str| {
            let found = found(starts, more);
            assert!(found.ends_with(reason), "{found}");
        };
        wrong(&run(0, 3, 1), &[], "start times from 0 on, where it has no number");
        wrong(&run(8, 10, 1), &[], "start times up to 10, where it has no number");
        wrong(&run(20, 30, 1), &run(1, 1, 1), "start times up to 30, where it has no number");
        wrong(&[(3, 1), (5, 1), (8, 1)], &[], "start times of 3 numbers, but there are 6");
        wrong(&[], &[(0, 1)], "start times from 0 on, where it has no number");
    }
}
