//! Remote write 1.0's `WriteRequest`, walked without copying: text stays in the body.

use model::{MetricKind, Sample};

use crate::protobuf::{Malformed, Reader};

/// So many samples of one series are decoded between two looks at the memory budget.
const SAMPLES_PER_CHARGE: usize = 4096;

/// A label's name and value, not yet tested for UTF-8.
pub(crate) type RawLabel<'a> = (&'a [u8], &'a [u8]);

/// One `TimeSeries`.
#[derive(Debug, Default)]
pub(crate) struct Series<'a> {
    /// The labels in the order they came, at most one more than the limit given to [`decode`].
    pub(crate) labels: Vec<RawLabel<'a>>,
    /// How many labels came.
    pub(crate) labels_len: usize,
    /// The samples in the order they came.
    pub(crate) samples: Vec<Sample>,
    /// How many exemplars came.
    pub(crate) exemplars: u64,
    /// How many native histogram samples came.
    pub(crate) histograms: u64,
}

/// One `MetricMetadata`, text not yet tested for UTF-8.
#[derive(Debug, Default, Clone, PartialEq)]
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

    /// Takes one series; the scratch space is used again for the next one.
    fn series(&mut self, series: &Series<'a>) -> Result<(), Self::Error>;

    /// Takes one entry of metadata.
    fn metadata(&mut self, metadata: &Metadata<'a>) -> Result<(), Self::Error>;

    /// Is told of memory that the scratch space is about to take beyond the usual, in bytes.
    fn charge(&mut self, bytes: u64) -> Result<(), Self::Error>;
}

/// Walks over a request. At most `labels_max + 1` labels of a series are kept.
pub(crate) fn decode<'a, V: Visit<'a>>(body: &'a [u8], labels_max: usize, visit: &mut V) -> Result<(), V::Error> {
    let mut series = Series::default();
    let mut reader = Reader::new(body);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => {
                decode_series(field.bytes()?, labels_max, &mut series, visit)?;
                visit.series(&series)?;
            }
            3 => visit.metadata(&decode_metadata(field.bytes()?)?)?,
            _ => {}
        }
    }
    Ok(())
}

fn decode_series<'a, V: Visit<'a>>(
    bytes: &'a [u8],
    labels_max: usize,
    series: &mut Series<'a>,
    visit: &mut V,
) -> Result<(), V::Error> {
    series.labels.clear();
    series.samples.clear();
    (series.labels_len, series.exemplars, series.histograms) = (0, 0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => {
                let label = decode_label(field.bytes()?)?;
                series.labels_len += 1;
                if series.labels.len() <= labels_max {
                    series.labels.push(label);
                }
            }
            2 => {
                let sample = decode_sample(field.bytes()?)?;
                if series.samples.len() % SAMPLES_PER_CHARGE == SAMPLES_PER_CHARGE - 1 {
                    // A growing vector may hold twice what is in it.
                    visit.charge((SAMPLES_PER_CHARGE * 2 * size_of::<Sample>()) as u64)?;
                }
                series.samples.push(sample);
            }
            3 => {
                field.bytes()?;
                series.exemplars += 1;
            }
            4 => {
                field.bytes()?;
                series.histograms += 1;
            }
            _ => {}
        }
    }
    Ok(())
}

fn decode_label(bytes: &[u8]) -> Result<RawLabel<'_>, Malformed> {
    let mut label: RawLabel<'_> = (&[], &[]);
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
