//! Parameters of a request, from the query string and a form body.

use axum::extract::{Form, FromRequest, Query, Request};
use axum::http::{Method, header};
use chrono::DateTime;
use model::Matcher;

use crate::error::{Error, Result};

/// The earliest and latest times that a client may mean by "all of it", in milliseconds.
const MIN_MS: i64 = i64::MIN / 1_000_000;
const MAX_MS: i64 = i64::MAX / 1_000_000;

/// Names and values in the order they came, those of a form body first.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bad = |error: &dyn std::fmt::Display| Error::BadData(format!("error parsing form values: {error}"));
        let Query(in_url) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map_err(|error| bad(&error))?;
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_form = content_type.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let mut all = Vec::new();
        if [Method::POST, Method::PUT].contains(request.method()) && is_form {
            let Form(in_body) =
                Form::<Vec<(String, String)>>::from_request(request, state).await.map_err(|error| bad(&error))?;
            all = in_body;
        }
        all.extend(in_url);
        Ok(Self(all))
    }
}

/// Names the parameter that is at fault.
pub(crate) fn invalid(name: &str, reason: impl std::fmt::Display) -> Error {
    Error::BadData(format!("invalid parameter \"{name}\": {reason}"))
}

impl Params {
    /// Returns the first value of `name`; empty when there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }

    /// Returns all values of `name`.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// Returns a time in milliseconds, or `otherwise` when it is not given. Its error names the parameter twice, as
    /// Prometheus' does for times that may be left out.
    pub(crate) fn time_or(&self, name: &str, otherwise: i64) -> Result<i64> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(otherwise);
        }
        parse_time(text).map_err(|reason| invalid(name, format!("Invalid time value for '{name}': {reason}")))
    }

    /// Returns a time in milliseconds.
    pub(crate) fn time(&self, name: &str) -> Result<i64> {
        parse_time(self.get(name)).map_err(|reason| invalid(name, reason))
    }

    /// Returns a duration in milliseconds.
    pub(crate) fn duration(&self, name: &str) -> Result<i64> {
        parse_duration(self.get(name)).map_err(|reason| invalid(name, reason))
    }

    /// Returns a duration that may be missing; its error begins with `fault`.
    pub(crate) fn duration_option(&self, name: &str, fault: &str) -> Result<Option<i64>> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_duration(text).map(Some).map_err(|reason| Error::BadData(format!("{fault}: {reason}"))),
        }
    }

    /// Returns how many results are wanted; 0 and none mean all.
    pub(crate) fn limit(&self, name: &str) -> Result<usize> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(usize::MAX);
        }
        let number: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let overflows = matches!(error.kind(), PosOverflow | NegOverflow);
            let why = if overflows { "value out of range" } else { "invalid syntax" };
            invalid(name, format!("strconv.Atoi: parsing \"{text}\": {why}"))
        })?;
        match usize::try_from(number) {
            Err(_) => Err(invalid(name, "limit must be non-negative")),
            Ok(0) => Ok(usize::MAX),
            Ok(limit) => Ok(limit),
        }
    }

    /// Returns the selectors of all `match[]`. Only `/series` names the parameter in its errors, as in Prometheus.
    pub(crate) fn selectors(&self) -> Result<Vec<Vec<Matcher>>> {
        let parse = |text: &str| {
            let selector =
                query_promql::parse::parse_selector(text).map_err(|error| match error.is_empty_selector() {
                    true => Error::BadData("match[] must contain at least one non-empty matcher".to_owned()),
                    false => Error::BadData(error.to_string()),
                })?;
            Ok(selector.matchers)
        };
        self.all("match[]").map(parse).collect()
    }

    /// As [`selectors`](Self::selectors), but takes those of everything, too: `{}`.
    pub(crate) fn any_selectors(&self) -> Result<Vec<Vec<Matcher>>> {
        let parse = |text: &str| {
            let selector = query_promql::parse::parse_any_selector(text);
            selector.map(|selector| selector.matchers).map_err(|error| Error::BadData(error.to_string()))
        };
        self.all("match[]").map(parse).collect()
    }
}

/// Reads seconds since the epoch or RFC 3339 as milliseconds.
fn parse_time(text: &str) -> Result<i64, String> {
    let bad = || format!("cannot parse \"{text}\" to a valid timestamp");
    if let Ok(seconds) = text.parse::<f64>() {
        if !seconds.is_finite() {
            return Err(bad());
        }
        #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
        let ms = (seconds * 1000.0).round() as i64;
        return Ok(ms.clamp(MIN_MS, MAX_MS));
    }
    match text {
        // What Prometheus' own client writes for the ends of time.
        "-292273086-05-16T16:47:06Z" => return Ok(MIN_MS),
        "292277025-08-18T07:12:54.999999999Z" => return Ok(MAX_MS),
        _ => {}
    }
    DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis()).map_err(|_| bad())
}

/// Reads seconds or a duration such as `1h30m` as milliseconds.
fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = || format!("cannot parse \"{text}\" to a valid duration");
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = seconds * 1000.0;
        if !ms.is_finite() || ms.abs() >= 9.2e15 {
            return Err(format!("cannot parse \"{text}\" to a valid duration. It overflows int64"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounds were checked")]
        return Ok(ms.round() as i64);
    }
    let expr = query_promql::parse::parse(text).map_err(|_| bad())?;
    match expr.kind {
        query_promql::parse::ast::ExprKind::Number(number) if number.is_duration =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "the parser bounds durations")]
            Ok((number.value * 1000.0).round() as i64)
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        assert_eq!(parse_time("1.5"), Ok(1500));
        assert_eq!(parse_time("-1"), Ok(-1000));
        assert_eq!(parse_time("2015-06-03T13:21:58.555Z"), Ok(1_433_337_718_555));
        assert_eq!(parse_time("2015-06-03T14:21:58.555+01:00"), Ok(1_433_337_718_555));
        assert_eq!(parse_time("x").unwrap_err(), "cannot parse \"x\" to a valid timestamp");
        assert!(parse_time("NaN").is_err() && parse_time("").is_err());
        assert_eq!(parse_time("1e300"), Ok(MAX_MS));
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        assert_eq!(parse_duration("0.5"), Ok(500));
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000));
        assert!(parse_duration("1x").is_err() && parse_duration("up").is_err() && parse_duration("").is_err());
        assert!(parse_duration("1e99").is_err());
    }
}
