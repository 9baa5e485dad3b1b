//! Remote write 2.0: text lies in a table of symbols, and metadata beside each series.

mod quick;
mod symbols;

use std::collections::HashSet;

use model::{METRIC_NAME, MetricKind, Sample};
use storage_api::LabelPair;

use super::{Fault, LabelsError, Metadata, Series, Visit};
use crate::config::Config;
use crate::protobuf::{Field, Malformed, Reader};

pub(crate) use quick::Plain2;
use quick::Scratch;
pub(super) use symbols::{BadRefs, Pairs};
pub(crate) use symbols::{SymbolKeys, Symbols, decode_symbols};

/// Walks over a request of remote write 2.0. Metadata, which comes with each series, is told once per name.
pub(crate) fn decode_2<'a, V: Visit<'a>>(
    body: &'a [u8],
    symbols: &Symbols<'a>,
    config: &Config,
    visit: &mut V,
) -> Result<(), V::Error> {
    let mut told = Told::default();
    let mut series = Series::default();
    let mut scratch = Scratch::default();
    let mut reader = Reader::new(body);
    while let Some((tag, field)) = reader.next()? {
        if tag != 5 {
            continue;
        }
        let bytes = field.bytes()?;
        if let Some(plain) = scratch.scan(bytes, symbols)
            && let Some(metadata) = told.plain(&plain, symbols)
            && visit.undecoded_2(&plain)?
        {
            told.tell(metadata, visit)?;
            continue;
        }
        let metadata = decode_series(bytes, symbols, config, &mut series, visit)?;
        if series.has_metadata && series.is_fine() {
            let is_name = |(name, value): &&(&str, &str)| *name == METRIC_NAME && !value.is_empty();
            let name = series.labels.iter().find(is_name).map(|(_, value)| *value);
            told.tell(name.map(|name| (name, metadata)), visit)?;
        }
        visit.series(&mut series)?;
    }
    Ok(())
}

/// The metrics whose metadata was told.
#[derive(Debug, Default)]
struct Told<'a> {
    /// The last metadata, as it came, by the reference to a series' name.
    names: Vec<&'a [u8]>,
    families: HashSet<&'a str>,
}

impl<'a> Told<'a> {
    /// Returns the metadata of a plain series, nothing when it was told or has none. `None` when it is faulty.
    fn plain(&mut self, plain: &Plain2<'_, 'a>, symbols: &Symbols<'a>) -> Option<Option<(&'a str, Metadata<'a>)>> {
        let name = usize::try_from(plain.name).ok()?;
        if plain.metadata.is_empty() || self.names.get(name) == Some(&plain.metadata) {
            return Some(None);
        }
        let metadata = decode_metadata(plain.metadata, symbols).ok()?.ok()?;
        if !has_metadata(&metadata) {
            return Some(None);
        }
        self.names.resize(symbols.len(), &[]);
        *self.names.get_mut(name)? = plain.metadata;
        Some(Some((symbols.get(plain.name).ok()?, metadata)))
    }

    /// Tells the metadata of a series with this name, unless its metric's was told already.
    fn tell<V: Visit<'a>>(&mut self, metadata: Option<(&'a str, Metadata<'a>)>, visit: &mut V) -> Result<(), V::Error> {
        let Some((name, metadata)) = metadata else { return Ok(()) };
        let name = family(name, metadata.kind);
        if self.families.insert(name) {
            visit.charge(64)?;
            visit.metadata(&Metadata { name: name.as_bytes(), ..metadata })?;
        }
        Ok(())
    }
}

fn has_metadata(metadata: &Metadata<'_>) -> bool {
    metadata.kind != MetricKind::Unknown || !metadata.help.is_empty() || !metadata.unit.is_empty()
}

/// Decodes the labels of a plain series from the references to them, with the checks that those of any other pass.
pub(crate) fn decode_labels_2<'a>(
    references: &[u8],
    symbols: &Symbols<'a>,
    config: &Config,
    out: &mut Vec<LabelPair<'a>>,
) -> Result<(), LabelsError> {
    let mut series = Series::default();
    let mut pairs = symbols.pairs();
    let mut packed = Reader::new(references);
    while let Some(reference) = packed.next_varint()? {
        series.take_reference(reference, &mut pairs, config);
    }
    series.finish_references(pairs);
    series.into_labels(config, out)
}

