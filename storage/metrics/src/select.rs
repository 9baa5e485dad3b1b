//! Finds and reads series over the heads and blocks.

use std::sync::Arc;

use model::{Labels, Matcher, MetricMetadata};
use roaring::RoaringBitmap;
use storage_api::{
    Error, Extent, MetricQuerier, MillisRange, QueryContext, Result, SeriesExemplars, SeriesPart, SeriesSamples,
    SeriesSelection,
};

use crate::block::{Block, Wanted};
use crate::head::SeriesRef;
use crate::mixed::{Mixed, merge_mixed};
use crate::postings::{Postings, find_any};
use crate::remains::series_left;
use crate::store::MetricStore;
use crate::telemetry::Metrics;
use crate::tombstones::DAMAGED_FILE;
use crate::view::{Source, View};

/// Series that are read together at most: enough to share pages, few enough for several threads.
const PART_SERIES: usize = 128;
/// Rows that are read together, unless one series alone has more.
const PART_ROWS: u64 = 256 << 10;
/// How many numbers a histogram is taken for when parts are cut.
const HISTOGRAM_ROWS: u64 = 32;
/// So many series' labels are read rather than the lists of all series that have a value.
const FEW_SERIES: u64 = 1_024;
/// What a head's series is taken for when parts are cut.
const HEAD_ROWS: u64 = 512;

/// A series in one place.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Which of the part's label sets.
    series: u32,
    /// Which of the view's sources.
    source: u32,
    /// The series' id there.
    id: u32,
}

/// Series that are read together.
#[derive(Debug)]
struct Part {
    view: Arc<View>,
    metrics: Metrics,
    range: MillisRange,
    labels: Vec<Labels>,
    /// By label set, then from the oldest source to the newest.
    places: Vec<Place>,
}

impl MetricStore {
    /// Cuts off what is older than the retention; `None` when nothing is left.
    pub(crate) fn visible(&self, mut range: MillisRange) -> Option<MillisRange> {
        range.min_ms = range.min_ms.max(self.oldest_visible_ms().unwrap_or(i64::MIN));
        (range.min_ms <= range.max_ms).then_some(range)
    }

    /// Warns of damaged blocks, and runs `each` over the sources. Damage that is found on the way becomes a warning.
    pub(crate) fn each_source(
        &self,
        view: &View,
        range: MillisRange,
        context: &QueryContext,
        each: &mut dyn FnMut(u32, Source<'_>) -> Result<()>,
    ) -> Result<()> {
        for damaged in view.damaged.iter().filter(|damaged| damaged.range.overlaps(&range)) {
            context.warn(format!("block {} is damaged and left out: {}", damaged.name, damaged.reason));
        }
        if view.tombstones.is_damaged {
            context.warn(format!(
                "the list of deletes was damaged: deleted samples may be shown, until {DAMAGED_FILE} is removed"
            ));
        }
        for (number, source) in view.sources().enumerate() {
            context.check()?;
            match (each(number as u32, source), source) {
                (Err(error @ Error::Corrupt { .. }), Source::Block(block)) => {
                    self.note_damage(block, &error);
                    context.warn(format!("block {} is damaged and left out: {error}", block.name()));
                }
                (result, _) => result?,
            }
        }
        Ok(())
    }

    /// Runs `each` over every place that has an index of its own, with the series that may have samples in `range` and
    /// pass one of the selectors.
    fn each_index(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
        each: &mut dyn FnMut(&dyn LabelIndex, &RoaringBitmap) -> Result<()>,
    ) -> Result<()> {
        let Some(range) = self.visible(range) else { return Ok(()) };
        let view = self.snapshot();
        self.each_source(&view, range, context, &mut |_, source| match source {
            Source::Head(head) => head.each_shard(selectors, range, &mut |shard, found| each(shard, found)),
            Source::Block(block) if block.meta.range().overlaps(&range) => {
                let mut found = find_any(&block.index, selectors)?;
                let inside = range.min_ms <= block.meta.min_time_ms && block.meta.max_time_ms <= range.max_ms;
                let deleted = view.tombstones.of(block.name());
                if !inside || deleted.is_some() {
                    found = series_left(block, deleted, &found, range, context)?;
                }
                each(block.as_ref(), &found)
            }
            Source::Block(_) => Ok(()),
        })
    }
}

/// A place with labels of its own: a shard of a head, or a block.
trait LabelIndex {
    fn all_len(&self) -> u64;
    fn labels(&self, id: u32) -> Result<Option<Labels>>;
    fn label_names(&self) -> Vec<&str>;
    fn label_values(&self, name: &str, found: &RoaringBitmap) -> Result<Vec<String>>;
}

impl LabelIndex for crate::head::Shard {
    fn all_len(&self) -> u64 {
        self.series.len() as u64
    }
    fn labels(&self, id: u32) -> Result<Option<Labels>> {
        Ok(self.series.get(id as usize).map(|series| series.labels.clone()))
    }
    fn label_names(&self) -> Vec<&str> {
        self.names()
    }
    fn label_values(&self, name: &str, found: &RoaringBitmap) -> Result<Vec<String>> {
        self.values(name, found)
    }
}

impl LabelIndex for Block {
    fn all_len(&self) -> u64 {
        self.meta.series
    }
    fn labels(&self, id: u32) -> Result<Option<Labels>> {
        self.index.labels(&self.index.entry(id)?).map(Some)
    }
    fn label_names(&self) -> Vec<&str> {
        self.index.names()
    }
    fn label_values(&self, name: &str, found: &RoaringBitmap) -> Result<Vec<String>> {
        if found.len() > FEW_SERIES {
            return self.index.values(name, found);
        }
        // So few that their labels are read sooner than what each value is found in.
        let mut values = std::collections::BTreeSet::new();
        for id in found {
            let labels = self.index.labels(&self.index.entry(id)?)?;
            if let Some(value) = labels.get(name).filter(|value| !values.contains(*value)) {
                values.insert(value.to_owned());
            }
        }
        Ok(values.into_iter().collect())
    }
}

impl MetricQuerier for MetricStore {
    fn select(&self, matchers: &[Matcher], range: MillisRange, context: &QueryContext) -> Result<SeriesSelection> {
        let Some(range) = self.visible(range) else { return Ok(SeriesSelection::default()) };
        let view = self.snapshot();
        let mut found: Vec<(Labels, u32, u32)> = Vec::new();
        self.each_source(&view, range, context, &mut |number, source| {
            match source {
                Source::Block(block) => {
                    let series = block.select(matchers, range, view.tombstones.of(block.name()))?;
                    charge_labels(series.iter().map(|(labels, _)| labels), context)?;
                    found.extend(series.into_iter().map(|(labels, id)| (labels, number, id)));
                }
                Source::Head(head) => {
                    let series = head.select(matchers, range)?;
                    charge_labels(series.iter().map(|(labels, _)| labels), context)?;
                    found.extend(series.into_iter().map(|(labels, id)| (labels, number, id.0)));
                }
            }
            Ok(())
        })?;
        // Blocks are in order already: the stable sort makes use of that.
        found.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
        let distinct = found.chunk_by(|a, b| a.0 == b.0).count();
        context.charge_series(distinct as u64)?;
        self.cut_parts(&view, range, &found)
    }

