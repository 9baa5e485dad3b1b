//! In-memory stores that keep the traits' word in the simplest way, for tests of query and collector.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Exemplar, Histogram, Labels, Matcher, MetricMetadata, Sample, TimeRange, Timestamp};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::{
    AppendReport, Error, Extent, LabelFault, LogAppender, LogBatch, LogCount, LogPart, LogQuerier, LogRows, LogSelect,
    LogTallies, LogTally, LogTallySelect, MetricAdmin, MetricAppender, MetricBatch, MetricQuerier, MillisRange,
    QueryContext, Result, SeriesExemplars, SeriesPart, SeriesSamples, SeriesSelection, TailBatch, step_of,
};

/// Capacity of the fake's tail channel, in batches.
const TAIL_BATCHES_MAX: usize = 1024;

/// How many series a part of the fake holds; small, so that tests meet more than one part.
const SERIES_PER_PART: usize = 3;

/// A sample at one time.
#[derive(Debug, Clone, Default)]
struct FakeSample {
    bits: u64,
    start_ms: i64,
    histogram: Option<Arc<Histogram>>,
}

/// Metrics in a map.
#[derive(Debug, Default)]
pub struct FakeMetrics {
    series: Mutex<BTreeMap<Labels, BTreeMap<i64, FakeSample>>>,
    exemplars: Mutex<BTreeMap<Labels, Vec<Exemplar>>>,
    metadata: Mutex<BTreeMap<String, MetricMetadata>>,
}

impl FakeMetrics {
    /// Adds one sample.
    pub fn push(&self, labels: &Labels, timestamp_ms: i64, value: f64) {
        self.insert(labels, timestamp_ms, FakeSample { bits: value.to_bits(), ..FakeSample::default() });
    }

    /// Adds one native histogram.
    pub fn push_histogram(&self, labels: &Labels, timestamp_ms: i64, histogram: Histogram) {
        let histogram = Some(Arc::new(histogram));
        self.insert(labels, timestamp_ms, FakeSample { histogram, ..FakeSample::default() });
    }

    fn insert(&self, labels: &Labels, timestamp_ms: i64, sample: FakeSample) {
        self.series.lock().entry(labels.clone()).or_default().insert(timestamp_ms, sample);
    }
}

impl MetricAppender for FakeMetrics {
    fn append(&self, batch: &MetricBatch<'_>) -> Result<AppendReport> {
        let mut report = AppendReport::default();
        let (mut exemplars, mut scratch) = (0, Vec::new());
        for row in batch.series() {
            let samples = (row.samples.len() + row.histograms.len()) as u64;
            let labels = match batch.labels_of(&row, &mut scratch) {
                Ok(labels) => Labels::from_sorted(labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))),
                Err(LabelFault::Malformed(cause)) => return Err(Error::Invalid(cause)),
                Err(LabelFault::Refused { reason, detail }) => {
                    report.reject(reason, samples, || detail);
                    continue;
                }
            };
            for (i, Sample { timestamp_ms, value }) in row.samples.iter().enumerate() {
                let start_ms = row.starts_ms.get(i).copied().unwrap_or(0);
                self.insert(&labels, *timestamp_ms, FakeSample { bits: value.to_bits(), start_ms, histogram: None });
            }
            for one in row.histograms {
                let histogram = Some(Arc::clone(&one.histogram));
                self.insert(&labels, one.timestamp_ms, FakeSample { bits: 0, start_ms: one.start_ms, histogram });
            }
            report.accepted += samples;
            report.accepted_histograms += row.histograms.len() as u64;
            exemplars += row.exemplars.len() as u64;
            if !row.exemplars.is_empty() {
                self.exemplars.lock().entry(labels).or_default().extend_from_slice(row.exemplars);
            }
        }
        for metadata in &batch.metadata {
            self.metadata.lock().insert(metadata.name.clone(), metadata.clone());
        }
        Ok(AppendReport { accepted_exemplars: exemplars, ..report })
    }
}

