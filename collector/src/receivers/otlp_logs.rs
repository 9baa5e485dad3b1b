//! OTLP's logs requests of the usual form, given to the store record by record as they are read.

use std::sync::Arc;

use collector_otlp::{LogsVisitor, Unusual, out_of_range_detail, read_logs, read_logs_json};
use model::{Labels, LogRecord, Resource, Scope};

use super::log_intake::{self, Intake};
use super::otlp::{Fault, Format, stream_of};
use super::tally::Outcome;
use crate::admission::Admission;
use crate::collector::{Inner, Place};
use crate::error::{Refusal, Result};

/// Why a request is not stored here.
enum Stop {
    /// It has to be decoded.
    Unusual,
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Stores a request of the usual form; `None` when it is of another one and has to be decoded. Nothing is stored then.
pub(super) fn store(
    inner: &Inner,
    place: Place,
    body: &[u8],
    format: Format,
    admission: &mut Admission,
) -> Result<Option<Outcome>> {
    let stored = log_intake::store(inner, place, body, admission, &mut |intake| {
        let mut pass = Pass { intake, resource: Arc::default(), stream: Ok(Labels::default()) };
        let read = match format {
            Format::Protobuf => read_logs(body, &mut pass),
            Format::Json => read_logs_json(body, &mut pass),
        };
        read.map_err(|Unusual| Stop::Unusual)
    });
    match stored {
        Ok((invalid, outcome)) => {
            inner.stats.count_invalid(invalid);
            Ok(Some(outcome))
        }
        Err(Stop::Unusual) => Ok(None),
        Err(Stop::Refused(refusal)) => Err(refusal),
    }
}

/// Gives records to the intake with their stream.
struct Pass<'p, 'i> {
    intake: &'p mut Intake<'i>,
    resource: Arc<Resource>,
    stream: std::result::Result<Labels, Fault>,
}

impl LogsVisitor for Pass<'_, '_> {
    fn resource(&mut self, resource: &Arc<Resource>) {
        self.resource = Arc::clone(resource);
        self.stream = stream_of(resource, self.intake.config());
    }

    fn scope(&mut self, scope: &Arc<Scope>) {
        self.intake.group(&self.stream, &self.resource, scope);
    }

    fn record(&mut self, record: &LogRecord) {
        self.intake.record(record);
    }

    fn out_of_range(&mut self, nanos: u64) {
        self.intake.reject("timestamp_out_of_range", || out_of_range_detail(nanos));
    }
}
