//! Functions over windows of lines, for all steps at once: each row lands in its windows.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use model::{Labels, TimeRange, Timestamp};
use rayon::prelude::*;
use storage_api::{LogPart, LogSelect, LogTally, LogTallySelect, MetadataSelect, RowSelect};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::logs::CHECK_EVERY_ROWS;
use super::needles::{log_select, wanted_field};
use super::{Evaluator, Series, Steps};
use crate::ast::{Grouping, LabelFilter, RangeExpr, RangeOp, Stage};
use crate::error::{Error, Result};
use crate::level::{DETECTED_LEVEL, LEVEL_FIELDS, SEVERITY_NUMBER};
use crate::row::{ERROR, PRESERVE_ERROR, RowLabels, SeriesLabels};
use crate::stage::Extractor;

/// How many parts are read at a time before their rows are merged.
const BATCH_PARTS: usize = 64;

/// How many rows are read at a time at most, however few a part has: what each of them gives is held until then. More at a
/// time keep all threads busy longer.
const BATCH_ROWS: u64 = 1 << 20;

/// Bytes that one sample keeps.
const SAMPLE_BYTES: u64 = 16;

/// What a series gathers.
#[derive(Debug)]
enum Gathered {
    /// Counts or bytes, and how many numbers these are the sum of (bytes may be none), as changes from each step to the
    /// next: exact, and one row costs the same in any window.
    Sums(Vec<(i64, i64)>),
    /// The samples themselves: (nanoseconds, value).
    Samples(Vec<(i64, f64)>),
}

/// Where rows land.
#[derive(Debug, Clone, Copy)]
struct Windows {
    /// The first window's end.
    first_end: i64,
    step: i64,
    range: i64,
    count: usize,
}

impl Windows {
    fn new(steps: Steps, expr: &RangeExpr) -> Self {
        let first_end = steps.start_ns.saturating_sub(expr.offset_ns);
        Self { first_end, step: steps.step_ns.max(1), range: expr.range_ns, count: steps.count() }
    }

    fn end(&self, i: usize) -> i64 {
        self.first_end.saturating_add(self.step.saturating_mul(i64::try_from(i).unwrap_or(i64::MAX)))
    }

    /// Returns the times of all rows that land in some window.
    fn times(&self) -> TimeRange {
        let start = self.first_end.saturating_sub(self.range).saturating_add(1);
        let end = self.end(self.count.saturating_sub(1)).saturating_add(1);
        TimeRange::new(Timestamp(start), Timestamp(end))
    }

    /// Returns all starts and ends of windows, ascending: rows between two of them lie in the same windows.
    fn cuts(&self) -> Vec<Timestamp> {
        let ends = (0..self.count).map(|i| self.end(i));
        let mut cuts: Vec<Timestamp> =
            ends.flat_map(|end| [end.saturating_sub(self.range), end]).map(Timestamp).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// Returns the first window that holds a row, and the first behind it that does not: windows are left-open.
    fn of(&self, at: i64) -> (usize, usize) {
        if let Some(found) = self.of_ordinary(at) {
            return found;
        }
        let (at, first, step) = (i128::from(at), i128::from(self.first_end), i128::from(self.step));
        let ceil = |n: i128| n.div_euclid(step) + i128::from(n.rem_euclid(step) > 0);
        let clamp = |n: i128| usize::try_from(n.max(0)).unwrap_or(usize::MAX).min(self.count);
        let from = clamp(ceil(at - first));
        let to = clamp(ceil(at + i128::from(self.range) - first));
        (from, to.max(from))
    }
}

impl Windows {
    /// Does what [`of`](Self::of) does for times that are far from the ends of what can be told, with faster numbers.
    fn of_ordinary(&self, at: i64) -> Option<(usize, usize)> {
        let behind = at.checked_sub(self.first_end)?;
        let behind_range = behind.checked_add(self.range)?;
        if self.count == 1 {
            let from = usize::from(behind > 0);
            return Some((from, usize::from(behind_range > 0).max(from)));
        }
        let ceil = |n: i64| n.div_euclid(self.step) + i64::from(n.rem_euclid(self.step) > 0);
        let clamp = |n: i64| usize::try_from(n.max(0)).unwrap_or(usize::MAX).min(self.count);
        let from = clamp(ceil(behind));
        Some((from, clamp(ceil(behind_range)).max(from)))
    }
}

/// All series so far.
type Gather = HashMap<Labels, Gathered>;

/// How many series of a part are tried before one is looked up by its labels.
const RECENT_MAX: usize = 8;

/// What one series gathers from one part.
#[derive(Debug)]
enum Piece {
    /// (first window, first window behind, value): rows that follow each other mostly share their windows.
    Sums(Vec<(usize, usize, i64)>),
    Samples(Vec<(i64, f64)>),
}

/// The series of one part, in the order they were met.
#[derive(Debug, Default)]
struct Pieces {
    series: Vec<(Labels, Piece)>,
    index: HashMap<Labels, usize>,
    /// The place of the series met last.
    last: Option<usize>,
    /// The places of the series met last, where they are found by all their labels.
    recent: Vec<usize>,
    /// The places of series by the hash of the values that name them, where it is values that do.
    by_values: HashMap<u64, Vec<usize>, BuildHasherDefault<AsItIs>>,
    seed: u64,
    /// Bytes of the series' labels that are accounted for.
    held: u64,
}

/// Takes a number that is a hash as it is.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Hashes the values of a row, starting from a number that whoever writes logs does not know.
fn hash_of<'v>(seed: u64, values: impl Iterator<Item = Option<&'v str>>) -> u64 {
    values.fold(seed, |hash, value| match value {
        Some(value) => xxh3_64_with_seed(value.as_bytes(), hash),
        None => hash.rotate_left(1),
    })
}