#[derive(Debug)]
struct FakePart {
    labels: Vec<Labels>,
    samples: Vec<SeriesSamples>,
}

impl SeriesPart for FakePart {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, context: &QueryContext) -> Result<Vec<SeriesSamples>> {
        context.check()?;
        context.charge_samples(self.samples.iter().map(SeriesSamples::cost).sum())?;
        Ok(self.samples.clone())
    }
}

fn passes(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
}

fn passes_any(labels: &Labels, selectors: &[Vec<Matcher>]) -> bool {
    selectors.is_empty() || selectors.iter().any(|matchers| passes(labels, matchers))
}

impl MetricQuerier for FakeMetrics {
    fn select(&self, matchers: &[Matcher], range: MillisRange, context: &QueryContext) -> Result<SeriesSelection> {
        let mut found = Vec::new();
        if range.min_ms <= range.max_ms {
            for (labels, samples) in self.series.lock().iter().filter(|(labels, _)| passes(labels, matchers)) {
                let mut series = SeriesSamples { labels: labels.clone(), ..SeriesSamples::default() };
                let (mut histograms, mut starts_ms) = (Vec::new(), Vec::new());
                for (at, sample) in samples.range(range.min_ms..=range.max_ms) {
                    series.timestamps_ms.push(*at);
                    series.values.push(f64::from_bits(sample.bits));
                    histograms.push(sample.histogram.clone());
                    starts_ms.push(sample.start_ms);
                }
                series.histograms = histograms.iter().any(Option::is_some).then_some(histograms);
                series.starts_ms = starts_ms.iter().any(|start| *start != 0).then_some(starts_ms);
                if !series.values.is_empty() {
                    found.push(series);
                }
            }
        }
        context.charge_series(found.len() as u64)?;
        let parts = found
            .chunks(SERIES_PER_PART)
            .map(|samples| {
                let labels = samples.iter().map(|series| series.labels.clone()).collect();
                Box::new(FakePart { labels, samples: samples.to_vec() }) as Box<dyn SeriesPart>
            })
            .collect();
        Ok(SeriesSelection { parts })
    }

    fn series(&self, selectors: &[Vec<Matcher>], range: MillisRange, _: &QueryContext) -> Result<Vec<Labels>> {
        let series = self.series.lock();
        let found = series.iter().filter(|(labels, samples)| {
            passes_any(labels, selectors)
                && range.min_ms <= range.max_ms
                && samples.range(range.min_ms..=range.max_ms).next().is_some()
        });
        Ok(found.map(|(labels, _)| labels.clone()).collect())
    }

    fn label_names(&self, selectors: &[Vec<Matcher>], range: MillisRange, c: &QueryContext) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for labels in self.series(selectors, range, c)? {
            names.extend(labels.iter().map(|(name, _)| name.to_owned()));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
    ) -> Result<Vec<String>> {
        let series = self.series(selectors, range, context)?;
        let mut values: Vec<String> = series.iter().filter_map(|labels| labels.get(name).map(str::to_owned)).collect();
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    fn extent(&self) -> Extent {
        let series = self.series.lock();
        let times = || series.values().flat_map(|samples| samples.keys().copied());
        let range = times().min().zip(times().max()).map(|(min_ms, max_ms)| MillisRange { min_ms, max_ms });
        Extent { range, chunks: series.len() as u64 }
    }

    fn metadata(&self, metric: Option<&str>) -> Result<Vec<MetricMetadata>> {
        let metadata = self.metadata.lock();
        Ok(metadata.values().filter(|one| metric.is_none_or(|name| name == one.name)).cloned().collect())
    }

    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        _: &QueryContext,
    ) -> Result<Vec<SeriesExemplars>> {
        let mut found = Vec::new();
        for (labels, exemplars) in self.exemplars.lock().iter().filter(|(labels, _)| passes_any(labels, selectors)) {
            let inside = exemplars.iter().filter(|one| range.contains(one.sample.timestamp_ms));
            let mut exemplars: Vec<Exemplar> = inside.cloned().collect();
            exemplars.sort_by_key(|one| one.sample.timestamp_ms);
            if !exemplars.is_empty() {
                found.push(SeriesExemplars { labels: labels.clone(), exemplars });
            }
        }
        Ok(found)
    }
}

