//! When to send again, and how long to wait before.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};

/// What to do after a request that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Send it again; the receiver may have said when.
    Retry(Option<Duration>),
    /// Give it up, for this reason.
    Drop(&'static str),
}

/// The longest wait that a receiver may ask for.
const ASKED_WAIT_MAX: Duration = Duration::from_mins(5);

/// Decides by OTLP's list of retryable codes (https://opentelemetry.io/docs/specs/otlp/#failures). `attempts` is how
/// often the request was sent.
pub(crate) fn choose(status: &Status, attempts: u32) -> Choice {
    // tonic's own errors (no connection, reset, ...) carry their cause; a status of the receiver does not.
    if std::error::Error::source(status).is_some() && status.code() != Code::OutOfRange {
        return Choice::Retry(None);
    }
    let asked = retry_delay(status.details());
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::Unavailable | Code::DataLoss => {
            Choice::Retry(asked)
        }
        // Retryable only when the receiver says so; else it means that the request is too large.
        Code::ResourceExhausted if asked.is_some() => Choice::Retry(asked),
        Code::ResourceExhausted => Choice::Drop("resource_exhausted"),
        // OTLP calls it retryable, but some receivers say it of a request that is too large, every time.
        Code::OutOfRange if attempts < 3 => Choice::Retry(asked),
        Code::OutOfRange => Choice::Drop("out_of_range"),
        // Without a cause these come from proxies on the way as well; the receiver's verdict does not change by asking.
        Code::Unknown => Choice::Drop("unknown"),
        Code::InvalidArgument => Choice::Drop("invalid_argument"),
        Code::NotFound => Choice::Drop("not_found"),
        Code::AlreadyExists => Choice::Drop("already_exists"),
        Code::PermissionDenied => Choice::Drop("permission_denied"),
        Code::FailedPrecondition => Choice::Drop("failed_precondition"),
        Code::Unimplemented => Choice::Drop("unimplemented"),
        Code::Internal => Choice::Drop("internal"),
        Code::Unauthenticated => Choice::Drop("unauthenticated"),
        Code::Ok => Choice::Retry(None),
    }
}

/// `google.rpc.Status`, as far as it is needed.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Returns the wait that a status' details ask for.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let any = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(any.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
    Some(Duration::new(seconds, nanos).min(ASKED_WAIT_MAX))
}

/// Waits that double, each shortened by up to half at random so that many agents do not come back at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    /// Starts with `min`; `seed` tells agents apart.
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, next: min, random: seed | 1 }
    }

    /// Begins anew after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// Returns the next wait, never shorter than what was asked for.
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        // xorshift64: good enough to spread, and no dependency.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let jittered = full.mul_f64(0.5 + 0.5 * ((self.random % 1024) as f64 / 1024.0));
        asked.map_or(jittered, |asked| asked + jittered / 4)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Encodes details that ask for a wait.
    pub(crate) fn details(wait: Duration) -> Vec<u8> {
        let delay = ProtoDuration { seconds: wait.as_secs() as i64, nanos: wait.subsec_nanos() as i32 };
        let value = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
        let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value };
        RpcStatus { details: vec![any] }.encode_to_vec()
    }

    #[test]
    fn the_choice_follows_otlp() {
        let choice = |code| choose(&Status::new(code, ""), 1);
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::Cancelled, Code::DataLoss] {
            assert_eq!(choice(code), Choice::Retry(None), "{code:?}");
        }
        assert_eq!(choice(Code::InvalidArgument), Choice::Drop("invalid_argument"));
        assert_eq!(choice(Code::ResourceExhausted), Choice::Drop("resource_exhausted"));
        let wait = Duration::from_millis(1500);
        let status = Status::with_details(Code::ResourceExhausted, "", details(wait).into());
        assert_eq!(choose(&status, 1), Choice::Retry(Some(wait)));
        let garbage = Status::with_details(Code::ResourceExhausted, "", vec![0xff; 9].into());
        assert_eq!(choose(&garbage, 1), Choice::Drop("resource_exhausted"));
    }

    #[test]
    fn waits_grow_to_their_limit_and_begin_anew() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(min, max, 42);
        let waits: Vec<_> = (0..20).map(|_| backoff.wait(None)).collect();
        assert!(waits.iter().all(|wait| *wait >= min / 2 && *wait <= max), "{waits:?}");
        assert!(waits[19] >= max / 2 && waits[18] != waits[19], "{waits:?}");
        assert!(backoff.wait(Some(Duration::from_secs(9))) >= Duration::from_secs(9));
        backoff.reset();
        assert!(backoff.wait(None) <= min);
    }
}
