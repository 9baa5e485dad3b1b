//! Remote write's requests, 1.0 and 2.0, walked without copying: text stays in the body.

mod exemplar;
mod histogram;
mod quick;
#[cfg(test)]
mod tests;
mod version_2;

use model::{Exemplar, HistogramSample, LabelError, METRIC_NAME, MetricKind, Sample};
use storage_api::AppendReport;

use crate::body::cut;
use crate::config::Config;
use crate::protobuf::{Malformed, Reader};

use exemplar::ExemplarScratch;
use histogram::HistogramScratch;
pub(crate) use quick::{LabelsError, Plain, decode_labels, scan};
pub(crate) use version_2::{Plain2, SymbolKeys, Symbols, decode_2, decode_labels_2, decode_symbols};

/// So many samples of one series are decoded between two looks at the memory budget.
const SAMPLES_PER_CHARGE: usize = 4096;

/// Why something is not taken: a word for the `reason` label, and the case in words.
pub(crate) type Fault = (&'static str, String);

/// One `TimeSeries`. The space is used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Series<'a> {
    /// The labels in the order they came, at most one more than the limit. Not to be used when there is a fault.
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    /// How many labels came.
    labels_len: usize,
    /// What is wrong with the labels, the first of it.
    fault: Option<Fault>,
    /// The samples in the order they came.
    pub(crate) samples: Vec<Sample>,
    /// The start time of each of `samples`, 0 where it is not known; or nothing at all.
    pub(crate) starts_ms: Vec<i64>,
    /// The native histograms in the order they came.
    pub(crate) histograms: Vec<HistogramSample>,
    /// The exemplars in the order they came.
    pub(crate) exemplars: Vec<Exemplar>,
    /// Histograms that are not in `histograms`, as they are invalid.
    pub(crate) bad_histograms: AppendReport,
    /// Exemplars that are not in `exemplars`, as they are invalid.
    pub(crate) bad_exemplars: AppendReport,
    /// Whether metadata came with the series; 2.0 only.
    pub(crate) has_metadata: bool,
    histogram: HistogramScratch,
    exemplar: ExemplarScratch<'a>,
}

/// One `MetricMetadata`, text not yet tested for UTF-8.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Metadata<'a> {
    pub(crate) kind: MetricKind,
    pub(crate) name: &'a [u8],
    pub(crate) help: &'a [u8],
    pub(crate) unit: &'a [u8],
}