    fn series(&self, selectors: &[Vec<Matcher>], range: MillisRange, context: &QueryContext) -> Result<Vec<Labels>> {
        let mut all: Vec<Labels> = Vec::new();
        self.each_index(selectors, range, context, &mut |index, found| {
            context.charge_series(found.len())?;
            for id in found {
                let labels = index.labels(id)?;
                charge_labels(labels.iter(), context)?;
                all.extend(labels);
            }
            Ok(())
        })?;
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
    ) -> Result<Vec<String>> {
        let mut names = std::collections::BTreeSet::new();
        self.each_index(selectors, range, context, &mut |index, found| {
            if found.len() == index.all_len() {
                names.extend(index.label_names().into_iter().map(str::to_owned));
                return Ok(());
            }
            for id in found {
                for (name, _) in index.labels(id)?.iter().flat_map(Labels::iter) {
                    if !names.contains(name) {
                        names.insert(name.to_owned());
                    }
                }
            }
            Ok(())
        })?;
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
    ) -> Result<Vec<String>> {
        let mut values = std::collections::BTreeSet::new();
        self.each_index(selectors, range, context, &mut |index, found| {
            values.extend(index.label_values(name, found)?);
            Ok(())
        })?;
        Ok(values.into_iter().collect())
    }

    fn extent(&self) -> Extent {
        let mut extent = Extent::default();
        for source in self.snapshot().sources() {
            let (range, chunks) = match source {
                Source::Block(block) => (Some(block.meta.range()), block.meta.series),
                Source::Head(head) => (head.range(), head.series()),
            };
            extent.chunks += chunks;
            extent.range = match (extent.range, range) {
                (Some(a), Some(b)) => {
                    Some(MillisRange { min_ms: a.min_ms.min(b.min_ms), max_ms: a.max_ms.max(b.max_ms) })
                }
                (a, b) => a.or(b),
            };
        }
        extent.range = extent.range.and_then(|range| self.visible(range));
        extent
    }

    fn metadata(&self, metric: Option<&str>) -> Result<Vec<MetricMetadata>> {
        Ok(self.metadata.read().get(metric))
    }

    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
    ) -> Result<Vec<SeriesExemplars>> {
        self.find_exemplars(selectors, range, context)
    }
}

/// Charges a query for label sets, which are held to its end.
fn charge_labels<'a>(all: impl Iterator<Item = &'a Labels>, context: &QueryContext) -> Result<()> {
    context.charge_memory(all.map(|labels| labels.size_bytes() as u64).sum())
}

