//! Remote read against an in-memory store; chunks are read back by a decoder of their own.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use model::histogram::{CUSTOM, ResetHint};
use model::{Histogram, HistogramSample, Labels, stale_marker};
use prost::Message;
use runtime::{Clock, CpuPool, Telemetry};
use storage_api::fake::{FakeLogs, FakeMetrics};
use storage_api::{Limits, MetricAppender, MetricBatch, SeriesSamples};
use tower::ServiceExt;

use super::chunk::{Encoding, SAMPLES_MAX, encode};
use super::proto::{self, LabelMatcher, Query, ReadRequest};

/// Reads bits, highest first.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bits(&mut self, count: usize) -> u64 {
        (0..count).fold(0, |value, _| {
            let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
            self.at += 1;
            value << 1 | u64::from(bit)
        })
    }

    fn ones(&mut self, most: usize) -> usize {
        (0..most).position(|_| self.bits(1) == 0).unwrap_or(most)
    }

    fn uvarint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.bits(8);
            value |= (byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    fn varint(&mut self) -> i64 {
        let value = self.uvarint();
        (value >> 1) as i64 ^ -((value & 1) as i64)
    }

    /// Returns a number of `count` bits whose range is one further above zero than below.
    fn signed(&mut self, count: usize) -> i64 {
        let value = self.bits(count);
        if count < 64 && value > 1 << (count - 1) { value as i64 - (1 << count) } else { value as i64 }
    }

    fn varbit(&mut self) -> i64 {
        let size = [0, 3, 6, 9, 12, 18, 25, 56, 64][self.ones(8)];
        if size == 0 { 0 } else { self.signed(size) }
    }

    fn varbit_unsigned(&mut self) -> u64 {
        let size = [0, 3, 6, 9, 12, 18, 25, 56, 64][self.ones(8)];
        self.bits(size)
    }

    fn xor(&mut self, before: &mut (u64, usize, usize)) -> f64 {
        if self.bits(1) == 1 {
            if self.bits(1) == 1 {
                before.1 = self.bits(5) as usize;
                let width = match self.bits(6) as usize {
                    0 => 64,
                    width => width,
                };
                before.2 = 64 - before.1 - width;
            }
            before.0 ^= self.bits(64 - before.1 - before.2) << before.2;
        }
        f64::from_bits(before.0)
    }
}

fn decode_floats(data: &[u8]) -> Vec<(i64, u64)> {
    let mut reader = Reader { bytes: data, at: 0 };
    let count = reader.bits(16);
    let mut samples = vec![(reader.varint(), reader.bits(64))];
    let (mut xor, mut delta) = ((samples[0].1, 0, 0), 0i64);
    for i in 1..count {
        delta = match i {
            1 => reader.uvarint() as i64,
            _ => match reader.ones(4) {
                0 => delta,
                n => delta.wrapping_add(reader.signed([0, 14, 17, 20, 64][n])),
            },
        };
        let at = samples[samples.len() - 1].0.wrapping_add(delta);
        samples.push((at, reader.xor(&mut xor).to_bits()));
    }
    samples
}

fn decode_histograms(data: &[u8]) -> Vec<(i64, Histogram)> {
    let mut reader = Reader { bytes: data, at: 0 };
    let count = reader.bits(16);
    let hint = [ResetHint::Unknown, ResetHint::NotReset, ResetHint::Reset, ResetHint::Gauge][reader.bits(2) as usize];
    reader.bits(6);
    let zero_threshold = match reader.bits(8) {
        0 => 0.0,
        255 => f64::from_bits(reader.bits(64)),
        n => 0.5 * 2f64.powi(n as i32 - 243),
    };
    let schema = reader.varbit() as i32;
    let mut side = || {
        let (mut indexes, mut next) = (Vec::new(), 0);
        for _ in 0..reader.varbit_unsigned() {
            let length = reader.varbit_unsigned() as i32;
            next += reader.varbit() as i32;
            indexes.extend(next..next + length);
            next += length;
        }
        indexes
    };
    let (positive, negative) = (side(), side());
    let custom: Vec<f64> = match schema {
        CUSTOM => (0..reader.varbit_unsigned())
            .map(|_| match reader.varbit_unsigned() {
                0 => f64::from_bits(reader.bits(64)),
                n => (n - 1) as f64 / 1000.0,
            })
            .collect(),
        _ => Vec::new(),
    };
    let width = 3 + positive.len() + negative.len();
    let (mut at, mut delta, mut columns, mut all) = (0, 0, Vec::new(), Vec::new());
    for i in 0..count {
        let numbers: Vec<f64> = if i == 0 {
            at = reader.varbit();
            columns = (0..width).map(|_| (reader.bits(64), 0, 0)).collect();
            columns.iter().map(|(bits, ..)| f64::from_bits(*bits)).collect()
        } else {
            delta += reader.varbit();
            at += delta;
            columns.iter_mut().map(|column| reader.xor(column)).collect()
        };
        let buckets = |indexes: &[i32], counts: &[f64]| {
            indexes.iter().copied().zip(counts.iter().copied()).filter(|(_, count)| *count != 0.0).collect()
        };
        let histogram = Histogram {
            schema,
            zero_threshold,
            count: numbers[0],
            zero_count: numbers[1],
            sum: numbers[2],
            positive: buckets(&positive, &numbers[3..]),
            negative: buckets(&negative, &numbers[3 + positive.len()..]),
            custom: custom.clone().into(),
            hint: if i > 0 && hint != ResetHint::Gauge { ResetHint::NotReset } else { hint },
        };
        all.push((at, histogram));
    }
    all
}