impl MetricAdmin for FakeMetrics {
    fn delete_series(&self, selectors: &[Vec<Matcher>], range: MillisRange) -> Result<()> {
        for (_, samples) in self.series.lock().iter_mut().filter(|(labels, _)| passes_any(labels, selectors)) {
            samples.retain(|at, _| !range.contains(*at));
        }
        for (_, exemplars) in self.exemplars.lock().iter_mut().filter(|(labels, _)| passes_any(labels, selectors)) {
            exemplars.retain(|one| !range.contains(one.sample.timestamp_ms));
        }
        Ok(())
    }

    fn clean_tombstones(&self) -> Result<()> {
        Ok(())
    }

    fn snapshot(&self, _: bool) -> Result<String> {
        Ok("19700101T000000Z-0000000000000000".to_owned())
    }
}

#[derive(Debug, Clone)]
struct FakeRow {
    timestamp: Timestamp,
    line: String,
    metadata: Vec<(String, String)>,
}

/// Logs in a map.
#[derive(Debug)]
pub struct FakeLogs {
    streams: Mutex<BTreeMap<Labels, Vec<FakeRow>>>,
    tail: broadcast::Sender<Arc<TailBatch>>,
}

impl Default for FakeLogs {
    fn default() -> Self {
        Self { streams: Mutex::default(), tail: broadcast::channel(TAIL_BATCHES_MAX).0 }
    }
}

impl FakeLogs {
    /// Adds one row, and tells those who follow.
    pub fn push(&self, stream: &Labels, timestamp: Timestamp, line: &str, metadata: &[(&str, &str)]) {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let row = FakeRow { timestamp, line: line.to_owned(), metadata };
        let rows = rows_of(std::slice::from_ref(&row));
        {
            let mut streams = self.streams.lock();
            let rows = streams.entry(stream.clone()).or_default();
            let at = rows.partition_point(|have| have.timestamp <= timestamp);
            rows.insert(at, row);
        }
        // No receiver is no error: nobody follows.
        drop(self.tail.send(Arc::new(TailBatch { stream: stream.clone(), rows })));
    }
}

fn rows_of(rows: &[FakeRow]) -> LogRows {
    let mut out = LogRows::default();
    for row in rows {
        out.timestamps.push(row.timestamp);
        out.lines.push(&row.line);
        out.metadata
            .push(row.metadata.iter().map(|(name, value)| (Arc::from(name.as_str()), Box::from(value.as_str()))));
    }
    out
}

impl LogAppender for FakeLogs {
    fn append(&self, batch: LogBatch) -> Result<AppendReport> {
        let accepted = batch.records_len() as u64;
        for group in batch.groups {
            for record in group.records {
                let line = record.body.as_str().map_or_else(|| format!("{:?}", record.body), str::to_owned);
                self.push(&group.stream, record.timestamp, &line, &[]);
            }
        }
        Ok(AppendReport { accepted, ..AppendReport::default() })
    }
}

#[derive(Debug)]
struct FakeLogPart {
    stream: Labels,
    range: TimeRange,
    rows: LogRows,
}

impl LogPart for FakeLogPart {
    fn stream(&self) -> &Labels {
        &self.stream
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    fn rows_max(&self) -> u64 {
        self.rows.len() as u64
    }

    fn read(&self, context: &QueryContext) -> Result<LogRows> {
        context.check()?;
        context.charge_bytes(self.rows.lines.text().len() as u64)?;
        context.count_rows(self.rows.len() as u64);
        Ok(self.rows.clone())
    }
}

impl LogQuerier for FakeLogs {
    fn select(&self, select: &LogSelect, _: &QueryContext) -> Result<Vec<Box<dyn LogPart>>> {
        let mut parts: Vec<Box<dyn LogPart>> = Vec::new();
        for (stream, rows) in self.streams.lock().iter().filter(|(labels, _)| passes(labels, &select.matchers)) {
            let rows: Vec<FakeRow> = rows.iter().filter(|row| select.range.contains(row.timestamp)).cloned().collect();
            for rows in rows.chunks(2) {
                let (Some(first), Some(last)) = (rows.first(), rows.last()) else { continue };
                let range = TimeRange::new(first.timestamp, Timestamp(last.timestamp.0.saturating_add(1)));
                parts.push(Box::new(FakeLogPart { stream: stream.clone(), range, rows: rows_of(rows) }));
            }
        }
        Ok(parts)
    }

