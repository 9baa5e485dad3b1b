//! Remote write 2.0: text lies in a table of symbols, and metadata beside each series.

use std::collections::HashSet;
use std::fmt;

use model::{METRIC_NAME, MetricKind, Sample};

use super::{Fault, Metadata, Series, Visit, kind};
use crate::config::Config;
use crate::protobuf::{Field, Malformed, Reader};

/// So many symbols are decoded between two looks at the memory budget.
const SYMBOLS_PER_CHARGE: usize = 4096;

/// The request's texts, each tested once for UTF-8; `None` where it is none.
#[derive(Debug, Default)]
pub(super) struct Symbols<'a>(Vec<Option<&'a str>>);

/// What is wrong with references to symbols.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum BadRefs {
    Missing { reference: u64, len: usize },
    NotUtf8 { reference: u64 },
    Odd { len: u64 },
}

impl fmt::Display for BadRefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { reference, len } => {
                write!(f, "refers to symbol {reference}, which is not there, of {len} symbols")
            }
            Self::NotUtf8 { reference } => write!(f, "refers to symbol {reference}, which is not valid UTF-8"),
            Self::Odd { len } => write!(f, "has a name without a value: there are {len} references to symbols"),
        }
    }
}

impl BadRefs {
    fn reason(self) -> &'static str {
        match self {
            Self::Missing { .. } => "invalid_symbol",
            Self::NotUtf8 { .. } => "invalid_utf8",
            Self::Odd { .. } => "odd_label_references",
        }
    }
}

/// Walks over a request of remote write 2.0. Metadata, which comes with each series, is told once per name.
pub(crate) fn decode_2<'a, V: Visit<'a>>(body: &'a [u8], config: &Config, visit: &mut V) -> Result<(), V::Error> {
    let symbols = decode_symbols(body, visit)?;
    // The names whose metadata was told, and one that surely was, as the series of a metric are neighbours.
    let mut told: HashSet<&str> = HashSet::new();
    let mut last = "";
    let mut series = Series::default();
    let mut reader = Reader::new(body);
    while let Some((tag, field)) = reader.next()? {
        if tag != 5 {
            continue;
        }
        let metadata = decode_series(field.bytes()?, &symbols, config, &mut series, visit)?;
        if series.has_metadata && series.is_fine() {
            let name = series.labels.iter().find(|(name, _)| *name == METRIC_NAME).map_or("", |(_, value)| *value);
            let name = family(name, metadata.kind);
            if name != last {
                if told.insert(name) {
                    visit.charge(64)?;
                    visit.metadata(&Metadata { name: name.as_bytes(), ..metadata })?;
                }
                last = name;
            }
        }
        visit.series(&mut series)?;
    }
    Ok(())
}

fn decode_symbols<'a, V: Visit<'a>>(body: &'a [u8], visit: &mut V) -> Result<Symbols<'a>, V::Error> {
    let mut symbols: Vec<Option<&str>> = Vec::new();
    let mut reader = Reader::new(body);
    while let Some((tag, field)) = reader.next()? {
        if tag == 4 {
            if symbols.len() % SYMBOLS_PER_CHARGE == SYMBOLS_PER_CHARGE - 1 {
                // A growing vector may hold twice what is in it.
                visit.charge((SYMBOLS_PER_CHARGE * 2 * size_of::<Option<&str>>()) as u64)?;
            }
            let bytes = field.bytes()?;
            if symbols.is_empty() && !bytes.is_empty() {
                return Err(Malformed::new("the first symbol is not the empty string").within(bytes).into());
            }
            symbols.push(std::str::from_utf8(bytes).ok());
        }
    }
    Ok(Symbols(symbols))
}

impl<'a> Symbols<'a> {
    fn get(&self, reference: u64) -> Result<&'a str, BadRefs> {
        match usize::try_from(reference).ok().and_then(|at| self.0.get(at)) {
            Some(Some(text)) => Ok(text),
            Some(None) => Err(BadRefs::NotUtf8 { reference }),
            None => Err(BadRefs::Missing { reference, len: self.0.len() }),
        }
    }

    pub(super) fn pairs(&self) -> Pairs<'_, 'a> {
        Pairs { symbols: self, len: 0, name: "" }
    }
}

/// Makes labels of references, which are names and values in turn.
#[derive(Debug)]
pub(super) struct Pairs<'s, 'a> {
    symbols: &'s Symbols<'a>,
    len: u64,
    name: &'a str,
}

impl<'a> Pairs<'_, 'a> {
    /// Takes a reference; gives a label with each second one.
    pub(super) fn take(&mut self, reference: u64) -> Result<Option<(&'a str, &'a str)>, BadRefs> {
        self.len += 1;
        let text = self.symbols.get(reference)?;
        if self.len % 2 == 1 {
            self.name = text;
            Ok(None)
        } else {
            Ok(Some((self.name, text)))
        }
    }

    /// Tests that no name is left without a value.
    pub(super) fn finish(self) -> Result<(), BadRefs> {
        if self.len % 2 == 1 { Err(BadRefs::Odd { len: self.len }) } else { Ok(()) }
    }
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
    if let Err(bad) = pairs.finish() {
        series.set_fault(bad.reason(), || format!("a label {bad}"));
    }
    if created_ms != 0 {
        series.set_created(created_ms);
    }
    series.has_metadata =
        metadata.kind != MetricKind::Unknown || !metadata.help.is_empty() || !metadata.unit.is_empty();
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
    let mut metadata = Metadata::default();
    let mut bad: Option<BadRefs> = None;
    let mut text = |reference| {
        let found = symbols.get(reference);
        found.unwrap_or_else(|one| {
            bad = bad.or(Some(one));
            ""
        })
    };
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => metadata.kind = kind(field.varint()?),
            3 => metadata.help = text(field.varint()?).as_bytes(),
            4 => metadata.unit = text(field.varint()?).as_bytes(),
            _ => {}
        }
    }
    Ok(match bad {
        None => Ok(metadata),
        Some(bad) => Err((bad.reason(), format!("the metadata of a series {bad}"))),
    })
}