impl Pieces {
    /// Returns the piece of the series that a row belongs to.
    fn of(&mut self, row: &RowLabels<'_>, grouping: &SeriesLabels, sums: bool) -> Result<Option<&mut Piece>> {
        let known = |i: &usize| self.series.get(*i).is_some_and(|(labels, _)| row.is_in(labels, grouping));
        if let Some(i) = self.last.filter(known) {
            return Ok(self.series.get_mut(i).map(|(_, piece)| piece));
        }
        let hash = match grouping {
            SeriesLabels::By(names) => Some(hash_of(self.seed, names.iter().map(|name| row.get(name)))),
            SeriesLabels::None | SeriesLabels::All | SeriesLabels::Without(_) => None,
        };
        let places = match hash {
            Some(hash) => self.by_values.get(&hash).map(Vec::as_slice).unwrap_or_default(),
            None => &self.recent,
        };
        if let Some(i) = places.iter().copied().find(|i| known(i)) {
            self.last = Some(i);
            return Ok(self.series.get_mut(i).map(|(_, piece)| piece));
        }
        let labels = row.grouped(grouping);
        if !row.error.is_empty() && labels.get(PRESERVE_ERROR) != Some("true") {
            let kind = labels.get(ERROR).unwrap_or_default().to_owned();
            return Err(Error::Pipeline { kind, series: labels.to_string() });
        }
        let i = match self.index.entry(labels) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let empty = if sums { Piece::Sums(Vec::new()) } else { Piece::Samples(Vec::new()) };
                self.series.push((entry.key().clone(), empty));
                *entry.insert(self.series.len() - 1)
            }
        };
        self.last = Some(i);
        if let Some(hash) = hash {
            // A row with an error has more labels than these.
            if row.error.is_empty() {
                self.by_values.entry(hash).or_default().push(i);
            }
        } else if self.recent.len() < RECENT_MAX {
            self.recent.push(i);
        } else {
            self.recent.rotate_right(1);
            if let Some(first) = self.recent.first_mut() {
                *first = i;
            }
        }
        Ok(self.series.get_mut(i).map(|(_, piece)| piece))
    }
}