fn series(samples: &[(i64, f64)]) -> SeriesSamples {
    SeriesSamples {
        timestamps_ms: samples.iter().map(|(at, _)| *at).collect(),
        values: samples.iter().map(|(_, value)| *value).collect(),
        ..SeriesSamples::default()
    }
}

#[test]
fn numbers_come_back_bit_by_bit() {
    let mut at = -5_000_000_000i64;
    let mut samples = Vec::new();
    let values = [0.0, -0.0, 1.5, f64::NAN, stale_marker(), f64::MIN_POSITIVE / 3.0, 1e300, f64::NEG_INFINITY, 0.1];
    for i in 0..1000i64 {
        // Steps that stay, and that change by a little, by much and by very much.
        at += match i % 7 {
            0..3 => 15_000,
            3 => 15_000 + i % 500,
            4 => 8_192 + i * 131,
            5 => i * i * 3_000 + 1,
            _ => 1 << (i % 40),
        };
        let value = if i % 3 == 0 { values[(i % 9) as usize] } else { i as f64 * 0.1 };
        samples.push((at, value));
    }
    samples.push((i64::MAX, 7.0));
    let chunks = encode(&series(&samples));
    assert_eq!(chunks.len(), 1001usize.div_ceil(SAMPLES_MAX));
    let decoded: Vec<(i64, u64)> = chunks.iter().flat_map(|chunk| decode_floats(&chunk.data)).collect();
    let expected: Vec<(i64, u64)> = samples.iter().map(|(at, value)| (*at, value.to_bits())).collect();
    assert!(decoded == expected);
    assert_eq!((chunks[0].min_ms, chunks[0].max_ms), (samples[0].0, samples[SAMPLES_MAX - 1].0));
}

#[test]
fn the_borders_of_each_size_come_back() {
    for change in
        [1 << 13, (1 << 13) + 1, -(1 << 13) + 1, -(1 << 13), 1 << 16, (1 << 16) + 1, 1 << 19, (1 << 19) + 1, -(1 << 40)]
    {
        let samples = [(0, 1.0), (1 << 41, 1.0), ((1 << 42) + change, 2.0)];
        let decoded = decode_floats(&encode(&series(&samples))[0].data);
        assert_eq!(decoded.iter().map(|(at, _)| *at).collect::<Vec<_>>(), samples.map(|(at, _)| at), "{change}");
    }
}

fn histogram(count: f64, positive: &[(i32, f64)]) -> Histogram {
    let positive: Vec<(i32, f64)> = positive.to_vec();
    Histogram { schema: 3, zero_threshold: 2f64.powi(-128), count, sum: count * 0.3, positive, ..Histogram::default() }
}

fn mixed(all: Vec<Histogram>) -> SeriesSamples {
    SeriesSamples {
        timestamps_ms: (0..all.len() as i64).map(|i| i * 60_000).collect(),
        values: vec![0.0; all.len()],
        histograms: Some(all.into_iter().map(|one| Some(Arc::new(one))).collect()),
        ..SeriesSamples::default()
    }
}

/// Encodes, decodes and compares; returns the chunks' lengths.
#[track_caller]
fn round_trip(all: Vec<Histogram>) -> Vec<usize> {
    let chunks = encode(&mixed(all.clone()));
    assert!(chunks.iter().all(|chunk| chunk.encoding == Encoding::FloatHistogram));
    let decoded: Vec<Vec<(i64, Histogram)>> = chunks.iter().map(|chunk| decode_histograms(&chunk.data)).collect();
    for (i, (at, back)) in decoded.iter().flatten().enumerate() {
        assert_eq!(*at, i as i64 * 60_000);
        assert!(back.same_as(&all[i]), "{back} is not {}", all[i]);
        assert_eq!(back.hint == ResetHint::Gauge, all[i].hint == ResetHint::Gauge);
    }
    decoded.iter().map(Vec::len).collect()
}

