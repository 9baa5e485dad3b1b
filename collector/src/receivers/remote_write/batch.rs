//! Collects what of a request passes the tests.

use std::borrow::Cow;

use model::{MetricMetadata, Sample};
use storage_api::{KeyMaker, LabelFault, LabelPair, LabelSource, MetricBatch, Rejection};

use crate::admission::Admission;
use crate::body::cut;
use crate::config::Config;
use crate::error::{Refusal, Result};
use crate::protobuf::Malformed;
use crate::receivers::tally::Tally;
use crate::receivers::write_request::{
    Fault, Metadata, Plain, Plain2, Series, Symbols, Visit, decode_labels, decode_labels_2, scan,
};

/// A series of 2.0 that has nothing: no sample, histogram, exemplar or metadata.
pub(super) const EMPTY_SERIES: &str = "empty_series";
/// A series of 2.0 without samples and histograms, with a fault in its labels.
pub(super) const INVALID_SERIES: &str = "invalid_series";
/// Exemplars of a series with a fault in its labels.
const EXEMPLARS_OF_INVALID_SERIES: &str = "exemplar_invalid_series";

/// The labels in a body, or with 2.0 the references to them. A token has their offset in the high half and their length in
/// the low one.
#[derive(Debug)]
pub(super) struct LabelsInBody<'a> {
    pub(super) body: &'a [u8],
    /// Only with 2.0.
    pub(super) symbols: Option<Symbols<'a>>,
    pub(super) config: &'a Config,
}

impl LabelsInBody<'_> {
    /// Returns the token of labels in this body. `None` where they lie too far behind.
    fn token(&self, labels: &[u8]) -> Option<u64> {
        let offset = u32::try_from(labels.as_ptr().addr().checked_sub(self.body.as_ptr().addr())?).ok()?;
        let length = u32::try_from(labels.len()).ok()?;
        Some(u64::from(offset) << 32 | u64::from(length))
    }
}

impl<'a> LabelSource<'a> for LabelsInBody<'a> {
    fn labels(&self, token: u64, out: &mut Vec<LabelPair<'a>>) -> std::result::Result<(), LabelFault> {
        let (offset, length) = ((token >> 32) as usize, token as u32 as usize);
        let labels = self.body.get(offset..offset + length).unwrap_or_default();
        let decoded = match &self.symbols {
            None => decode_labels(labels, self.config, out),
            Some(symbols) => decode_labels_2(labels, symbols, self.config, out),
        };
        decoded.map_err(|error| error.into_fault(self.body))
    }
}

/// Why a walk over a request stopped.
pub(super) enum Stop {
    Malformed(Malformed),
    Refused(Refusal),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Collects what passes the tests.
pub(super) struct Batch<'b, 'a> {
    pub(super) batch: MetricBatch<'a>,
    pub(super) labels: &'a LabelsInBody<'a>,
    /// For the version that the body has.
    pub(super) keys: &'b KeyMaker,
    /// Space for the samples of a plain series.
    pub(super) samples: Vec<Sample>,
    pub(super) config: &'b Config,
    pub(super) tally: Tally,
    pub(super) admission: &'b mut Admission,
}

impl<'a> Visit<'a> for Batch<'_, 'a> {
    type Error = Stop;

    fn undecoded(&mut self, series: &'a [u8]) -> Result<bool, Stop> {
        let Some(Plain { labels, labels_len }) = scan(series, &mut self.samples) else { return Ok(false) };
        let Some(token) = self.labels.token(labels).filter(|_| labels_len <= self.config.max_labels) else {
            return Ok(false);
        };
        self.charge_plain(self.samples.len(), labels_len)?;
        self.batch.push_keyed(self.keys.key(labels), token, self.samples.iter().copied());
        Ok(true)
    }

    fn undecoded_2(&mut self, series: &Plain2<'_, 'a>) -> Result<bool, Stop> {
        let token = self.labels.token(series.references);
        let Some(token) = token.filter(|_| series.labels_len <= self.config.max_labels) else { return Ok(false) };
        self.charge_plain(series.samples.len(), series.labels_len)?;
        self.batch.push_keyed(series.key, token, series.samples.iter().copied());
        if !series.starts_ms.is_empty() {
            self.batch.set_starts(series.starts_ms.iter().copied());
        }
        Ok(true)
    }