impl Evaluator<'_> {
    /// Evaluates a function over windows; `outer` are the labels that a sum around it keeps.
    pub(super) fn range(&self, expr: &RangeExpr, outer: Option<&Grouping>) -> Result<Vec<Series>> {
        let grouping = match expr.op {
            RangeOp::Absent => SeriesLabels::None,
            _ => SeriesLabels::new(outer.or(expr.grouping.as_ref())),
        };
        let bytes = matches!(expr.op, RangeOp::Bytes | RangeOp::BytesRate);
        let extractor = Extractor::new(&expr.log, expr.unwrap.as_ref(), bytes, grouping)?;
        let windows = Windows::new(self.steps, expr);
        let times = windows.times();
        let sums = expr.unwrap.is_none();
        let mut all = Gather::new();
        let with_lines = extractor.needs_lines();
        let fields = extractor.names().map(with_levels);
        let with_level = extractor.asks_for(DETECTED_LEVEL);
        let metadata = match &fields {
            None => MetadataSelect::All,
            Some(fields) if fields.is_empty() => MetadataSelect::None,
            Some(fields) => MetadataSelect::Only(fields),
        };
        let mut parts = match countable(expr, &extractor) {
            Some(fields) => {
                let cuts = windows.cuts();
                let LogSelect { matchers, needles, .. } = log_select(&expr.log, times, true, self.logs, self.context)?;
                let select = LogTallySelect { matchers, range: times, fields, cuts, needles };
                let found = self.logs.tally(&select, self.context)?;
                let tallies = (found.tallies.as_slice(), found.has_levels);
                self.tallied(&mut all, tallies, &extractor, windows, &select.cuts)?;
                found.parts
            }
            None => {
                let with_metadata = metadata != MetadataSelect::None;
                let select = log_select(&expr.log, times, with_metadata, self.logs, self.context)?;
                let without_lines = !with_lines && extractor.filter().is_none();
                self.logs.select(&LogSelect { without_lines, ..select }, self.context)?
            }
        };
        // A fixed order, so that the first and the last of rows at one time are always the same ones: within a stream the
        // store has them as they came, before and after a compaction.
        parts.sort_by(|a, b| a.stream().cmp(b.stream()));
        let select = RowSelect {
            range: times,
            filter: extractor.filter(),
            field: wanted_field(&expr.log),
            with_lines,
            metadata,
            ..RowSelect::ALL
        };
        let seed = RandomState::new().hash_one(0);
        let gather = Gatherer { evaluator: self, extractor: &extractor, windows, select, seed, sums, with_level };
        let mut rest = parts.as_slice();
        while !rest.is_empty() {
            self.context.check()?;
            let (batch, later) = rest.split_at(batch_of(rest));
            rest = later;
            let found: Vec<Pieces> = batch.par_iter().map(|part| gather.part(part.as_ref())).collect::<Result<_>>()?;
            for one in found {
                self.merge(&mut all, one, windows.count)?;
            }
        }
        drop(parts);
        let series: Vec<(Labels, Gathered)> = all.into_iter().collect();
        let finish = |(labels, gathered)| -> Result<Series> {
            self.context.check()?;
            Ok(Series { labels, values: values(expr, windows, gathered) })
        };
        let mut series: Vec<Series> = series.into_par_iter().map(finish).collect::<Result<_>>()?;
        series.retain(|one| one.values.iter().any(Option::is_some));
        // Sums of doubles depend on their order: without one, the same query would give other last digits.
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(series)
    }

    /// Adds rows that the store has counted.
    fn tallied(
        &self,
        all: &mut Gather,
        (tallies, has_levels): (&[LogTally], bool),
        extractor: &Extractor,
        windows: Windows,
        cuts: &[Timestamp],
    ) -> Result<()> {
        let with_level = has_levels && extractor.asks_for(DETECTED_LEVEL);
        let seed = RandomState::new().hash_one(0);
        let windows_of: Vec<(usize, usize)> = cuts.iter().map(|cut| windows.of(cut.0)).collect();
        let pieces = |tallies: &[LogTally]| -> Result<Pieces> {
            let mut out = Pieces { seed, ..Pieces::default() };
            for tally in tallies {
                let number = tally.severity_number.to_string();
                let pairs = [("severity_number", number.as_str()), ("severity_text", tally.severity_text.as_ref())];
                let mut labels = RowLabels::new(&tally.stream);
                let pairs = || pairs.into_iter().filter(|(_, value)| !value.is_empty() && *value != "0");
                labels.reset(pairs());
                if with_level {
                    labels.add_level(pairs());
                }
                // Nothing asks for the time of a row here, nor for its line: see `countable`.
                if extractor.process(Timestamp(0), "", &mut labels).is_none() {
                    continue;
                }
                let Some(Piece::Sums(sums)) = out.of(&labels, extractor.series(), true)? else { continue };
                for (cut, records) in &tally.records {
                    let Some((from, to)) = windows_of.get(*cut).copied() else { continue };
                    if from < to {
                        self.context.count_passed(*records);
                        sums.push((from, to, i64::try_from(*records).unwrap_or(i64::MAX)));
                    }
                }
            }
            Ok(out)
        };
        for batch in tallies.chunks(BATCH_PARTS * BATCH_PARTS) {
            self.context.check()?;
            let found: Vec<Pieces> = batch.par_chunks(BATCH_PARTS).map(pieces).collect::<Result<_>>()?;
            for one in found {
                self.merge(all, one, windows.count)?;
            }
        }
        Ok(())
    }

    fn merge(&self, all: &mut Gather, one: Pieces, steps: usize) -> Result<()> {
        self.context.release_memory(one.held);
        for (labels, piece) in one.series {
            let gathered = match all.entry(labels) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    self.context.charge_series(1)?;
                    let size = entry.key().size_bytes() as u64 + steps as u64 * SAMPLE_BYTES;
                    self.context.charge_memory(size)?;
                    entry.insert(match &piece {
                        Piece::Sums(_) => Gathered::Sums(vec![(0, 0); steps + 1]),
                        Piece::Samples(_) => Gathered::Samples(Vec::new()),
                    })
                }
            };
            match (gathered, piece) {
                (Gathered::Sums(changes), Piece::Sums(more)) => {
                    for (from, to, value) in more {
                        if let Some((sum, numbers)) = changes.get_mut(from) {
                            *sum += value;
                            *numbers += 1;
                        }
                        if let Some((sum, numbers)) = changes.get_mut(to) {
                            *sum -= value;
                            *numbers -= 1;
                        }
                    }
                }
                (Gathered::Samples(have), Piece::Samples(more)) => have.extend(more),
                _ => return Err(Error::evaluation("a series gathered both sums and samples")),
            }
        }
        Ok(())
    }
}

