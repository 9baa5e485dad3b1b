//! Remote write's requests, 1.0 and 2.0, walked without copying: text stays in the body.

use std::collections::HashSet;

use model::{MetricKind, Sample};

use crate::protobuf::{Field, Malformed, Reader};

/// So many samples of one series are decoded between two looks at the memory budget.
const SAMPLES_PER_CHARGE: usize = 4096;
/// The same for symbols.
const SYMBOLS_PER_CHARGE: usize = 4096;

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
    /// A label that refers to no symbol; 2.0 only.
    pub(crate) dangling: Option<u64>,
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

/// Walks over a request of remote write 2.0, whose text lies in a table of symbols, with the same limit on labels.
/// Metadata, which comes with each series there, is told once per name.
pub(crate) fn decode_2<'a, V: Visit<'a>>(body: &'a [u8], labels_max: usize, visit: &mut V) -> Result<(), V::Error> {
    let mut symbols: Vec<&[u8]> = Vec::new();
    let mut reader = Reader::new(body);
    while let Some((tag, field)) = reader.next()? {
        if tag == 4 {
            if symbols.len() % SYMBOLS_PER_CHARGE == SYMBOLS_PER_CHARGE - 1 {
                // A growing vector may hold twice what is in it.
                visit.charge((SYMBOLS_PER_CHARGE * 2 * size_of::<&[u8]>()) as u64)?;
            }
            symbols.push(field.bytes()?);
        }
    }
    let mut told: HashSet<&[u8]> = HashSet::new();
    let mut series = Series::default();
    let mut reader = Reader::new(body);
    while let Some((tag, field)) = reader.next()? {
        if tag != 5 {
            continue;
        }
        let metadata = decode_series_2(field.bytes()?, &symbols, labels_max, &mut series, visit)?;
        visit.series(&series)?;
        if metadata.kind == MetricKind::Unknown && metadata.help.is_empty() && metadata.unit.is_empty() {
            continue;
        }
        let name = series.labels.iter().find(|(name, _)| *name == b"__name__").map_or(&[][..], |(_, value)| *value);
        let name = family(name, metadata.kind);
        if !name.is_empty() && told.insert(name) {
            visit.charge(64)?;
            visit.metadata(&Metadata { name, ..metadata })?;
        }
    }
    Ok(())
}

/// Returns the metric family's name of a series' name.
fn family(name: &[u8], kind: MetricKind) -> &[u8] {
    let suffixes: &[&[u8]] = match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => &[b"_bucket", b"_sum", b"_count"],
        MetricKind::Summary => &[b"_sum", b"_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(*suffix)).unwrap_or(name)
}

fn decode_series_2<'a, V: Visit<'a>>(
    bytes: &'a [u8],
    symbols: &[&'a [u8]],
    labels_max: usize,
    series: &mut Series<'a>,
    visit: &mut V,
) -> Result<Metadata<'a>, V::Error> {
    series.clear();
    let mut metadata = Metadata::default();
    let mut refs = Refs { symbols, labels_max, name: None };
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match (tag, field) {
            (1, Field::Varint(reference)) => refs.take(reference, series),
            (1, _) => {
                let mut packed = Reader::new(field.bytes()?);
                while let Some(reference) = packed.next_varint()? {
                    refs.take(reference, series);
                }
            }
            (2, _) => series.push_sample(decode_sample(field.bytes()?)?, visit)?,
            (3, _) => {
                field.bytes()?;
                series.histograms += 1;
            }
            (4, _) => {
                field.bytes()?;
                series.exemplars += 1;
            }
            (5, _) => metadata = decode_metadata_2(field.bytes()?, symbols)?,
            _ => {}
        }
    }
    if refs.name.is_some() {
        // A name without a value.
        series.dangling = series.dangling.or(Some(symbols.len() as u64));
    }
    Ok(metadata)
}

/// Pairs up references into labels.
struct Refs<'s, 'a> {
    symbols: &'s [&'a [u8]],
    labels_max: usize,
    name: Option<&'a [u8]>,
}

impl<'a> Refs<'_, 'a> {
    fn take(&mut self, reference: u64, series: &mut Series<'a>) {
        let symbol = usize::try_from(reference).ok().and_then(|at| self.symbols.get(at));
        if symbol.is_none() {
            series.dangling = Some(reference);
        }
        let symbol = symbol.copied().unwrap_or_default();
        match self.name.take() {
            None => self.name = Some(symbol),
            Some(name) => series.push_label((name, symbol), self.labels_max),
        }
    }
}

fn decode_metadata_2<'a>(bytes: &'a [u8], symbols: &[&'a [u8]]) -> Result<Metadata<'a>, Malformed> {
    let symbol =
        |reference: u64| usize::try_from(reference).ok().and_then(|at| symbols.get(at)).copied().unwrap_or_default();
    let mut metadata = Metadata::default();
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => metadata.kind = kind(field.varint()?),
            3 => metadata.help = symbol(field.varint()?),
            4 => metadata.unit = symbol(field.varint()?),
            _ => {}
        }
    }
    Ok(metadata)
}

impl<'a> Series<'a> {
    fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        (self.labels_len, self.exemplars, self.histograms, self.dangling) = (0, 0, 0, None);
    }

    fn push_label(&mut self, label: RawLabel<'a>, labels_max: usize) {
        self.labels_len += 1;
        if self.labels.len() <= labels_max {
            self.labels.push(label);
        }
    }

    fn push_sample<V: Visit<'a>>(&mut self, sample: Sample, visit: &mut V) -> Result<(), V::Error> {
        if self.samples.len() % SAMPLES_PER_CHARGE == SAMPLES_PER_CHARGE - 1 {
            // A growing vector may hold twice what is in it.
            visit.charge((SAMPLES_PER_CHARGE * 2 * size_of::<Sample>()) as u64)?;
        }
        self.samples.push(sample);
        Ok(())
    }
}

fn decode_series<'a, V: Visit<'a>>(
    bytes: &'a [u8],
    labels_max: usize,
    series: &mut Series<'a>,
    visit: &mut V,
) -> Result<(), V::Error> {
    series.clear();
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => series.push_label(decode_label(field.bytes()?)?, labels_max),
            2 => series.push_sample(decode_sample(field.bytes()?)?, visit)?,
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
