//! Compression of answers for clients that take it.

use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

/// Shortest answer that is compressed, in bytes: a shorter one fits a packet as it is.
const COMPRESSED_BYTES_MIN: u16 = 1 << 10;

/// Compresses answers with gzip or zstd, whichever the client prefers, at the fastest level: JSON shrinks to about a tenth
/// with it, and the work is done piece by piece on an I/O worker.
pub(crate) fn layer() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::{HeaderMap, Request, header};
    use http_body_util::BodyExt;
    use model::{Labels, Timestamp};
    use runtime::{Clock, CpuPool, Telemetry};
    use storage_api::Limits;
    use storage_api::fake::{FakeLogs, FakeMetrics};
    use tower::ServiceExt;

    const NOW: i64 = 1_700_000_000_000_000_000;

    /// A server with a thousand samples of each of three series, and a thousand lines.
    fn router() -> axum::Router {
        let (metrics, logs) = (FakeMetrics::default(), FakeLogs::default());
        for i in 0..1000 {
            for job in ["a", "b", "c"] {
                let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
                metrics.push(&labels, i * 1000, 0.1);
            }
            logs.push(&Labels::from_pairs([("app", "a")]), Timestamp(NOW - 1_000_000 + i), &format!("line {i}"), &[]);
        }
        let cpu = CpuPool::new(2).unwrap();
        let (metrics, logs) = (Arc::new(metrics), Arc::new(logs));
        let limits = Limits::default();
        let services = crate::Services::new(metrics, logs, cpu, Clock::fixed(NOW), limits, 4, &Telemetry::new());
        crate::router(services)
    }

    async fn ask(path: &str, accepted: &str) -> (HeaderMap, Vec<u8>) {
        let request = Request::get(path).header(header::ACCEPT_ENCODING, accepted).body(Body::empty()).unwrap();
        let response = router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers().clone();
        (headers, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_long_answer_is_the_same_whatever_its_encoding() {
        let long = [
            "/api/v1/query_range?query=up&start=0&end=999&step=1",
            "/loki/api/v1/query_range?query=%7Bapp=%22a%22%7D&start=1699999990&end=1700000000&limit=1000",
        ];
        for path in long {
            let (headers, plain) = ask(path, "identity").await;
            assert!(!headers.contains_key(header::CONTENT_ENCODING), "{path}");
            assert!(plain.len() > 10_000, "{path}: {}", plain.len());
            let accepted = [("gzip", "gzip"), ("zstd", "zstd"), ("gzip;q=0.5, zstd", "zstd"), ("br, gzip", "gzip")];
            for (accepted, expected) in accepted {
                let (headers, body) = ask(path, accepted).await;
                assert_eq!(headers[header::CONTENT_ENCODING], expected, "{path}: {accepted}");
                assert_eq!(headers[header::VARY], "accept-encoding");
                assert!(body.len() < plain.len() / 2, "{path}: {} of {}", body.len(), plain.len());
                let mut back = Vec::new();
                match expected {
                    "gzip" => flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut back).unwrap(),
                    _ => zstd::stream::read::Decoder::new(&body[..]).unwrap().read_to_end(&mut back).unwrap(),
                };
                if path.starts_with("/api/v1/") {
                    assert!(back == plain, "{path}: {accepted}: {} and {} bytes", back.len(), plain.len());
                } else {
                    // Loki's answers tell how long they took.
                    let result = |bytes: &[u8]| {
                        serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["data"]["result"].clone()
                    };
                    assert_eq!(result(&back), result(&plain));
                }
            }
        }
    }

    #[tokio::test]
    async fn a_short_answer_stays_as_it_is_and_tells_its_length() {
        let (headers, body) = ask("/api/v1/query?query=1", "gzip").await;
        assert!(!headers.contains_key(header::CONTENT_ENCODING), "{headers:?}");
        assert!(body.starts_with(br#"{"status":"success""#));
    }
}