/// Returns how many of the next parts are read at a time.
fn batch_of(parts: &[Box<dyn LogPart>]) -> usize {
    let mut rows = 0_u64;
    let mut fits = |more: u64| {
        rows = rows.saturating_add(more);
        rows <= BATCH_ROWS
    };
    let fitting = parts.iter().take_while(|part| fits(part.rows_max())).count();
    fitting.max(BATCH_PARTS).min(parts.len())
}

struct Gatherer<'a> {
    evaluator: &'a Evaluator<'a>,
    extractor: &'a Extractor,
    windows: Windows,
    select: RowSelect<'a>,
    /// Hashes start from it.
    seed: u64,
    sums: bool,
    with_level: bool,
}

/// Returns the labels that a query looks at, when it only counts rows by labels that are compared as text: nothing else of
/// a row matters then, and nothing can go wrong with one.
fn countable(expr: &RangeExpr, extractor: &Extractor) -> Option<Vec<String>> {
    fn is_text(filter: &LabelFilter) -> bool {
        match filter {
            LabelFilter::Text(_) => true,
            LabelFilter::And(a, b) | LabelFilter::Or(a, b) => is_text(a) && is_text(b),
            LabelFilter::Number { .. }
            | LabelFilter::Duration { .. }
            | LabelFilter::Bytes { .. }
            | LabelFilter::Ip { .. } => false,
        }
    }
    let counts = matches!(expr.op, RangeOp::Count | RangeOp::Rate | RangeOp::Absent) && expr.unwrap.is_none();
    let is_simple = |stage: &Stage| matches!(stage, Stage::LabelFilter(filter) if is_text(filter));
    (counts && expr.log.stages.iter().all(is_simple)).then(|| extractor.names()).flatten().map(with_levels)
}

/// Adds to the labels that a query looks at those that a level is made of, if it looks at the level.
fn with_levels(mut names: Vec<String>) -> Vec<String> {
    if names.iter().any(|name| name == DETECTED_LEVEL) {
        names.extend(LEVEL_FIELDS.iter().chain([&SEVERITY_NUMBER]).map(|name| (*name).to_owned()));
    }
    names
}

