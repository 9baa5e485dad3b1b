//! Gathers the samples of a text into batches for a store.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use agent::exposition::{self, Labels, seconds_to_ms, suffixes};
use model::{Exemplar, MetricKind, MetricMetadata, Sample};
use storage_api::{LabelPair, MetricBatch};

/// Name and labels of a series.
type Id = Rc<(String, Labels)>;

/// What a batch will hold.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    series: Vec<Pending>,
    by_id: HashMap<Id, usize>,
    metadata: Vec<MetricMetadata>,
    /// How many samples there are.
    pub(crate) samples: usize,
    /// How many of them have an exemplar.
    pub(crate) exemplars: usize,
}

#[derive(Debug)]
struct Pending {
    id: Id,
    samples: Vec<Sample>,
    /// As many, 0 where the start is not known.
    starts_ms: Vec<i64>,
    exemplars: Vec<Exemplar>,
}

impl Collected {
    /// Says whether there is nothing to store.
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty() && self.metadata.is_empty()
    }

    /// Iterates over names and labels of the series.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &(String, Labels)> {
        self.series.iter().map(|pending| &*pending.id)
    }

    /// Returns the batch.
    pub(crate) fn batch(&self) -> anyhow::Result<MetricBatch<'_>> {
        let mut batch = MetricBatch::default();
        batch.metadata.clone_from(&self.metadata);
        for Pending { id, samples, starts_ms, exemplars } in &self.series {
            let pair = |name: &'static str, value| -> LabelPair<'_> { (Cow::Borrowed(name), Cow::Borrowed(value)) };
            let name = pair("__name__", id.0.as_str());
            let others = id.1.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
            batch.push(std::iter::once(name).chain(others), samples.iter().copied())?;
            if starts_ms.iter().any(|start| *start != 0) {
                batch.set_starts(starts_ms.iter().copied());
            }
            if !exemplars.is_empty() {
                batch.set_exemplars(exemplars.iter().cloned());
            }
        }
        Ok(batch)
    }
}

/// Turns lines into what batches hold.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    collected: Collected,
    /// What the lines said last, and of which metric family.
    family: MetricMetadata,
    is_family_told: bool,
    point: Point,
}

/// Samples of one family that were taken together: those of a histogram, or a counter and when it was created. As far as
/// they follow each other in the text.
#[derive(Debug, Default)]
struct Point {
    family: String,
    /// Without `le` and `quantile`.
    labels: Labels,
    timestamp_ms: i64,
    /// Places in [`Collected::series`] and there in `samples`.
    members: Vec<(usize, usize)>,
    /// 0 when it is not known.
    start_ms: i64,
}

impl Collector {
    /// Takes note of a `# HELP` line.
    pub(crate) fn help(&mut self, name: String, help: String) {
        self.of_family(name).help = help;
    }

    /// Takes note of a `# TYPE` line.
    pub(crate) fn kind(&mut self, name: String, kind: MetricKind) {
        self.of_family(name).kind = kind;
    }

    /// Takes note of a `# UNIT` line.
    ///
    /// # Errors
    /// When the unit is not at the end of the family's name.
    pub(crate) fn unit(&mut self, name: String, unit: String) -> Result<(), String> {
        let is_suffix = name.strip_suffix(unit.as_str()).is_some_and(|rest| rest.ends_with('_'));
        if !unit.is_empty() && !is_suffix {
            return Err(format!("unit {unit:?} not a suffix of metric {name:?}"));
        }
        self.of_family(name).unit = unit;
        Ok(())
    }

    fn of_family(&mut self, name: String) -> &mut MetricMetadata {
        if self.family.name != name {
            self.end_family();
            self.family.name = name;
        }
        self.is_family_told = true;
        &mut self.family
    }

    fn end_family(&mut self) {
        let family = std::mem::take(&mut self.family);
        if std::mem::take(&mut self.is_family_told) {
            self.collected.metadata.push(family);
        }
    }

    /// Returns how much is gathered.
    pub(crate) fn collected(&self) -> &Collected {
        &self.collected
    }

