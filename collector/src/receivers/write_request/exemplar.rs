//! Exemplars of a request.

use model::{Exemplar, LabelError, Labels, Sample};

use super::version_2::{BadRefs, Symbols};
use super::{Fault, decode_label};
use crate::protobuf::{Field, Malformed, Reader};

/// Most characters in the names and values of an exemplar's labels, as OpenMetrics 1.0 has it.
const LABEL_CHARS_MAX: usize = 128;

/// Space that is used again for each exemplar.
#[derive(Debug, Default)]
pub(super) struct ExemplarScratch<'a> {
    labels: Vec<(&'a str, &'a str)>,
}

impl<'a> ExemplarScratch<'a> {
    /// Reads an `Exemplar` of 1.0.
    pub(super) fn decode(&mut self, bytes: &'a [u8]) -> Result<Result<Exemplar, Fault>, Malformed> {
        self.labels.clear();
        let mut sample = Sample { timestamp_ms: 0, value: 0.0 };
        let mut is_utf8 = true;
        let mut reader = Reader::new(bytes);
        while let Some((tag, field)) = reader.next()? {
            match tag {
                1 => {
                    let (name, value) = decode_label(field.bytes()?)?;
                    match (std::str::from_utf8(name), std::str::from_utf8(value)) {
                        (Ok(name), Ok(value)) => self.push(name, value),
                        _ => is_utf8 = false,
                    }
                }
                2 => sample.value = field.double()?,
                3 => sample.timestamp_ms = field.int64()?,
                _ => {}
            }
        }
        if !is_utf8 {
            return Ok(Err(("exemplar_invalid_utf8", "a label of an exemplar is not valid UTF-8".to_owned())));
        }
        Ok(self.finish(sample))
    }

    /// Reads an `Exemplar` of 2.0.
    pub(super) fn decode_2(
        &mut self,
        bytes: &'a [u8],
        symbols: &Symbols<'a>,
    ) -> Result<Result<Exemplar, Fault>, Malformed> {
        self.labels.clear();
        let mut sample = Sample { timestamp_ms: 0, value: 0.0 };
        let mut pairs = symbols.pairs();
        let mut bad: Option<BadRefs> = None;
        let mut reader = Reader::new(bytes);
        while let Some((tag, field)) = reader.next()? {
            match (tag, field) {
                (1, Field::Varint(reference)) => self.take(pairs.take(reference), &mut bad),
                (1, _) => {
                    let mut packed = Reader::new(field.bytes()?);
                    while let Some(reference) = packed.next_varint()? {
                        self.take(pairs.take(reference), &mut bad);
                    }
                }
                (2, _) => sample.value = field.double()?,
                (3, _) => sample.timestamp_ms = field.int64()?,
                _ => {}
            }
        }
        if let Err(one) = pairs.finish() {
            bad = bad.or(Some(one));
        }
        match bad {
            Some(bad) => Ok(Err(("exemplar_invalid_symbol", format!("a label of an exemplar {bad}")))),
            None => Ok(self.finish(sample)),
        }
    }

    fn take(&mut self, pair: Result<Option<(&'a str, &'a str)>, BadRefs>, bad: &mut Option<BadRefs>) {
        match pair {
            Ok(Some((name, value))) => self.push(name, value),
            Ok(None) => {}
            Err(one) => *bad = bad.take().or(Some(one)),
        }
    }

    fn push(&mut self, name: &'a str, value: &'a str) {
        // No name is empty, so that more labels than characters cannot be allowed; one more is enough to tell.
        if self.labels.len() <= LABEL_CHARS_MAX {
            self.labels.push((name, value));
        }
    }

    fn finish(&mut self, sample: Sample) -> Result<Exemplar, Fault> {
        if self.labels.len() > LABEL_CHARS_MAX {
            let detail = format!("an exemplar has more than {LABEL_CHARS_MAX} labels");
            return Err(("exemplar_labels_too_long", detail));
        }
        // More bytes than four times the characters need no count.
        let bytes: usize = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let chars = || self.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        let got: usize = if bytes > LABEL_CHARS_MAX * 4 { bytes } else { chars() };
        if got > LABEL_CHARS_MAX {
            let unit = if bytes > LABEL_CHARS_MAX * 4 { "bytes" } else { "characters" };
            let detail =
                format!("the labels of an exemplar have {got} {unit}, the limit is {LABEL_CHARS_MAX} characters");
            return Err(("exemplar_labels_too_long", detail));
        }
        let labels = Labels::try_from_pairs(&mut self.labels).map_err(|error| {
            let reason = match error {
                LabelError::Repeated { .. } => "exemplar_duplicate_label",
                _ => "exemplar_empty_label_name",
            };
            (reason, format!("{error} in an exemplar"))
        })?;
        Ok(Exemplar { labels, sample })
    }
}