    fn series(&mut self, series: &mut Series<'a>) -> Result<(), Stop> {
        let came = self.count(series);
        let records = (series.samples.len() + series.histograms.len()) as u64;
        let exemplars = series.exemplars.len() as u64;
        if records + exemplars > 0 {
            let bytes = size_of_val(series.samples.as_slice()) + series.labels.len() * 48 + 32;
            self.admission.grow(bytes as u64 * 2)?;
            if let Err((reason, detail)) = push(&mut self.batch, series) {
                let what = format!("the labels of a series are at fault ({reason}): {}", series.shown());
                self.tally.reject(reason, records, || detail);
                self.tally.drop_beside(EXEMPLARS_OF_INVALID_SERIES, exemplars, || what);
            }
        } else if self.labels.symbols.is_some() && came == 0 {
            match series.take_fault() {
                Some((_, detail)) => self.tally.drop_beside(INVALID_SERIES, 1, || detail),
                None if series.has_metadata => {}
                None => self.tally.drop_beside(EMPTY_SERIES, 1, || {
                    format!("a series must have at least one sample or histogram: {}", series.shown())
                }),
            }
        }
        Ok(())
    }

    fn metadata(&mut self, metadata: &Metadata<'a>) -> Result<(), Stop> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        if let (Some(name), Some(help), Some(unit)) = (text(metadata.name), text(metadata.help), text(metadata.unit))
            && !name.is_empty()
            && name.len() <= self.config.max_label_value_bytes
            && help.len() + unit.len() <= self.config.max_label_value_bytes
        {
            self.admission.grow((name.len() + help.len() + unit.len() + 128) as u64)?;
            let (name, help, unit) = (name.to_owned(), help.to_owned(), unit.to_owned());
            self.batch.metadata.push(MetricMetadata { name, kind: metadata.kind, help, unit });
        } else {
            let detail =
                || format!("metadata of {:?} is too long or no text", cut(&String::from_utf8_lossy(metadata.name)));
            self.tally.drop_beside("invalid_metadata", 1, detail);
        }
        Ok(())
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Stop> {
        Ok(self.admission.grow(bytes)?)
    }
}

impl Batch<'_, '_> {
    /// Counts the samples of a plain series, and takes memory for them.
    fn charge_plain(&mut self, samples: usize, labels: usize) -> Result<(), Stop> {
        self.tally.receive(samples as u64);
        // The labels are decoded only when the store does not know them.
        let bytes = samples * (size_of::<Sample>() + size_of::<i64>()) + labels * size_of::<LabelPair<'_>>() + 64;
        Ok(self.admission.grow(bytes as u64 * 2)?)
    }

    /// Counts what came with a series, takes out of it what cannot be stored, and returns how much came.
    fn count(&mut self, series: &mut Series<'_>) -> u64 {
        let tally = &mut self.tally;
        let records = (series.samples.len() + series.histograms.len()) as u64 + series.bad_histograms.rejected();
        let came = records + series.exemplars.len() as u64 + series.bad_exemplars.rejected();
        tally.receive(records);
        for Rejection { reason, count, detail } in series.bad_histograms.rejections.drain(..) {
            tally.reject(reason, count, || detail);
        }
        for Rejection { reason, count, detail } in series.bad_exemplars.rejections.drain(..) {
            tally.drop_beside(reason, count, || detail);
        }
        let (records, exemplars) = series.drop_out_of_range();
        tally.reject("timestamp_out_of_range", records, || {
            format!("a sample lies outside the years 1678-2261 in {}", series.shown())
        });
        tally.drop_beside("exemplar_timestamp_out_of_range", exemplars, || {
            format!("an exemplar lies outside the years 1678-2261 in {}", series.shown())
        });
        came
    }
}

/// Adds a series to the batch.
fn push<'a>(batch: &mut MetricBatch<'a>, series: &mut Series<'a>) -> Result<(), Fault> {
    if let Some(fault) = series.take_fault() {
        return Err(fault);
    }
    let labels = series.labels.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)));
    batch.push(labels, series.samples.iter().copied()).map_err(|error| series.label_fault(&error))?;
    if !series.starts_ms.is_empty() {
        batch.set_starts(series.starts_ms.iter().copied());
    }
    if !series.histograms.is_empty() {
        batch.set_histograms(series.histograms.drain(..));
    }
    if !series.exemplars.is_empty() {
        batch.set_exemplars(series.exemplars.drain(..));
    }
    Ok(())
}
