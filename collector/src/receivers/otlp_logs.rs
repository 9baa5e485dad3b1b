//! OTLP's logs requests in protobuf, given to the store record by record as they are read.

use std::sync::Arc;

use collector_otlp::{InvalidFields, LogsReader, LogsVisitor, Unusual, out_of_range_detail};
use model::{Labels, LogRecord, Resource, Scope};
use runtime::Signal;
use storage_api::{Error, LogSink, LogSource};

use super::otlp::{Fault, check_count, check_record, stream_of};
use super::tally::{Outcome, Tally};
use crate::admission::Admission;
use crate::collector::{Inner, Place};
use crate::config::Config;
use crate::error::{Refusal, Result};

/// Memory that a record takes beside its bytes while it is encoded: its place in the batch and in the head, and what the
/// encoding adds to a record with nothing in it.
const RECORD_BYTES: u64 = 64;

/// Stores a request of the usual form; `None` when it is of another one and has to be decoded. Nothing is stored then.
pub(super) fn store(inner: &Inner, place: Place, body: &[u8], admission: &mut Admission) -> Result<Option<Outcome>> {
    let Ok(reader) = LogsReader::open(body) else { return Ok(None) };
    admission.grow(body.len() as u64 + reader.records() * RECORD_BYTES)?;
    let mut tally = Tally::new(place, Signal::Logs);
    tally.receive(reader.records());
    let mut request = Request { reader, config: &inner.config, tally, invalid: Ok(InvalidFields::default()) };
    let stored = inner.logs.append_from(&mut request);
    let Request { mut tally, invalid, .. } = request;
    let Ok(invalid) = invalid else { return Ok(None) };
    inner.stats.count_invalid(invalid);
    match stored {
        Ok(report) => {
            tally.stored(&report);
            Ok(Some(tally.finish(&inner.ledger)))
        }
        Err(error) => {
            let refusal = Refusal::from(error);
            tally.finish_refused(&inner.ledger, &refusal);
            Err(refusal)
        }
    }
}

/// A request that the store reads.
struct Request<'a> {
    reader: LogsReader<'a>,
    config: &'a Config,
    tally: Tally,
    /// What was found, or that the request is to be decoded.
    invalid: std::result::Result<InvalidFields, Unusual>,
}

impl LogSource for Request<'_> {
    fn send(&mut self, sink: &mut dyn LogSink) -> storage_api::Result<()> {
        let resource = Arc::new(Resource::default());
        let mut pass = Pass {
            config: self.config,
            tally: &mut self.tally,
            sink,
            resource,
            stream: Ok(Labels::default()),
            fault: None,
        };
        self.invalid = self.reader.visit(&mut pass);
        match self.invalid {
            Ok(_) => Ok(()),
            Err(Unusual) => Err(Error::Invalid("the request is not of the usual form".to_owned())),
        }
    }
}

/// Passes on what is within the limits.
struct Pass<'a> {
    config: &'a Config,
    tally: &'a mut Tally,
    sink: &'a mut dyn LogSink,
    resource: Arc<Resource>,
    stream: std::result::Result<Labels, Fault>,
    /// Why no record of the scope is taken.
    fault: Option<Fault>,
}

impl LogsVisitor for Pass<'_> {
    fn resource(&mut self, resource: &Arc<Resource>) {
        self.resource = Arc::clone(resource);
        self.stream = stream_of(resource, self.config);
    }

    fn scope(&mut self, scope: &Arc<Scope>) {
        self.fault = match &self.stream {
            Ok(_) => check_count(scope.attributes.len(), "a scope", self.config).err(),
            Err(fault) => Some(fault.clone()),
        };
        if let (None, Ok(stream)) = (&self.fault, &self.stream) {
            self.sink.group(stream, &self.resource, scope);
        }
    }

    fn record(&mut self, record: &LogRecord) {
        let fault = match &self.fault {
            Some(fault) => Some(fault.clone()),
            None => check_record(record, self.config).err(),
        };
        match fault {
            None => self.sink.record(record),
            Some((reason, detail)) => self.tally.reject(reason, 1, || detail),
        }
    }

    fn out_of_range(&mut self, nanos: u64) {
        self.tally.reject("timestamp_out_of_range", 1, || out_of_range_detail(nanos));
    }
}
