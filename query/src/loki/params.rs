//! Parameters of a request, from its query string and its form, in all the ways that Loki takes them.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, header};
use chrono::DateTime;
use model::{TimeRange, Timestamp};
use query_logql::Direction;

use super::error::LokiError;

/// Largest form that is read.
const FORM_BYTES_MAX: usize = 1 << 20;

/// Lines of a log query unless it says otherwise.
const LIMIT_DEFAULT: usize = 100;

const SECOND_NS: i64 = 1_000_000_000;

/// How far back a request looks that does not say.
pub(super) const SINCE_QUERY_NS: i64 = 3600 * SECOND_NS;
/// The same for requests of labels and series.
pub(super) const SINCE_LABELS_NS: i64 = 6 * 3600 * SECOND_NS;

/// A request's parameters: those of a form first, then those of the query string.
#[derive(Debug, Clone, Default)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    headers: HeaderMap,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = LokiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, LokiError> {
        let (parts, body) = request.into_parts();
        let mut pairs = Vec::new();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if parts.method == Method::POST && kind.starts_with("application/x-www-form-urlencoded") {
            let body = to_bytes(body, FORM_BYTES_MAX).await;
            let body = body.map_err(|error| LokiError::bad(format!("the form cannot be read: {error}")))?;
            decode(&String::from_utf8_lossy(&body), &mut pairs);
        }
        decode(parts.uri.query().unwrap_or(""), &mut pairs);
        Ok(Self { pairs, headers: parts.headers })
    }
}

/// Reads `a=b&c=d` with its escapes.
fn decode(text: &str, pairs: &mut Vec<(String, String)>) {
    for part in text.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        pairs.push((unescape(name), unescape(value)));
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(c) = rest.next() {
        match c {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let mut digit = || ahead.next().and_then(|c| char::from(c).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => {
                        bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                        rest = ahead;
                    }
                    _ => bytes.push(b'%'),
                }
            }
            c => bytes.push(c),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Params {
    /// Makes parameters of a query string, for requests whose body is not read.
    pub(super) fn from_query(query: &str, headers: HeaderMap) -> Self {
        let mut pairs = Vec::new();
        decode(query, &mut pairs);
        Self { pairs, headers }
    }

    /// Returns a parameter, or `""`.
    pub(super) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value.as_str())
    }

    /// Returns all values of parameters with one of these names.
    pub(super) fn all<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(|(have, _)| names.contains(&have.as_str())).map(|(_, value)| value.as_str())
    }

    /// Says whether entries shall tell structured metadata from parsed labels.
    pub(super) fn categorizes(&self) -> bool {
        let flags = self.headers.get_all(query_wire::loki::ENCODING_FLAGS_HEADER);
        flags
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|flag| flag.trim() == query_wire::loki::CATEGORIZE_LABELS))
    }

    /// Says whether the query shall not run, but tell what it would read.
    pub(super) fn is_dry_run(&self) -> Result<bool, LokiError> {
        match self.get("dry_run") {
            "" | "0" | "false" => Ok(false),
            "1" | "true" => Ok(true),
            other => Err(LokiError::bad(format!("dry_run must be 1 or 0, not {other:?}"))),
        }
    }

    /// Says whether the client asks for answers of this media type.
    pub(super) fn accepts(&self, kind: &str) -> bool {
        let accepted = self.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        accepted
            .flat_map(|value| value.split(','))
            .any(|one| one.split(';').next().is_some_and(|one| one.trim() == kind))
    }

    /// Returns the most lines wanted.
    pub(super) fn limit(&self) -> Result<usize, LokiError> {
        self.count("limit", LIMIT_DEFAULT)
    }

    /// Returns a count, which must be positive.
    pub(super) fn count(&self, name: &str, default: usize) -> Result<usize, LokiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(default);
        }
        let n: i64 = text.parse().map_err(|_| LokiError::bad(no_whole_number("Atoi", text)))?;
        match usize::try_from(n) {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(LokiError::bad(format!("{name} must be a positive value"))),
        }
    }

    /// Returns which lines come first.
    pub(super) fn direction(&self) -> Result<Direction, LokiError> {
        match self.get("direction").to_ascii_lowercase().as_str() {
            "" | "backward" => Ok(Direction::Backward),
            "forward" => Ok(Direction::Forward),
            _ => Err(LokiError::bad(format!("invalid direction '{}'", self.get("direction")))),
        }
    }

    /// Returns a point in time, in nanoseconds.
    pub(super) fn time(&self, name: &str, default_ns: i64) -> Result<i64, LokiError> {
        match self.get(name) {
            "" => Ok(default_ns),
            text => timestamp(text).ok_or_else(|| {
                let fault = no_whole_number("ParseInt", text);
                // The time of an instant query is told as it is.
                LokiError::bad(if name == "time" {
                    fault
                } else {
                    format!("could not parse '{name}' parameter: {fault}")
                })
            }),
        }
    }

    /// Returns start and end in nanoseconds, from `start`, `end` and `since`.
    pub(super) fn bounds(&self, now_ns: i64, since_ns: i64) -> Result<(i64, i64), LokiError> {
        let since = match self.get("since") {
            "" => since_ns,
            text => duration(text).ok_or_else(|| {
                LokiError::bad(format!("could not parse 'since' parameter: not a valid duration string: {text:?}"))
            })?,
        };
        let end = self.time("end", now_ns)?;
        let start = self.time("start", end.min(now_ns).saturating_sub(since))?;
        Ok((start, end))
    }

    /// Returns the same as a range, for requests that may have none.
    pub(super) fn range(&self, now_ns: i64, since_ns: i64) -> Result<TimeRange, LokiError> {
        let (start, end) = self.bounds(now_ns, since_ns)?;
        Ok(TimeRange::new(Timestamp(start), Timestamp(end.saturating_add(1))))
    }

    /// Returns the step of a range query: given, or a 250th of the range.
    pub(super) fn step(&self, start_ns: i64, end_ns: i64) -> Result<i64, LokiError> {
        match self.get("step") {
            "" => Ok((end_ns.saturating_sub(start_ns) / SECOND_NS / 250).max(1) * SECOND_NS),
            text => seconds_or_duration(text),
        }
    }

    /// Returns how far apart lines shall be; 0 for all.
    pub(super) fn interval(&self) -> Result<i64, LokiError> {
        match self.get("interval") {
            "" => Ok(0),
            text => match seconds_or_duration(text)? {
                nanos if nanos < 0 => Err(LokiError::bad("interval must be >= 0")),
                nanos => Ok(nanos),
            },
        }
    }
}

