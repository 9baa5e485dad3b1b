//! Reads a logs request record by record, when the request as a whole cannot be decoded because some text is none.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::{DecodeError, Message};

use crate::RejectedRecords;
use crate::metrics::{Malformed, Reader};

/// What of a logs request can be decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Salvaged {
    /// The records that can, in their places.
    pub request: ExportLogsServiceRequest,
    /// The records that cannot, because text of them, their scope or their resource is not valid UTF-8.
    pub rejected: Option<RejectedRecords>,
}

/// Decodes a logs request record by record; text that is no text costs the records that it belongs to.
///
/// # Errors
/// In words, when the bytes are malformed in any other way.
pub fn salvage_logs(body: &[u8]) -> Result<Salvaged, String> {
    let mut salvage = Salvage::default();
    let mut request = ExportLogsServiceRequest::default();
    let mut fields = Fields(Reader::new(body));
    while let Some((tag, message)) = fields.next()? {
        match (tag, message) {
            (1, Some(message)) => request.resource_logs.push(salvage.resource(message)?),
            (1, None) => return Err(wrong_type(tag)),
            _ => {}
        }
    }
    let rejected = salvage.error.map(|detail| RejectedRecords { reason: "invalid_utf8", count: salvage.lost, detail });
    Ok(Salvaged { request, rejected: rejected.filter(|rejected| rejected.count > 0) })
}

#[derive(Default)]
struct Salvage {
    lost: u64,
    /// The first one.
    error: Option<String>,
}

/// A field's number and bytes; `None` when it is of another type.
type Field<'a> = (u32, Option<&'a [u8]>);

/// The fields of a message.
struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, String> {
        let field = self.0.next().map_err(|malformed: Malformed| malformed.to_string())?;
        Ok(field.map(|(tag, value)| (tag, value.bytes().ok())))
    }
}

impl Salvage {
    fn resource(&mut self, message: &[u8]) -> Result<ResourceLogs, String> {
        let mut logs = ResourceLogs::default();
        let mut is_whole = true;
        let mut fields = Fields(Reader::new(message));
        while let Some((tag, message)) = fields.next()? {
            match (tag, message) {
                (1, Some(message)) => match self.text(Resource::decode(message))? {
                    Some(resource) => logs.resource = Some(resource),
                    None => is_whole = false,
                },
                (2, Some(message)) => logs.scope_logs.push(self.scope(message)?),
                (3, Some(message)) => match self.url(message) {
                    Some(url) => logs.schema_url = url,
                    None => is_whole = false,
                },
                (1..=3, None) => return Err(wrong_type(tag)),
                _ => {}
            }
        }
        if !is_whole {
            self.lost += logs.scope_logs.iter().map(|scope| scope.log_records.len() as u64).sum::<u64>();
            logs.scope_logs.clear();
        }
        Ok(logs)
    }

    fn scope(&mut self, message: &[u8]) -> Result<ScopeLogs, String> {
        let mut logs = ScopeLogs::default();
        let mut is_whole = true;
        let mut fields = Fields(Reader::new(message));
        while let Some((tag, message)) = fields.next()? {
            match (tag, message) {
                (1, Some(message)) => match self.text(InstrumentationScope::decode(message))? {
                    Some(scope) => logs.scope = Some(scope),
                    None => is_whole = false,
                },
                (2, Some(message)) => match self.text(LogRecord::decode(message))? {
                    Some(record) => logs.log_records.push(record),
                    None => self.lost += 1,
                },
                (3, Some(message)) => match self.url(message) {
                    Some(url) => logs.schema_url = url,
                    None => is_whole = false,
                },
                (1..=3, None) => return Err(wrong_type(tag)),
                _ => {}
            }
        }
        if !is_whole {
            self.lost += logs.log_records.len() as u64;
            logs.log_records.clear();
        }
        Ok(logs)
    }

