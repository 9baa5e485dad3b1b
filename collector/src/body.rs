//! Reads and decompresses bodies, up to limits.

use std::io::Read;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt as _;
use parking_lot::Mutex;

use crate::admission::Admission;
use crate::error::{Refusal, Result};

/// Most of a refused body that is read and thrown away, so that a client which is still sending sees the answer and not
/// a broken connection.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// Longest time for that.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Largest window of a zstd stream, as a power of two: 8 MiB, what `zstd -19` uses. The format allows gigabytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What is reserved for a window: that of `zstd -3`, which senders use.
const ZSTD_WINDOW_BYTES: u64 = 2 << 20;

/// Most of a body's announced length that there is room made for before it arrives.
const RESERVED_BYTES_MAX: u64 = 256 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
    /// Snappy's block format.
    Snappy,
}

impl Encoding {
    /// Returns the encoding that a header names, when it is one of `allowed`.
    pub(crate) fn parse(name: &str, allowed: &[Self], expected: &'static str) -> Result<Self> {
        let encoding = match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            "snappy" => Some(Self::Snappy),
            _ => None,
        };
        encoding
            .filter(|encoding| allowed.contains(encoding))
            .ok_or_else(|| Refusal::Encoding { got: cut(name), expected })
    }
}

/// Returns a header as text; empty when it is not given or no text.
pub(crate) fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Returns the content type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = header_text(headers, header::CONTENT_TYPE);
    text.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Cuts a client's text for a message.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Reads a whole body of at most `limit_bytes` in at most `limit` into `space`. On a refusal the rest is read and thrown
/// away, up to a limit.
pub(crate) async fn read(
    body: Body,
    space: Vec<u8>,
    limit_bytes: u64,
    limit: Duration,
    admission: &mut Admission,
) -> Result<Vec<u8>> {
    let expected_bytes = body.size_hint().lower().min(limit_bytes).min(RESERVED_BYTES_MAX);
    let mut stream = body.into_data_stream();
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let read = tokio::time::timeout(limit, read_all(&mut stream, space, expected_bytes, limit_bytes, admission)).await;
    let read = read.unwrap_or(Err(Refusal::BodyTimeout { limit_ms }));
    if matches!(read, Err(Refusal::TooLarge { .. } | Refusal::Overloaded { .. })) {
        drain(stream).await;
    }
    read
}

async fn read_all(
    stream: &mut BodyDataStream,
    mut bytes: Vec<u8>,
    expected_bytes: u64,
    limit_bytes: u64,
    admission: &mut Admission,
) -> Result<Vec<u8>> {
    admission.grow(expected_bytes)?;
    let mut paid_bytes = expected_bytes;
    bytes.clear();
    bytes.reserve(usize::try_from(expected_bytes).unwrap_or(0));
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Refusal::BodyBroken { cause: error.to_string() })?;
        if bytes.len() as u64 + chunk.len() as u64 > limit_bytes {
            return Err(Refusal::TooLarge { what: "the body", limit_bytes });
        }
        // A growing vector may hold twice what is in it.
        let needed_bytes = (bytes.len() + chunk.len()) as u64;
        if needed_bytes > paid_bytes {
            admission.grow(needed_bytes * 2 - paid_bytes)?;
            paid_bytes = needed_bytes * 2;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads and throws away the rest of a body, up to a limit.
pub(crate) async fn drain(mut stream: BodyDataStream) {
    let mut left = DRAIN_BYTES_MAX;
    let all = async {
        while let Some(Ok(chunk)) = stream.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    // Out of time is no fault: the connection is closed then.
    drop(tokio::time::timeout(DRAIN_TIME_MAX, all).await);
}

/// Space for bodies, as they come or decompressed, kept from one request to the next: the system zeroes what is fresh,
/// which costs more than reading or decompressing into it.
#[derive(Debug, Default)]
pub(crate) struct Spaces(Mutex<Vec<Vec<u8>>>);

/// Most spaces that are kept; as many requests as that are decompressed at once on usual machines.
const SPACES_MAX: usize = 8;
/// A larger space is given back.
const SPACE_BYTES_MAX: usize = 1 << 20;

impl Spaces {
    /// Runs `work` with a space, whose content is of no meaning.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut space = self.take();
        let result = work(&mut space);
        self.keep(space);
        result
    }

    /// Returns a space, whose content is of no meaning.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Keeps a space for who needs one next.
    pub(crate) fn keep(&self, space: Vec<u8>) {
        if space.capacity() <= SPACE_BYTES_MAX {
            let mut spaces = self.0.lock();
            if spaces.len() < SPACES_MAX {
                spaces.push(space);
            }
        }
    }
}

/// Decompresses a body into `space`; stops as soon as more than `limit_bytes` came out.
pub(crate) fn decompress<'a>(
    bytes: &'a [u8],
    encoding: Encoding,
    limit_bytes: u64,
    admission: &mut Admission,
    space: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    let too_large = Refusal::TooLarge { what: "the decompressed body", limit_bytes };
    let malformed = |what, error: &dyn std::fmt::Display| Refusal::Malformed { what, cause: error.to_string() };
    match encoding {
        Encoding::Identity if bytes.len() as u64 > limit_bytes => Err(too_large),
        Encoding::Identity => Ok(bytes),
        Encoding::Gzip => {
            let decoder = flate2::read::MultiGzDecoder::new(bytes);
            read_limited(decoder, "the gzip body", limit_bytes, admission, space)
        }
        Encoding::Deflate => {
            let decoder = flate2::read::ZlibDecoder::new(bytes);
            read_limited(decoder, "the deflate body", limit_bytes, admission, space)
        }
        Encoding::Zstd => {
            let what = "the zstd body";
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| malformed(what, &e))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|e| malformed(what, &e))?;
            admission.grow(ZSTD_WINDOW_BYTES)?;
            read_limited(decoder, what, limit_bytes, admission, space)
        }
        Encoding::Snappy => {
            let what = "the snappy body";
            let length = snap::raw::decompress_len(bytes).map_err(|e| malformed(what, &e))?;
            if length as u64 > limit_bytes {
                return Err(too_large);
            }
            admission.grow(length as u64)?;
            if space.len() < length {
                space.resize(length, 0);
            }
            let space = space.get_mut(..length).unwrap_or_default();
            let written = snap::raw::Decoder::new().decompress(bytes, space).map_err(|e| malformed(what, &e))?;
            Ok(space.get(..written).unwrap_or_default())
        }
    }
}

fn read_limited<'a>(
    mut from: impl Read,
    what: &'static str,
    limit_bytes: u64,
    admission: &mut Admission,
    out: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    out.clear();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut chunk).map_err(|error| Refusal::Malformed { what, cause: error.to_string() })?;
        let Some(new) = chunk.get(..read).filter(|new| !new.is_empty()) else { return Ok(out) };
        if out.len() as u64 + new.len() as u64 > limit_bytes {
            return Err(Refusal::TooLarge { what: "the decompressed body", limit_bytes });
        }
        // A growing vector may hold twice what is in it.
        admission.grow(new.len() as u64 * 2)?;
        out.extend_from_slice(new);
    }
}