impl MetricStore {
    /// Groups neighbours, so that their pages are decoded once.
    fn cut_parts(&self, view: &Arc<View>, range: MillisRange, found: &[(Labels, u32, u32)]) -> Result<SeriesSelection> {
        let sources: Vec<Source<'_>> = view.sources().collect();
        let mut selection = SeriesSelection::default();
        let new = || Part {
            view: Arc::clone(view),
            metrics: self.metrics.clone(),
            range,
            labels: Vec::new(),
            places: Vec::new(),
        };
        let (mut part, mut rows) = (new(), 0);
        for series in found.chunk_by(|a, b| a.0 == b.0) {
            let mut rows_of_series = 0;
            for (_, source, id) in series {
                rows_of_series += match sources.get(*source as usize) {
                    Some(Source::Block(block)) => {
                        block.index.entry(*id)?.rows + HISTOGRAM_ROWS * block.extras.histograms_of(*id)
                    }
                    Some(Source::Head(_)) | None => HEAD_ROWS,
                };
            }
            if part.labels.len() >= PART_SERIES || (rows + rows_of_series > PART_ROWS && !part.labels.is_empty()) {
                selection.parts.push(Box::new(std::mem::replace(&mut part, new())));
                rows = 0;
            }
            rows += rows_of_series;
            let number = part.labels.len() as u32;
            part.labels.extend(series.first().map(|(labels, ..)| labels.clone()));
            part.places.extend(series.iter().map(|(_, source, id)| Place { series: number, source: *source, id: *id }));
        }
        if !part.labels.is_empty() {
            selection.parts.push(Box::new(part));
        }
        Ok(selection)
    }
}

impl Part {
    /// Reads this part's series from one block, and hands them out by their number.
    fn read_block(
        &self,
        block: &Arc<Block>,
        source: u32,
        context: &QueryContext,
        charged: &mut u64,
        columns: &mut [Vec<(u32, Mixed)>],
    ) -> Result<()> {
        // Rows ascend with the series' number.
        let mut wanted: Vec<Place> = self.places.iter().copied().filter(|place| place.source == source).collect();
        wanted.sort_unstable_by_key(|place| place.id);
        let mut rows = Vec::with_capacity(wanted.len());
        for place in &wanted {
            let entry = block.index.entry(place.id)?;
            rows.push(Wanted { first_row: entry.first_row, rows: entry.rows });
        }
        let read = block.read(&rows, self.range, &mut || context.check())?;
        let read: Vec<Mixed> = if wanted.iter().any(|place| block.extras.has_series(place.id)) {
            let series: Vec<u32> = wanted.iter().map(|place| place.id).collect();
            block.extras.read(&series, read, self.range, &mut |cost| {
                context.check()?;
                *charged += cost;
                context.charge_samples(cost)
            })?
        } else {
            read.into_iter().map(Mixed::from).collect()
        };
        let deleted = self.view.tombstones.of(block.name());
        for (place, mut samples) in wanted.into_iter().zip(read) {
            if let Some(deleted) = deleted {
                samples.retain(&deleted.kept(place.id, &samples.times));
            }
            if let Some(columns) = columns.get_mut(place.series as usize) {
                columns.push((source, samples));
            }
        }
        Ok(())
    }
}

impl SeriesPart for Part {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, context: &QueryContext) -> Result<Vec<SeriesSamples>> {
        let mut charged = 0;
        let result = self.read_charged(context, &mut charged);
        // What histograms cost while they were read is told in the cost of the answer.
        context.release_samples(charged);
        let all = result?;
        context.charge_samples(all.iter().map(SeriesSamples::cost).sum())?;
        Ok(all)
    }
}

impl Part {
    fn read_charged(&self, context: &QueryContext, charged: &mut u64) -> Result<Vec<SeriesSamples>> {
        let mut columns: Vec<Vec<(u32, Mixed)>> = vec![Vec::new(); self.labels.len()];
        for (number, source) in self.view.sources().enumerate() {
            let number = number as u32;
            if !self.places.iter().any(|place| place.source == number) {
                continue;
            }
            context.check()?;
            match source {
                Source::Block(block) => match self.read_block(block, number, context, charged, &mut columns) {
                    Err(error @ Error::Corrupt { .. }) => {
                        self.metrics.corruptions.inc();
                        block.set_damaged();
                        context.warn(format!("block {} is damaged and left out: {error}", block.name()));
                    }
                    result => result?,
                },
                Source::Head(head) => {
                    for place in self.places.iter().filter(|place| place.source == number) {
                        let snapshot = head.snapshot(SeriesRef(place.id), self.range);
                        let column = snapshot.map(|snapshot| snapshot.decode_mixed(self.range));
                        let cost = column.as_ref().map_or(0, Mixed::histogram_cost);
                        *charged += cost;
                        context.charge_samples(cost)?;
                        if let (Some(column), Some(columns)) = (column, columns.get_mut(place.series as usize)) {
                            columns.push((number, column));
                        }
                    }
                }
            }
        }
        let mut all = Vec::with_capacity(self.labels.len());
        for (labels, columns) in self.labels.iter().zip(columns) {
            // Sources were read from the oldest to the newest.
            let merged = merge_mixed(columns.into_iter().map(|(_, column)| column).collect());
            all.push(merged.into_series(labels.clone()));
        }
        Ok(all)
    }
}
