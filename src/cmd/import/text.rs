//! Reads OpenMetrics line by line and hands it on in batches.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{BufRead, Read};

use agent::exposition::{AFTER_END, Dialect, END_MISSING, Line, parse_line};
use anyhow::{Context, anyhow};
use storage_api::{AppendReport, MetricBatch};

use super::collect::{Collected, Collector};

/// How many samples a batch has; those that belong together may make it larger, up to twice as large.
const BATCH_SAMPLES: usize = 5_000;
/// How many bytes of text a batch is made of, likewise.
const BATCH_BYTES: usize = 4 << 20;
/// The longest line.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How many series are told apart when they are counted.
const SERIES_MAX: usize = 1 << 20;

/// What became of a text.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// Hashes of the series that samples were read of.
    series: HashSet<u64>,
    /// What became of the samples and exemplars.
    pub(crate) report: AppendReport,
    /// Why not all of the text was read and stored.
    pub(crate) failure: Option<anyhow::Error>,
}

impl Imported {
    /// Returns how many series there are in the text, as far as it was read, and whether there may be more of them.
    pub(crate) fn series(&self) -> (usize, bool) {
        (self.series.len(), self.series.len() >= SERIES_MAX)
    }

    fn count(&mut self, collected: &Collected) {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        for id in collected.ids() {
            if self.series.len() < SERIES_MAX {
                self.series.insert(hasher.hash_one(id));
            }
        }
    }

    fn add(&mut self, report: AppendReport) {
        self.report.accepted += report.accepted;
        self.report.accepted_exemplars += report.accepted_exemplars;
        for rejection in report.rejections {
            self.report.reject(rejection.reason, rejection.count, || rejection.detail);
        }
    }
}

/// Reads a text whole, or up to its first fault, and has what it holds appended. Memory does not grow with the text but
/// for 8 bytes a series, of which it remembers a million. `tell` is told after each batch how many bytes were read, and what
/// became of them.
pub(crate) fn import(
    input: impl BufRead,
    append: impl FnMut(&MetricBatch<'_>) -> anyhow::Result<AppendReport>,
    tell: &mut dyn FnMut(u64, &Imported),
) -> Imported {
    let (collector, imported) = (Collector::default(), Imported::default());
    let mut importer = Importer { collector, bytes: 0, bytes_before: 0, append, tell, imported };
    if let Err(error) = importer.read(input) {
        importer.imported.failure = Some(error);
    }
    importer.imported
}

struct Importer<'t, A> {
    collector: Collector,
    /// Text since the last batch.
    bytes: usize,
    /// Text before that.
    bytes_before: u64,
    append: A,
    tell: &'t mut dyn FnMut(u64, &Imported),
    imported: Imported,
}

impl<A: FnMut(&MetricBatch<'_>) -> anyhow::Result<AppendReport>> Importer<'_, A> {
    fn read(&mut self, mut input: impl BufRead) -> anyhow::Result<()> {
        let mut text = Vec::new();
        let (mut number, mut ended) = (0_u64, false);
        let fault = loop {
            number += 1;
            match next_line(&mut input, &mut text) {
                Ok(None) if ended => break None,
                Ok(None) => break Some(anyhow!(END_MISSING)),
                Err(error) => break Some(error),
                Ok(Some(line)) => match self.line(line, &mut ended) {
                    Ok(()) => {}
                    Err(Fault::Text(reason)) => break Some(anyhow!(reason)),
                    Err(Fault::Store(error)) => return Err(error),
                },
            }
        };
        let rest = self.collector.finish();
        self.store(&rest)?;
        fault.map_or(Ok(()), |fault| Err(fault.context(format!("line {number}"))))
    }

    fn line(&mut self, line: &str, ended: &mut bool) -> Result<(), Fault> {
        let parsed = parse_line(line, Dialect::OpenMetrics)?;
        if *ended && parsed != Line::Blank {
            return Err(Fault::Text(AFTER_END.to_owned()));
        }
        // Help texts are kept as long as samples, and have their part in the memory.
        let is_full = |times: usize, bytes: usize, samples: usize| {
            bytes >= BATCH_BYTES * times || samples >= BATCH_SAMPLES * times
        };
        let samples = self.collector.collected().samples;
        let is_cut = match &parsed {
            Line::Sample(sample) => !self.collector.continues(sample) || is_full(2, self.bytes, samples),
            _ => true,
        };
        if is_full(1, self.bytes, samples) && is_cut {
            let collected = self.collector.take();
            self.store(&collected).map_err(Fault::Store)?;
        }
        self.bytes += line.len() + 1;
        match parsed {
            Line::Blank | Line::Comment => {}
            Line::Help(name, help) => self.collector.help(name, help),
            Line::Type(name, kind) => self.collector.kind(name, kind),
            Line::Unit(name, unit) => self.collector.unit(name, unit)?,
            Line::Sample(sample) => self.collector.add(sample)?,
            Line::End => *ended = true,
        }
        Ok(())
    }

    fn store(&mut self, collected: &Collected) -> anyhow::Result<()> {
        self.bytes_before += self.bytes as u64;
        self.bytes = 0;
        if collected.is_empty() {
            return Ok(());
        }
        self.imported.count(collected);
        let report = (self.append)(&collected.batch()?)?;
        self.imported.add(report);
        (self.tell)(self.bytes_before, &self.imported);
        Ok(())
    }
}

enum Fault {
    /// The line is not valid.
    Text(String),
    /// What came before could not be stored.
    Store(anyhow::Error),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Text(reason)
    }
}

/// Reads a line without its end; `None` behind the last one.
fn next_line<'t>(input: &mut impl BufRead, text: &'t mut Vec<u8>) -> anyhow::Result<Option<&'t str>> {
    text.clear();
    let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    // One byte more for the line's end, and one to see that it is too long.
    input.by_ref().take(most + 2).read_until(b'\n', text).context("reading failed")?;
    if text.is_empty() {
        return Ok(None);
    }
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > LINE_BYTES_MAX {
        return Err(anyhow!("expected a line of at most {LINE_BYTES_MAX} bytes, got a longer one"));
    }
    Ok(Some(std::str::from_utf8(line).context("expected UTF-8")?))
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
