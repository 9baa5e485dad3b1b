//! What became of a request's records, for the ledger and for the answer.

use runtime::{Ledger, Signal};
use storage_api::{AppendReport, Rejection};

use crate::collector::Place;
use crate::error::Refusal;

/// Counts one request's records: received = accepted + dropped.
#[derive(Debug)]
pub(crate) struct Tally {
    place: Place,
    signal: Signal,
    received: u64,
    rejected: AppendReport,
    /// Dropped, but no loss of a record: exemplars, `target_info`.
    beside: AppendReport,
    written: Written,
    /// The exemplars that were handed to storage.
    offered_exemplars: u64,
}

/// What of a request was stored beside samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    histograms: u64,
    exemplars: u64,
}

impl Tally {
    pub(crate) fn new(place: Place, signal: Signal) -> Self {
        let (rejected, beside) = (AppendReport::default(), AppendReport::default());
        Self { place, signal, received: 0, rejected, beside, written: Written::default(), offered_exemplars: 0 }
    }

    /// Counts records that arrived.
    pub(crate) fn receive(&mut self, n: u64) {
        self.received += n;
    }

    /// Counts arrived records that are not taken.
    pub(crate) fn reject(&mut self, reason: &'static str, n: u64, detail: impl FnOnce() -> String) {
        self.rejected.reject(reason, n, detail);
    }

    /// Counts something that came with the records and is not kept.
    pub(crate) fn drop_beside(&mut self, reason: &'static str, n: u64, detail: impl FnOnce() -> String) {
        self.beside.reject(reason, n, detail);
    }

    /// Returns how many records are left to store.
    pub(crate) fn left(&self) -> u64 {
        self.received.saturating_sub(self.rejected.rejected())
    }

    /// Counts exemplars that storage is about to be given; it tells of those that it does not take, unless it takes
    /// nothing at all.
    pub(crate) fn offer_exemplars(&mut self, n: usize) {
        self.offered_exemplars += n as u64;
    }

    /// Adds what storage did not take. It counts samples, of which one record may have many: never more records are
    /// counted as rejected than were handed over.
    pub(crate) fn stored(&mut self, report: &AppendReport) {
        self.written.histograms += report.accepted_histograms;
        self.written.exemplars += report.accepted_exemplars;
        for Rejection { reason, count, detail } in &report.rejections {
            if is_of_exemplars(reason) {
                self.beside.reject(reason, *count, || detail.clone());
                continue;
            }
            let count = (*count).min(self.left());
            self.rejected.reject(reason, count, || detail.clone());
        }
    }

    /// Writes the ledger and returns what to tell the client.
    pub(crate) fn finish(self, ledger: &Ledger) -> Outcome {
        let place = self.place.as_str();
        ledger.received(place, self.signal, self.received + self.beside.rejected());
        ledger.accepted(place, self.signal, self.left());
        for rejection in self.rejected.rejections.iter().chain(&self.beside.rejections) {
            ledger.dropped(place, self.signal, rejection.reason, rejection.count);
        }
        Outcome { received: self.received, rejected: self.rejected, beside: self.beside, written: self.written }
    }

    /// Writes the ledger for a request of which storage took nothing: all records are dropped.
    pub(crate) fn finish_refused(mut self, ledger: &Ledger, refusal: &Refusal) {
        let left = self.left();
        self.rejected.reject(refusal.reason(), left, String::new);
        self.beside.reject("exemplar_of_refused", self.offered_exemplars, String::new);
        self.finish(ledger);
    }
}

/// What became of a request's records.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    received: u64,
    rejected: AppendReport,
    beside: AppendReport,
    written: Written,
}

/// Says whether a reason is one of exemplars, which are no records of their own.
pub(crate) fn is_of_exemplars(reason: &str) -> bool {
    reason.starts_with("exemplar_")
}

impl Outcome {
    /// Returns how many records were taken.
    pub(crate) fn accepted(&self) -> u64 {
        self.received - self.rejected()
    }

    /// Returns how many records were not taken.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.rejected()
    }

    /// Returns how many native histograms were taken.
    pub(crate) fn histograms(&self) -> u64 {
        self.written.histograms
    }

    /// Returns how many exemplars were taken.
    pub(crate) fn exemplars(&self) -> u64 {
        self.written.exemplars
    }

    /// Says what was not taken and why, e.g. `2 of 9 data points: 2 rejected (no_value): ...`; empty when all was.
    /// What came beside the records is named when `beside` says so.
    pub(crate) fn message(&self, noun: &str, beside: impl Fn(&Rejection) -> bool) -> String {
        let mut parts: Vec<String> = self.rejected.rejections.iter().map(ToString::to_string).collect();
        parts.extend(self.beside.rejections.iter().filter(|one| beside(one)).map(ToString::to_string));
        if parts.is_empty() {
            return String::new();
        }
        format!("{} of {} {noun} were not stored: {}", self.rejected(), self.received, parts.join("; "))
    }
}