    /// Says whether `sample` belongs together with the one before it.
    pub(crate) fn continues(&self, sample: &exposition::Sample) -> bool {
        let Some(timestamp_ms) = sample.timestamp_ms else { return false };
        self.suffix(&sample.name).is_some() && self.is_point(&of_point(&sample.labels), timestamp_ms)
    }

    /// Returns what `name` adds to that of the family, when the family's points can have a start.
    fn suffix<'n>(&self, name: &'n str) -> Option<&'n str> {
        let kind = self.family.kind;
        let can_start = matches!(kind, MetricKind::Counter | MetricKind::Histogram | MetricKind::Summary);
        let suffix = name.strip_prefix(self.family.name.as_str()).filter(|_| can_start)?;
        suffixes(kind).contains(&suffix).then_some(suffix)
    }

    fn is_point(&self, labels: &Labels, timestamp_ms: i64) -> bool {
        let point = &self.point;
        point.family == self.family.name && point.timestamp_ms == timestamp_ms && point.labels == *labels
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// When it has no timestamp.
    pub(crate) fn add(&mut self, sample: exposition::Sample) -> Result<(), String> {
        let exposition::Sample { name, labels, value, timestamp_ms, exemplar } = sample;
        let Some(timestamp_ms) = timestamp_ms else {
            return Err(format!("expected timestamp for series {}, got none", shown(&name, &labels)));
        };
        let suffix = self.suffix(&name);
        if suffix.is_some() {
            let of_point = of_point(&labels);
            if !self.is_point(&of_point, timestamp_ms) {
                let family = self.family.name.clone();
                self.point = Point { family, labels: of_point, timestamp_ms, ..Point::default() };
            }
        }
        let is_created = suffix == Some("_created");
        let is_member = suffix.is_some() && !is_created;
        let at = self.collected.place(name, labels);
        let Some(series) = self.collected.series.get_mut(at) else { return Ok(()) };
        if is_member {
            self.point.members.push((at, series.samples.len()));
        }
        series.samples.push(Sample { timestamp_ms, value });
        series.starts_ms.push(if is_member { self.point.start_ms } else { 0 });
        self.collected.samples += 1;
        if let Some(exposition::Exemplar { labels, value, timestamp_ms: own }) = exemplar {
            let sample = Sample { timestamp_ms: own.unwrap_or(timestamp_ms), value };
            series.exemplars.push(Exemplar { labels: model::Labels::from_pairs(labels), sample });
            self.collected.exemplars += 1;
        }
        let start_ms = seconds_to_ms(value).filter(|start| *start > 0 && *start <= timestamp_ms);
        if let Some(start_ms) = start_ms.filter(|_| is_created) {
            self.start_point(start_ms);
        }
        Ok(())
    }

    /// Gives the samples of the point their start.
    fn start_point(&mut self, start_ms: i64) {
        self.point.start_ms = start_ms;
        for (series, sample) in self.point.members.drain(..) {
            let series = self.collected.series.get_mut(series);
            if let Some(start) = series.and_then(|series| series.starts_ms.get_mut(sample)) {
                *start = start_ms;
            }
        }
    }

    /// Returns what is gathered and begins anew.
    pub(crate) fn take(&mut self) -> Collected {
        // Their places are gone.
        self.point.members.clear();
        std::mem::take(&mut self.collected)
    }

    /// Returns what is gathered at the end of the text.
    pub(crate) fn finish(&mut self) -> Collected {
        self.end_family();
        self.take()
    }
}

impl Collected {
    /// Returns the place of a series, a new one if need be.
    fn place(&mut self, name: String, labels: Labels) -> usize {
        let id = Rc::new((name, labels));
        *self.by_id.entry(id).or_insert_with_key(|id| {
            let id = Rc::clone(id);
            self.series.push(Pending { id, samples: Vec::new(), starts_ms: Vec::new(), exemplars: Vec::new() });
            self.series.len() - 1
        })
    }
}

/// Returns the labels that the samples of one point share.
fn of_point(labels: &Labels) -> Labels {
    labels.iter().filter(|(name, _)| name != "le" && name != "quantile").cloned().collect()
}

fn shown(name: &str, labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    if pairs.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", pairs.join(", ")) }
}
