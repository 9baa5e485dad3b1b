//! Hands the records of a request to the store one by one, as they are read: within the limits, and while there is
//! memory for what becomes of them.

use std::sync::Arc;

use model::{Labels, LogRecord, Resource, Scope, Value};
use runtime::Signal;
use storage_api::{Error, LogSink, LogSource};

use super::otlp::{Fault, check_count, check_record};
use super::tally::{Outcome, Tally};
use crate::admission::Admission;
use crate::collector::{Inner, Place};
use crate::config::Config;
use crate::error::Refusal;

/// Memory that a record takes beside its bytes while it is encoded: its place in the batch and in the head, and what the
/// encoding adds to a record with nothing in it.
const RECORD_BYTES: u64 = 64;
/// Memory of a group's bookkeeping while it is encoded, beside its labels, resource and scope.
const GROUP_BYTES: u64 = 256;

/// Reads a request: shows all of it to the intake.
pub(super) type Walk<'w, T, E> = &'w mut dyn FnMut(&mut Intake<'_>) -> Result<T, E>;

/// Stores what `walk` shows, and returns what that returned. The body itself, which is paid here, holds all the text.
///
/// # Errors
/// That of the walk, and why the store or the limits refuse the request; nothing is stored then.
pub(super) fn store<T, E: From<Refusal>>(
    inner: &Inner,
    place: Place,
    body: &[u8],
    admission: &mut Admission,
    walk: Walk<'_, T, E>,
) -> Result<(T, Outcome), E> {
    admission.grow(body.len() as u64)?;
    let tally = Tally::new(place, Signal::Logs);
    let mut request = Request { config: &inner.config, tally, admission, walk, walked: None };
    let stored = inner.logs.append_from(&mut request);
    if request.walked.is_none() {
        // The store is closed, or has another reason not to look at it. What came is counted all the same.
        request.walk_into(&mut Nowhere);
    }
    let Request { mut tally, walked, .. } = request;
    let walked = match walked {
        Some(walked) => walked?,
        None => return Err(Refusal::Internal { cause: "a request was not read".to_owned() }.into()),
    };
    match stored {
        Ok(report) => {
            tally.stored(&report);
            Ok((walked, tally.finish(&inner.ledger)))
        }
        Err(error) => {
            let refusal = Refusal::from(error);
            tally.finish_refused(&inner.ledger, &refusal);
            Err(refusal.into())
        }
    }
}

/// A request that the store reads.
struct Request<'a, T, E> {
    config: &'a Config,
    tally: Tally,
    admission: &'a mut Admission,
    walk: Walk<'a, T, E>,
    /// How the walk ended.
    walked: Option<Result<T, E>>,
}

impl<T, E: From<Refusal>> Request<'_, T, E> {
    fn walk_into(&mut self, sink: &mut dyn LogSink) {
        let mut intake = Intake {
            config: self.config,
            tally: &mut self.tally,
            admission: self.admission,
            sink,
            fault: None,
            refusal: None,
        };
        let walked = (self.walk)(&mut intake);
        self.walked = Some(intake.refusal.map_or(walked, |refusal| Err(refusal.into())));
    }
}

impl<T, E: From<Refusal>> LogSource for Request<'_, T, E> {
    fn send(&mut self, sink: &mut dyn LogSink) -> storage_api::Result<()> {
        self.walk_into(sink);
        match self.walked {
            Some(Ok(_)) => Ok(()),
            _ => Err(Error::Invalid("the request is refused".to_owned())),
        }
    }
}

/// Takes nothing.
struct Nowhere;

impl LogSink for Nowhere {
    fn group(&mut self, _: &Labels, _: &Arc<Resource>, _: &Arc<Scope>) {}

    fn record(&mut self, _: &LogRecord) {}
}

/// Takes the records of a request, group by group.
pub(super) struct Intake<'a> {
    config: &'a Config,
    tally: &'a mut Tally,
    admission: &'a mut Admission,
    sink: &'a mut dyn LogSink,
    /// Why no record of the group is taken.
    fault: Option<Fault>,
    /// Why nothing more is taken.
    refusal: Option<Refusal>,
}

impl Intake<'_> {
    /// Returns the limits.
    pub(super) fn config(&self) -> &Config {
        self.config
    }

    /// Says whether the request is refused, whatever comes.
    pub(super) fn is_over(&self) -> bool {
        self.refusal.is_some()
    }

    /// Starts a group; the records that follow are of this stream, or are rejected for its fault.
    pub(super) fn group(&mut self, stream: &Result<Labels, Fault>, resource: &Arc<Resource>, scope: &Arc<Scope>) {
        self.fault = None;
        let stream = match stream {
            Ok(stream) => stream,
            Err(fault) => {
                self.fault = Some(fault.clone());
                return;
            }
        };
        if let Err(fault) = check_count(scope.attributes.len(), "a scope", self.config) {
            self.fault = Some(fault);
            return;
        }
        let texts = stream.size_bytes() + resource.schema_url.len() + scope.schema_url.len() + scope.name.len();
        let size_bytes = texts + attributes_bytes(&resource.attributes) + attributes_bytes(&scope.attributes);
        if self.pay(GROUP_BYTES + size_bytes as u64) {
            self.sink.group(stream, resource, scope);
        }
    }

    /// Takes a record of the group, or counts why not.
    pub(super) fn record(&mut self, record: &LogRecord) {
        self.tally.receive(1);
        let fault = match &self.fault {
            Some(fault) => Some(fault.clone()),
            None => check_record(record, self.config).err(),
        };
        match fault {
            // The severity may be that of the whole group, whose bytes came once.
            None if self.pay(RECORD_BYTES + record.severity_text.len() as u64) => self.sink.record(record),
            None => {}
            Some((reason, detail)) => self.tally.reject(reason, 1, || detail),
        }
    }

    /// Counts a record that cannot be read.
    pub(super) fn reject(&mut self, reason: &'static str, detail: impl FnOnce() -> String) {
        self.tally.receive(1);
        self.tally.reject(reason, 1, detail);
    }

    /// Takes memory for what is stored; says whether there was enough, now and before.
    fn pay(&mut self, bytes: u64) -> bool {
        if self.refusal.is_none() {
            self.refusal = self.admission.grow(bytes).err();
        }
        self.refusal.is_none()
    }
}

fn attributes_bytes(attributes: &[(String, Value)]) -> usize {
    attributes.iter().map(|(name, value)| name.len() + value.size_bytes()).sum()
}