    fn tally(&self, select: &LogTallySelect, _: &QueryContext) -> Result<LogTallies> {
        let mut out = LogTallies::default();
        for (stream, rows) in self.streams.lock().iter().filter(|(labels, _)| passes(labels, &select.matchers)) {
            for row in rows.iter().filter(|row| select.range.contains(row.timestamp)) {
                let cut = select.cuts.partition_point(|cut| *cut < row.timestamp);
                let value = |name: &str| row.metadata.iter().find(|(have, _)| have == name).map(|(_, value)| value);
                let asked = |name: &String| stream.get(name).is_none() && select.fields.contains(name);
                // As a store makes them of numbers: from 1 on, without zeros before.
                let number = value("severity_number").map_or(Some(0), |text| {
                    text.parse().ok().filter(|number: &u8| *number > 0 && number.to_string() == *text)
                });
                let is_plain = |(name, value): &(String, String)| match name.as_str() {
                    "severity_number" => true,
                    "severity_text" => !value.is_empty(),
                    _ => !asked(name),
                };
                match number.filter(|_| row.metadata.iter().all(is_plain)) {
                    Some(severity_number) => out.tallies.push(LogTally {
                        stream: stream.clone(),
                        severity_number,
                        severity_text: value("severity_text").map_or("", String::as_str).into(),
                        records: vec![(cut, 1)],
                    }),
                    None => {
                        let range = TimeRange::new(row.timestamp, Timestamp(row.timestamp.0.saturating_add(1)));
                        let rows = rows_of(std::slice::from_ref(row));
                        out.parts.push(Box::new(FakeLogPart { stream: stream.clone(), range, rows }));
                    }
                }
            }
        }
        Ok(out)
    }

    fn streams(&self, selectors: &[Vec<Matcher>], range: TimeRange, _: &QueryContext) -> Result<Vec<Labels>> {
        let streams = self.streams.lock();
        let found = streams.iter().filter(|(labels, rows)| {
            passes_any(labels, selectors) && rows.iter().any(|row| range.contains(row.timestamp))
        });
        Ok(found.map(|(labels, _)| labels.clone()).collect())
    }

    fn counts(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        step_ns: Option<i64>,
        _: &QueryContext,
    ) -> Result<Vec<LogCount>> {
        const MINUTE_NS: i64 = 60_000_000_000;
        let mut counts: BTreeMap<(Labels, Timestamp, u8), (u64, u64)> = BTreeMap::new();
        for (stream, rows) in self.streams.lock().iter().filter(|(labels, _)| passes(labels, matchers)) {
            for row in rows {
                let minute = row.timestamp.0.div_euclid(MINUTE_NS) * MINUTE_NS;
                if !range.overlaps(&TimeRange::new(Timestamp(minute), Timestamp(minute + MINUTE_NS))) {
                    continue;
                }
                let number = row.metadata.iter().find(|(name, _)| name == "severity_number");
                let severity = number.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
                let count = counts.entry((stream.clone(), step_of(minute, range, step_ns), severity)).or_default();
                count.0 += 1;
                count.1 += row.line.len() as u64;
            }
        }
        let count = |((stream, step, severity_number), (records, bytes))| LogCount {
            stream,
            severity_number,
            step,
            records,
            bytes,
        };
        Ok(counts.into_iter().map(count).collect())
    }

    fn tail(&self) -> broadcast::Receiver<Arc<TailBatch>> {
        self.tail.subscribe()
    }
}