#[test]
fn histograms_of_one_kind_share_a_chunk_whatever_buckets_they_have() {
    let mut all = vec![histogram(3.0, &[(-2, 1.0), (5, 2.0)]), histogram(6.0, &[(-2, 1.0), (0, 3.0), (5, 2.0)])];
    all.push(Histogram { zero_count: 4.0, count: 12.0, negative: vec![(7, 2.0)], ..all[1].clone() });
    assert_eq!(round_trip(all), [3]);
    assert_eq!(round_trip((1..=250).map(|i| histogram(f64::from(i), &[(1, f64::from(i))])).collect()), [120, 120, 10]);
}

#[test]
fn resets_other_kinds_and_stale_markers_begin_a_chunk() {
    let (few, many) = (histogram(1.0, &[(1, 1.0)]), histogram(5.0, &[(1, 5.0)]));
    assert_eq!(round_trip(vec![few.clone(), many.clone(), few.clone(), many.clone()]), [2, 2]);
    let stale = Histogram { sum: stale_marker(), ..Histogram::default() };
    assert_eq!(round_trip(vec![few.clone(), stale.clone(), stale, many.clone()]), [1, 1, 1, 1]);
    let gauge = |one: &Histogram| Histogram { hint: ResetHint::Gauge, ..one.clone() };
    assert_eq!(round_trip(vec![gauge(&many), gauge(&few), few.clone()]), [2, 1]);
    assert_eq!(round_trip(vec![few.clone(), Histogram { schema: 2, ..many.clone() }]), [1, 1]);
    assert_eq!(round_trip(vec![few, Histogram { zero_threshold: 0.3, ..many }]), [1, 1]);
}

#[test]
fn custom_bounds_come_back() {
    let bounds = [0.005, 0.1, 1.0, 33_554.43, 33_554.431, 1e9, -3.0, 1.0 / 3.0];
    let one = Histogram {
        schema: CUSTOM,
        count: 3.0,
        sum: 0.5,
        positive: vec![(0, 1.0), (8, 2.0)],
        custom: bounds.to_vec().into(),
        ..Histogram::default()
    };
    let other = Histogram { custom: vec![1.0].into(), positive: vec![(1, 9.0)], count: 9.0, ..one.clone() };
    assert_eq!(round_trip(vec![one.clone(), one, other]), [2, 1]);
}

fn router(limits: Limits) -> axum::Router {
    let metrics = FakeMetrics::default();
    for job in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
        (0..300).for_each(|i| metrics.push(&labels, i * 1000, i as f64));
    }
    let mut batch = MetricBatch::default();
    batch.push([("__name__".into(), "native".into())], [model::Sample { timestamp_ms: 1000, value: 1.0 }]).unwrap();
    let sample = |timestamp_ms| HistogramSample {
        timestamp_ms,
        start_ms: 0,
        histogram: Arc::new(Histogram {
            zero_count: 1.0,
            negative: vec![(1, 2.0)],
            ..histogram(5.0, &[(3, 1.0), (4, 1.0)])
        }),
    };
    batch.set_histograms([sample(2000), sample(3000)]);
    metrics.append(&batch).unwrap();
    let (cpu, clock) = (CpuPool::new(2).unwrap(), Clock::fixed(0));
    let services = crate::Services::new(
        Arc::new(metrics),
        Arc::new(FakeLogs::default()),
        cpu,
        clock,
        limits,
        4,
        &Telemetry::new(),
    );
    super::super::router(services)
}