/// What [`decode`] finds.
pub(crate) trait Visit<'a> {
    /// Why the walk should stop.
    type Error: From<Malformed>;

    /// Takes one series of 1.0 as it came, if it likes to; says whether it did.
    fn undecoded(&mut self, _: &'a [u8]) -> Result<bool, Self::Error> {
        Ok(false)
    }

    /// Takes one series of 2.0 with its labels as they came, if it likes to; says whether it did.
    fn undecoded_2(&mut self, _: &Plain2<'_, 'a>) -> Result<bool, Self::Error> {
        Ok(false)
    }

    /// Takes one series; what is left in it is thrown away.
    fn series(&mut self, series: &mut Series<'a>) -> Result<(), Self::Error>;

    /// Takes one entry of metadata.
    fn metadata(&mut self, metadata: &Metadata<'a>) -> Result<(), Self::Error>;

    /// Is told of memory that is about to be taken beyond the usual, in bytes.
    fn charge(&mut self, bytes: u64) -> Result<(), Self::Error>;
}

/// Walks over a request of remote write 1.0.
pub(crate) fn decode<'a, V: Visit<'a>>(body: &'a [u8], config: &Config, visit: &mut V) -> Result<(), V::Error> {
    let mut series = Series::default();
    let mut reader = Reader::new(body);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => {
                let bytes = field.bytes()?;
                if !visit.undecoded(bytes)? {
                    decode_series(bytes, config, &mut series, visit)?;
                    visit.series(&mut series)?;
                }
            }
            3 => {
                let bytes = field.bytes()?;
                visit.metadata(&decode_metadata(bytes).map_err(|malformed| malformed.within(bytes))?)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn decode_series<'a, V: Visit<'a>>(
    bytes: &'a [u8],
    config: &Config,
    series: &mut Series<'a>,
    visit: &mut V,
) -> Result<(), V::Error> {
    let within = |malformed: Malformed| malformed.within(bytes);
    series.clear();
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => {
                let (name, value) = field.bytes().and_then(decode_label).map_err(within)?;
                series.push_raw_label(name, value, config);
            }
            2 => {
                let sample = field.bytes().and_then(decode_sample).map_err(within)?;
                series.push_sample(sample, 0, visit)?;
            }
            3 => {
                let bytes = field.bytes().map_err(within)?;
                let exemplar = series.exemplar.decode(bytes).map_err(|malformed| malformed.within(bytes))?;
                series.push_exemplar(exemplar, visit)?;
            }
            4 => series.push_histogram(field.bytes().map_err(within)?, config, visit)?,
            _ => {}
        }
    }
    series.check_labels(config);
    Ok(())
}

impl<'a> Series<'a> {
    fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        self.starts_ms.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.bad_histograms.rejections.clear();
        self.bad_exemplars.rejections.clear();
        (self.labels_len, self.fault, self.has_metadata) = (0, None, false);
    }

    /// Returns what is wrong with the labels, if anything.
    pub(crate) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// Says whether nothing is wrong with the labels.
    pub(crate) fn is_fine(&self) -> bool {
        self.fault.is_none()
    }

    fn set_fault(&mut self, reason: &'static str, detail: impl FnOnce() -> String) {
        if self.fault.is_none() {
            self.fault = Some((reason, detail()));
        }
    }

    /// Adds a label that is not yet tested for UTF-8.
    fn push_raw_label(&mut self, name: &'a [u8], value: &'a [u8], config: &Config) {
        if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
            self.push_label(name, value, config);
        } else {
            self.labels_len += 1;
            self.set_fault("invalid_utf8", || {
                format!("label {:?} is not valid UTF-8", cut(&String::from_utf8_lossy(name)))
            });
        }
    }

    fn push_label(&mut self, name: &'a str, value: &'a str, config: &Config) {
        self.labels_len += 1;
        if name.len() > config.max_label_name_bytes {
            let (got, limit) = (name.len(), config.max_label_name_bytes);
            self.set_fault("label_name_too_long", || format!("a label name has {got} bytes, the limit is {limit}"));
        }
        if value.len() > config.max_label_value_bytes {
            let (got, limit) = (value.len(), config.max_label_value_bytes);
            self.set_fault("label_value_too_long", || {
                format!("label {:?} has a value of {got} bytes, the limit is {limit}", cut(name))
            });
        }
        if self.labels.len() <= config.max_labels {
            self.labels.push((name, value));
        }
    }

    /// Looks at the labels as a whole, once all are there.
    fn check_labels(&mut self, config: &Config) {
        let (got, limit) = (self.labels_len, config.max_labels);
        if got > limit {
            // What is wrong with the labels beyond the limit is of no interest.
            self.fault = Some(("too_many_labels", format!("a series has {got} labels, the limit is {limit}")));
        } else if self.fault.is_none()
            && !self.labels.iter().any(|(name, value)| *name == METRIC_NAME && !value.is_empty())
        {
            self.fault = Some(("missing_metric_name", format!("a series has no metric name: {}", self.shown())));
        }
    }

    fn push_sample<V: Visit<'a>>(&mut self, sample: Sample, start_ms: i64, visit: &mut V) -> Result<(), V::Error> {
        if self.samples.len() % SAMPLES_PER_CHARGE == SAMPLES_PER_CHARGE - 1 {
            // A growing vector may hold twice what is in it.
            visit.charge((SAMPLES_PER_CHARGE * 2 * (size_of::<Sample>() + size_of::<i64>())) as u64)?;
        }
        self.samples.push(sample);
        if start_ms != 0 || !self.starts_ms.is_empty() {
            self.starts_ms.resize(self.samples.len() - 1, 0);
            self.starts_ms.push(start_ms);
        }
        Ok(())
    }

    /// Takes out what has a time that cannot be said in nanoseconds, which is what times are elsewhere. Returns how many
    /// samples and histograms, and how many exemplars, that were.
    pub(crate) fn drop_out_of_range(&mut self) -> (u64, u64) {
        let before = (self.samples.len() + self.histograms.len(), self.exemplars.len());
        if !self.samples.iter().all(|sample| in_range(sample.timestamp_ms))
            || !self.starts_ms.iter().all(|start_ms| in_range(*start_ms))
        {
            self.starts_ms.resize(self.samples.len(), 0);
            let both = self.samples.drain(..).zip(self.starts_ms.drain(..));
            (self.samples, self.starts_ms) =
                both.filter(|(sample, start_ms)| in_range(sample.timestamp_ms) && in_range(*start_ms)).unzip();
            if self.starts_ms.iter().all(|start_ms| *start_ms == 0) {
                self.starts_ms.clear();
            }
        }
        self.histograms.retain(|one| in_range(one.timestamp_ms) && in_range(one.start_ms));
        self.exemplars.retain(|one| in_range(one.sample.timestamp_ms));
        let after = (self.samples.len() + self.histograms.len(), self.exemplars.len());
        ((before.0 - after.0) as u64, (before.1 - after.1) as u64)
    }

    fn push_histogram<V: Visit<'a>>(&mut self, bytes: &[u8], config: &Config, visit: &mut V) -> Result<(), V::Error> {
        let decoded = self.histogram.decode(bytes, config.max_buckets).map_err(|malformed| malformed.within(bytes))?;
        match decoded {
            Ok(sample) => {
                let buckets = sample.histogram.positive.capacity() + sample.histogram.negative.capacity();
                let bytes = size_of::<model::Histogram>() + buckets * size_of::<(i32, f64)>();
                visit.charge((bytes + 4 * size_of::<HistogramSample>()) as u64)?;
                self.histograms.push(sample);
            }
            Err((reason, detail)) => self.bad_histograms.reject(reason, 1, || detail),
        }
        Ok(())
    }

    fn push_exemplar<V: Visit<'a>>(
        &mut self,
        exemplar: Result<Exemplar, Fault>,
        visit: &mut V,
    ) -> Result<(), V::Error> {
        match exemplar {
            Ok(exemplar) => {
                visit.charge((exemplar.labels.size_bytes() + 4 * size_of::<Exemplar>()) as u64)?;
                self.exemplars.push(exemplar);
            }
            Err((reason, detail)) => self.bad_exemplars.reject(reason, 1, || detail),
        }
        Ok(())
    }

    /// Says what is wrong with labels that are no set.
    pub(crate) fn label_fault(&self, error: &LabelError) -> Fault {
        let reason = match error {
            LabelError::Repeated { .. } => "duplicate_label",
            _ => "empty_label_name",
        };
        (reason, format!("{error} in {}", self.shown()))
    }

    /// Shows the labels in a message, cut.
    pub(crate) fn shown(&self) -> String {
        let labels = self.labels.iter().take(8).map(|(name, value)| format!("{}={:?}", cut(name), cut(value)));
        format!("{{{}}}", labels.collect::<Vec<_>>().join(", "))
    }
}

fn in_range(at_ms: i64) -> bool {
    at_ms.unsigned_abs() <= i64::MAX.unsigned_abs() / 1_000_000
}

fn decode_label(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut label: (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => label.0 = field.bytes()?,
            2 => label.1 = field.bytes()?,
            _ => {}
        }
    }
    Ok(label)
}

fn decode_sample(bytes: &[u8]) -> Result<Sample, Malformed> {
    let mut sample = Sample { timestamp_ms: 0, value: 0.0 };
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => sample.value = field.double()?,
            2 => sample.timestamp_ms = field.int64()?,
            _ => {}
        }
    }
    Ok(sample)
}

fn decode_metadata(bytes: &[u8]) -> Result<Metadata<'_>, Malformed> {
    let mut metadata = Metadata::default();
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => metadata.kind = kind(field.varint()?),
            2 => metadata.name = field.bytes()?,
            4 => metadata.help = field.bytes()?,
            5 => metadata.unit = field.bytes()?,
            _ => {}
        }
    }
    Ok(metadata)
}

fn kind(number: u64) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    }
}