impl Gatherer<'_> {
    fn part(&self, part: &dyn LogPart) -> Result<Pieces> {
        let context = self.evaluator.context;
        let field = self.select.field.filter(|(name, _)| part.stream().get(name).is_none());
        let rows = part.read_rows(&RowSelect { field, ..self.select }, context)?;
        let mut out = Pieces { seed: self.seed, ..Pieces::default() };
        let mut labels = RowLabels::new(part.stream());
        let (mut samples, mut passed): (u64, u64) = (0, 0);
        for (row, timestamp) in rows.timestamps.iter().copied().enumerate() {
            if row % CHECK_EVERY_ROWS == 0 {
                context.check()?;
            }
            let (from, to) = self.windows.of(timestamp.0);
            if from >= to {
                continue;
            }
            let line = if self.select.with_lines { rows.lines.get(row) } else { "" };
            labels.reset_row(&rows, row, self.with_level);
            let Some(value) = self.extractor.process(timestamp, line, &mut labels) else { continue };
            passed += 1;
            let known = out.series.len();
            let piece = out.of(&labels, self.extractor.series(), self.sums)?;
            match piece {
                Some(Piece::Sums(sums)) => {
                    #[expect(clippy::cast_possible_truncation, reason = "1, or the bytes of a line")]
                    let value = value as i64;
                    match sums.last_mut() {
                        Some((last_from, last_to, sum)) if (*last_from, *last_to) == (from, to) => *sum += value,
                        _ => sums.push((from, to, value)),
                    }
                }
                Some(Piece::Samples(have)) => {
                    have.push((timestamp.0, value));
                    samples += 1;
                }
                None => {}
            }
            if let Some((labels, _)) = out.series.get(known) {
                let size = labels.size_bytes() as u64;
                context.charge_memory(size)?;
                out.held += size;
            }
        }
        context.count_passed(passed);
        context.charge_samples(samples)?;
        Ok(out)
    }
}

/// Computes a series' values from what it gathered.
fn values(expr: &RangeExpr, windows: Windows, gathered: Gathered) -> Vec<Option<f64>> {
    #[expect(clippy::cast_precision_loss, reason = "as the language computes")]
    let seconds = expr.range_ns as f64 / 1e9;
    match gathered {
        Gathered::Sums(changes) => {
            let (mut sum, mut numbers) = (0_i64, 0_i64);
            let per = |sum: i64| {
                #[expect(clippy::cast_precision_loss, reason = "counts and bytes below 2^53")]
                let sum = sum as f64;
                match expr.op {
                    RangeOp::Rate | RangeOp::BytesRate => sum / seconds,
                    RangeOp::Absent => 1.0,
                    _ => sum,
                }
            };
            let step = |(more, more_numbers): &(i64, i64)| {
                sum += more;
                numbers += more_numbers;
                (numbers != 0).then(|| per(sum))
            };
            changes.iter().take(windows.count).map(step).collect()
        }
        Gathered::Samples(mut samples) => {
            samples.sort_by_key(|(at, _)| *at);
            let mut from = 0;
            let mut to = 0;
            let mut out = Vec::with_capacity(windows.count);
            for i in 0..windows.count {
                let end = windows.end(i);
                let start = end.saturating_sub(windows.range);
                while samples.get(to).is_some_and(|(at, _)| *at <= end) {
                    to += 1;
                }
                while from < to && samples.get(from).is_some_and(|(at, _)| *at <= start) {
                    from += 1;
                }
                let window = samples.get(from..to).unwrap_or_default();
                out.push((!window.is_empty()).then(|| over(expr, window, end, seconds)));
            }
            out
        }
    }
}

fn over(expr: &RangeExpr, window: &[(i64, f64)], end: i64, seconds: f64) -> f64 {
    let values = window.iter().map(|(_, value)| *value);
    match expr.op {
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        RangeOp::Count => window.len() as f64,
        RangeOp::Sum | RangeOp::Bytes => values.sum(),
        RangeOp::Rate | RangeOp::BytesRate => values.sum::<f64>() / seconds,
        RangeOp::RateCounter => rate_counter(window, end, expr.range_ns, seconds),
        RangeOp::Avg => mean(values),
        RangeOp::Max => values.reduce(|a, b| if b > a || a.is_nan() { b } else { a }).unwrap_or(f64::NAN),
        RangeOp::Min => values.reduce(|a, b| if b < a || a.is_nan() { b } else { a }).unwrap_or(f64::NAN),
        RangeOp::Stdvar => variance(values),
        RangeOp::Stddev => variance(values).sqrt(),
        RangeOp::Quantile => quantile(expr.parameter.unwrap_or(f64::NAN), values.collect()),
        RangeOp::First => window.first().map_or(f64::NAN, |(_, value)| *value),
        RangeOp::Last => window.last().map_or(f64::NAN, |(_, value)| *value),
        RangeOp::Absent => 1.0,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut count) = (0.0f64, 0.0);
    for value in values {
        count += 1.0;
        // A finite value, or an infinite one of the same sign, leaves an infinite mean as it is.
        let keeps = mean.is_infinite() && (value.is_finite() || value.is_infinite() && (mean > 0.0) == (value > 0.0));
        if !keeps {
            mean += value / count - mean / count;
        }
    }
    mean
}