fn select(start: i64, end: i64, matchers: &[(i32, &str, &str)]) -> Query {
    let matcher = |(kind, name, value): &(i32, &str, &str)| LabelMatcher {
        kind: *kind,
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    Query { start_timestamp_ms: start, end_timestamp_ms: end, matchers: matchers.iter().map(matcher).collect() }
}

async fn send(body: Vec<u8>, limits: Limits) -> (StatusCode, String, Vec<u8>) {
    let response = router(limits).oneshot(Request::post("/api/v1/read").body(Body::from(body)).unwrap()).await.unwrap();
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    (response.status(), kind, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn ask(queries: Vec<Query>, accepted: &[i32]) -> (StatusCode, String, Vec<u8>) {
    let request = ReadRequest { queries, accepted_response_types: accepted.to_vec() }.encode_to_vec();
    send(snap::raw::Encoder::new().compress_vec(&request).unwrap(), Limits::default()).await
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<proto::TimeSeries>,
}

#[tokio::test]
async fn samples_come_in_one_message_a_result_for_each_query() {
    let queries = vec![
        select(1000, 3000, &[(0, "__name__", "up"), (1, "job", "b")]),
        select(0, 299_000, &[(2, "__name__", "nat.*"), (3, "job", "a|b")]),
        select(0, 1, &[(0, "__name__", "nothing")]),
    ];
    let (status, kind, body) = ask(queries, &[]).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/x-protobuf"));
    let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let results = ReadResponse::decode(plain.as_slice()).unwrap().results;
    assert_eq!(results.iter().map(|result| result.timeseries.len()).collect::<Vec<_>>(), [1, 1, 0]);
    let up = &results[0].timeseries[0];
    assert_eq!(up.labels.iter().map(|label| label.value.as_str()).collect::<Vec<_>>(), ["up", "a"]);
    assert_eq!(
        up.samples.iter().map(|one| (one.timestamp, one.value)).collect::<Vec<_>>(),
        [(1000, Some(1.0)), (2000, Some(2.0)), (3000, Some(3.0))]
    );
    let native = &results[1].timeseries[0];
    assert_eq!((native.samples.len(), native.histograms.len()), (1, 2));
    let one = &native.histograms[0];
    assert_eq!((one.timestamp, one.count_float, one.zero_count_float, one.schema), (2000, Some(5.0), Some(1.0), 3));
    assert_eq!((one.positive_spans[0].offset, one.positive_spans[0].length), (3, 2));
    assert_eq!(one.negative_counts, [2.0]);
}

#[tokio::test]
async fn chunks_come_as_frames_series_by_series() {
    let queries = vec![select(0, 299_000, &[(0, "__name__", "up")]), select(0, 5000, &[(0, "__name__", "native")])];
    let (status, kind, body) = ask(queries, &[7, 1, 0]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(kind, "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    let mut rest = body.as_slice();
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (sum, after) = rest.split_at(4);
        let (message, after) = after.split_at(length);
        assert_eq!(crc32c::crc32c(message).to_be_bytes(), sum);
        let frame = proto::ChunkedReadResponse::decode(message).unwrap();
        let series = &frame.chunked_series[0];
        let counts: Vec<(i32, usize)> = series
            .chunks
            .iter()
            .map(|chunk| (chunk.kind, usize::from(u16::from_be_bytes([chunk.data[0], chunk.data[1]]))))
            .collect();
        seen.push((frame.query_index, series.labels.last().unwrap().value.clone(), counts));
        rest = after;
    }
    let floats = vec![(1, 120), (1, 120), (1, 60)];
    assert_eq!(
        seen,
        [
            (0, "a".to_owned(), floats.clone()),
            (0, "b".to_owned(), floats),
            (1, "native".to_owned(), vec![(1, 1), (3, 2)])
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_words() {
    let check = |(status, kind, body): (StatusCode, String, Vec<u8>), text: &str| {
        let body = String::from_utf8(body).unwrap();
        assert_eq!((status, kind.as_str()), (StatusCode::BAD_REQUEST, "text/plain; charset=utf-8"), "{body}");
        assert!(body.starts_with(text), "{body}");
    };
    check(send(b"\xff\xff\xff\xff\x7f".to_vec(), Limits::default()).await, "snappy: corrupt input");
    check(send(b"\x05\xff\xff".to_vec(), Limits::default()).await, "snappy: corrupt input");
    check(send(b"\x80\x80\x80\x40".to_vec(), Limits::default()).await, "snappy: decoded length 134217728 exceeds");
    check(
        send(snap::raw::Encoder::new().compress_vec(b"\x0a\xff").unwrap(), Limits::default()).await,
        "the request is no",
    );
    check(
        ask(vec![], &[2, 9]).await,
        "server does not support any of the requested response types: [2 9]; supported: map[",
    );
    check(ask(vec![select(0, 1, &[(4, "a", "b")])], &[]).await, "invalid matcher type: 4");
    check(ask(vec![select(0, 1, &[(2, "a", "(")])], &[]).await, "error parsing regexp: missing closing ): `(`");
    let many: Vec<(i32, &str, &str)> = vec![(2, "a", "x"); 1_001];
    check(ask(vec![select(0, 1, &many)], &[]).await, "more than 1000 regular expressions");
    let large: Vec<(i32, &str, &str)> = vec![(2, "a", "\\pL{60}"); 65];
    check(ask(vec![select(0, 1, &large)], &[]).await, "more than 64 regular expressions");
    let request =
        ReadRequest { queries: vec![select(0, 299_000, &[(0, "__name__", "up")])], accepted_response_types: vec![] };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
    check(send(body, Limits { samples_max: 100, ..Limits::default() }).await, "the query would load");
}