/// Reads a point in time: seconds with a fraction, seconds (10 digits at most), nanoseconds, or RFC 3339.
fn timestamp(text: &str) -> Option<i64> {
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        let whole = seconds.trunc();
        let nanos = ((seconds - whole) * 1000.0).round() * 1e6;
        #[expect(clippy::cast_possible_truncation, reason = "a cast of a double saturates")]
        let (whole, nanos) = (whole as i64, nanos as i64);
        return seconds.is_finite().then(|| whole.saturating_mul(SECOND_NS).saturating_add(nanos));
    }
    if let Ok(n) = text.parse::<i64>() {
        return Some(if text.len() <= 10 { n.saturating_mul(SECOND_NS) } else { n });
    }
    DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()
}

/// Says that a text is no whole number, as Go's functions of these names do.
fn no_whole_number(function: &str, text: &str) -> String {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    let fault = if is_number { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {text:?}: {fault}")
}

fn duration(text: &str) -> Option<i64> {
    query_logql::parse_duration(text)
}

fn seconds_or_duration(text: &str) -> Result<i64, LokiError> {
    if let Ok(seconds) = text.parse::<f64>() {
        let nanos = seconds * 1e9;
        #[expect(clippy::cast_precision_loss, reason = "a bound")]
        if nanos.is_nan() || nanos.abs() > i64::MAX as f64 {
            return Err(LokiError::bad(format!("cannot parse {text:?} to a valid duration. It overflows int64")));
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        return Ok(nanos as i64);
    }
    duration(text).ok_or_else(|| LokiError::bad(format!("cannot parse {text:?} to a valid duration")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_four_forms() {
        assert_eq!(timestamp("1700000000"), Some(1_700_000_000_000_000_000));
        assert_eq!(timestamp("1700000000.5"), Some(1_700_000_000_500_000_000));
        assert_eq!(timestamp("1700000000123456789"), Some(1_700_000_000_123_456_789));
        assert_eq!(timestamp("2023-11-14T22:13:20.000000001Z"), Some(1_700_000_000_000_000_001));
        for bad in ["", "x", "1e400.", "nan.", "2023-11-14", "99999999999999999999"] {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn escapes_of_forms_are_resolved() {
        let params = Params::from_query("query=%7Ba%3D%22b+c%22%7D&match[]=x&match%5B%5D=y&bad=%zz%", HeaderMap::new());
        assert_eq!(params.get("query"), "{a=\"b c\"}");
        assert_eq!(params.all(&["match[]"]).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(params.get("bad"), "%zz%");
    }

    #[test]
    fn what_is_no_number_is_told_as_loki_tells_it() {
        let told = |query: &str| {
            let params = Params::from_query(query, HeaderMap::new());
            let times = params.bounds(0, 0).map(drop).and_then(|()| params.time("time", 0).map(drop));
            times.and_then(|()| params.limit().map(drop)).unwrap_err().to_string()
        };
        assert_eq!(
            told("start=x"),
            r#"could not parse 'start' parameter: strconv.ParseInt: parsing "x": invalid syntax"#
        );
        let large = "99999999999999999999";
        assert_eq!(
            told(&format!("end={large}")),
            format!(r#"could not parse 'end' parameter: strconv.ParseInt: parsing "{large}": value out of range"#)
        );
        assert_eq!(told("time=1e9"), r#"strconv.ParseInt: parsing "1e9": invalid syntax"#);
        assert_eq!(told("limit=1.5"), r#"strconv.Atoi: parsing "1.5": invalid syntax"#);
    }

    #[test]
    fn an_end_in_the_future_does_not_move_the_start() {
        let params = Params::from_query("end=100&since=10s", HeaderMap::new());
        assert_eq!(params.bounds(50 * SECOND_NS, SINCE_QUERY_NS).unwrap(), (40 * SECOND_NS, 100 * SECOND_NS));
    }

    #[test]
    fn steps_are_seconds_or_durations() {
        assert_eq!(seconds_or_duration("15000ms").unwrap(), 15 * SECOND_NS);
        assert_eq!(seconds_or_duration("0.5").unwrap(), SECOND_NS / 2);
        assert!(seconds_or_duration("1e300").is_err() && seconds_or_duration("NaN").is_err());
        assert!(seconds_or_duration("x").is_err());
    }
}