/// Returns the metric family's name of a series' name.
fn family(name: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => &["_bucket", "_sum", "_count"],
        MetricKind::Summary => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn decode_series<'a, V: Visit<'a>>(
    bytes: &'a [u8],
    symbols: &Symbols<'a>,
    config: &Config,
    series: &mut Series<'a>,
    visit: &mut V,
) -> Result<Metadata<'a>, V::Error> {
    let within = |malformed: Malformed| malformed.within(bytes);
    series.clear();
    let mut metadata = Metadata::default();
    let mut created_ms = 0;
    let mut pairs = symbols.pairs();
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match (tag, field) {
            (1, Field::Varint(reference)) => series.take_reference(reference, &mut pairs, config),
            (1, _) => {
                let mut packed = Reader::new(field.bytes().map_err(within)?);
                while let Some(reference) = packed.next_varint()? {
                    series.take_reference(reference, &mut pairs, config);
                }
            }
            (2, _) => {
                let (sample, start_ms) = field.bytes().and_then(decode_sample).map_err(within)?;
                series.push_sample(sample, start_ms, visit)?;
            }
            (3, _) => series.push_histogram(field.bytes().map_err(within)?, config, visit)?,
            (4, _) => {
                let bytes = field.bytes().map_err(within)?;
                let exemplar = series.exemplar.decode_2(bytes, symbols).map_err(|malformed| malformed.within(bytes))?;
                series.push_exemplar(exemplar, visit)?;
            }
            (5, _) => match field.bytes().and_then(|bytes| decode_metadata(bytes, symbols)).map_err(within)? {
                Ok(found) => metadata = found,
                Err((reason, detail)) => series.set_fault(reason, || detail),
            },
            (6, _) => created_ms = field.int64().unwrap_or_default(),
            _ => {}
        }
    }
    series.finish_references(pairs);
    if created_ms != 0 {
        series.set_created(created_ms);
    }
    series.has_metadata = has_metadata(&metadata);
    series.check_labels(config);
    Ok(metadata)
}

impl<'a> Series<'a> {
    fn take_reference(&mut self, reference: u64, pairs: &mut Pairs<'_, 'a>, config: &Config) {
        match pairs.take(reference) {
            Ok(Some((name, value))) => self.push_label(name, value, config),
            Ok(None) => {}
            // A bad request may have millions of these: only one is put in words.
            Err(bad) if self.fault.is_none() => {
                let shown = self.shown();
                self.set_fault(bad.reason(), || format!("a label {bad}, in {shown}"));
            }
            Err(_) => {}
        }
    }

    fn finish_references(&mut self, pairs: Pairs<'_, 'a>) {
        if let Err(bad) = pairs.finish() {
            self.set_fault(bad.reason(), || format!("a label {bad}"));
        }
    }

    /// Gives what has no start time of its own that of the whole series, which drafts of 2.0 had.
    fn set_created(&mut self, created_ms: i64) {
        self.starts_ms.resize(self.samples.len(), 0);
        let starts = self.histograms.iter_mut().map(|one| &mut one.start_ms).chain(&mut self.starts_ms);
        starts.filter(|start_ms| **start_ms == 0).for_each(|start_ms| *start_ms = created_ms);
    }
}

/// Returns a sample and its start time, 0 where it is not known.
fn decode_sample(bytes: &[u8]) -> Result<(Sample, i64), Malformed> {
    let mut sample = Sample { timestamp_ms: 0, value: 0.0 };
    let mut start_ms = 0;
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => sample.value = field.double()?,
            2 => sample.timestamp_ms = field.int64()?,
            3 => start_ms = field.int64()?,
            _ => {}
        }
    }
    Ok((sample, start_ms))
}

fn decode_metadata<'a>(bytes: &[u8], symbols: &Symbols<'a>) -> Result<Result<Metadata<'a>, Fault>, Malformed> {
    let (mut kind, mut help, mut unit) = (MetricKind::Unknown, 0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => kind = super::kind(field.varint()?),
            3 => help = field.varint()?,
            4 => unit = field.varint()?,
            _ => {}
        }
    }
    // Without symbols there is no first one, which is empty.
    let text = |reference| if reference == 0 { Ok("") } else { symbols.get(reference) };
    Ok(match text(help).and_then(|help| Ok((help, text(unit)?))) {
        Ok((help, unit)) => Ok(Metadata { kind, name: &[], help: help.as_bytes(), unit: unit.as_bytes() }),
        Err(bad) => Err((bad.reason(), format!("the metadata of a series {bad}"))),
    })
}