    /// Returns what was decoded, or nothing when text of it is no text.
    fn text<T>(&mut self, decoded: Result<T, DecodeError>) -> Result<Option<T>, String> {
        match decoded {
            Ok(message) => Ok(Some(message)),
            Err(error) => {
                let error = error.to_string();
                // The decoder has no other sign of it.
                if !error.contains("UTF-8") {
                    return Err(error);
                }
                self.error.get_or_insert(error);
                Ok(None)
            }
        }
    }

    fn url(&mut self, bytes: &[u8]) -> Option<String> {
        match String::from_utf8(bytes.to_vec()) {
            Ok(url) => Some(url),
            Err(error) => {
                self.error.get_or_insert_with(|| format!("a schema URL is not valid UTF-8: {error}"));
                None
            }
        }
    }
}

fn wrong_type(tag: u32) -> String {
    format!("field {tag} has an unexpected wire type")
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Option<AnyValue> {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) })
    }

    /// Two resources of two scopes of three records each; all text is of four letters and tells its place.
    fn request() -> ExportLogsServiceRequest {
        let attribute =
            |text: &str| vec![KeyValue { key: "name".to_owned(), value: value(text), ..KeyValue::default() }];
        let resource = |r: usize| {
            let scope = |s: usize| {
                let record = |i: usize| LogRecord { body: value(&format!("l{r}{s}{i}")), ..LogRecord::default() };
                ScopeLogs {
                    scope: Some(InstrumentationScope { name: format!("s{r}{s}."), ..InstrumentationScope::default() }),
                    log_records: (0..3).map(record).collect(),
                    schema_url: format!("u{r}{s}."),
                }
            };
            ResourceLogs {
                resource: Some(Resource { attributes: attribute(&format!("r{r}..")), ..Resource::default() }),
                scope_logs: (0..2).map(scope).collect(),
                schema_url: format!("v{r}.."),
            }
        };
        ExportLogsServiceRequest { resource_logs: (0..2).map(resource).collect() }
    }

    #[track_caller]
    fn check(text: &str, lost: u64) {
        let mut body = request().encode_to_vec();
        let at = body.windows(4).position(|four| four == text.as_bytes()).unwrap();
        body[at] = 0xff;
        assert!(ExportLogsServiceRequest::decode(body.as_slice()).is_err());
        let salvaged = salvage_logs(&body).unwrap();
        let scopes = salvaged.request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        let kept: u64 = scopes.map(|scope| scope.log_records.len() as u64).sum();
        let rejected = salvaged.rejected.unwrap();
        assert_eq!((kept, rejected.count, rejected.reason), (12 - lost, lost, "invalid_utf8"));
        assert!(rejected.detail.contains("UTF-8"), "{}", rejected.detail);
    }

    #[test]
    fn text_that_is_no_text_costs_what_it_belongs_to() {
        check("l011", 1);
        check("s11.", 3);
        check("u00.", 3);
        check("r0..", 6);
        check("v1..", 6);
    }

    #[test]
    fn what_is_sound_is_read_as_by_the_decoder_and_what_is_cut_off_is_an_error() {
        let body = request().encode_to_vec();
        assert_eq!(salvage_logs(&body), Ok(Salvaged { request: request(), rejected: None }));
        assert!(salvage_logs(&body[..body.len() - 1]).is_err());
        assert!(salvage_logs(&[0x08, 1]).is_err());
        assert!(salvage_logs(&[0x0a, 2, 0x08, 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(damage: Vec<(prop::sample::Index, u8)>) {
            let mut body = request().encode_to_vec();
            for (at, byte) in damage {
                let at = at.index(body.len());
                body[at] = byte;
            }
            let salvaged = salvage_logs(&body);
            if let Ok(request) = ExportLogsServiceRequest::decode(body.as_slice()) {
                // Pieces of one message are joined by the decoder only.
                prop_assert!(salvaged.is_ok(), "{:?}", request);
            }
        }
    }
}