/// Welford's algorithm.
fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count, mut mean) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        sum += delta * (value - mean);
    }
    sum / count
}

fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let last = values.len() as f64 - 1.0;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let (lower, upper) = (lower as usize, upper as usize);
    if lower >= values.len() {
        return f64::NAN;
    }
    // NaN sorts first, as in Loki. No more is sorted than is needed.
    let order = |a: &f64, b: &f64| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b));
    let (_, at_lower, above) = values.select_nth_unstable_by(lower, order);
    let at_lower = *at_lower;
    let at_upper = if upper > lower { above.iter().copied().min_by(order).unwrap_or(at_lower) } else { at_lower };
    at_lower * (1.0 - weight) + at_upper * weight
}

/// The increase of a counter per second, resets added, extrapolated towards the window's borders as Prometheus does.
fn rate_counter(window: &[(i64, f64)], end: i64, range_ns: i64, seconds: f64) -> f64 {
    let (Some(first), Some(last)) = (window.first(), window.last()) else { return 0.0 };
    if window.len() < 2 {
        return 0.0;
    }
    let mut increase = last.1 - first.1;
    let mut before = 0.0;
    for (_, value) in window {
        if *value < before {
            increase += before;
        }
        before = *value;
    }
    #[expect(clippy::cast_precision_loss, reason = "as the language computes")]
    let span = |from: i64, to: i64| (to - from) as f64 / 1e9;
    let mut to_start = span(end - range_ns, first.0);
    let mut to_end = span(last.0, end);
    let sampled = span(first.0, last.0);
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let between = sampled / (window.len() - 1) as f64;
    let threshold = between * 1.1;
    if to_start >= threshold {
        to_start = between / 2.0;
    }
    if increase > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / increase));
    }
    if to_end >= threshold {
        to_end = between / 2.0;
    }
    increase * ((sampled + to_start + to_end) / sampled) / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_left_open() {
        // Windows (-5, 5], (5, 15], (15, 25].
        let windows = Windows { first_end: 5, step: 10, range: 10, count: 3 };
        assert_eq!(windows.of(-5), (0, 0));
        assert_eq!(windows.of(-4), (0, 1));
        assert_eq!(windows.of(5), (0, 1));
        assert_eq!(windows.of(6), (1, 2));
        assert_eq!(windows.of(25), (2, 3));
        assert_eq!(windows.of(26), (3, 3));
        assert_eq!(windows.times(), TimeRange::new(Timestamp(-4), Timestamp(26)));
    }

    #[test]
    fn windows_may_overlap_or_leave_gaps() {
        let overlapping = Windows { first_end: 10, step: 5, range: 20, count: 10 };
        assert_eq!(overlapping.of(3), (0, 3));
        let gaps = Windows { first_end: 100, step: 100, range: 10, count: 3 };
        assert_eq!(gaps.of(150), (1, 1));
        assert_eq!(gaps.of(195), (1, 2));
        let extreme = Windows { first_end: i64::MAX, step: 1, range: i64::MAX, count: 1 };
        assert_eq!(extreme.of(i64::MIN), (0, 0));
    }

    #[test]
    fn quantiles_lie_between_samples() {
        assert_eq!(quantile(0.5, vec![1.0, 2.0, 3.0, 4.0]), 2.5);
        assert_eq!(quantile(2.0, vec![1.0]), f64::INFINITY);
        assert_eq!(quantile(-1.0, vec![1.0]), f64::NEG_INFINITY);
    }
}
