//! Encodes appended samples and metadata as WAL records, and back. Layout: docs/format/metrics-block.md, "WAL records".

use model::{MetricKind, MetricMetadata, Sample};

use crate::head::{LabelPairs, SeriesRef};
use crate::varint::{Cursor, put_bytes, put_i64, put_u64};

/// Kinds of records: the first byte.
const SAMPLES: u8 = 1;
const METADATA: u8 = 2;

/// How the rest of a record is packed: the second byte.
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Records below this many bytes are not worth packing.
const PACK_BYTES_MIN: usize = 256;

/// Most bytes of an unpacked record; a store never writes more into one.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;

/// Quick, and half the size; the log is short-lived.
const ZSTD_LEVEL: i32 = 1;

/// Collects one record of samples.
#[derive(Debug)]
pub(crate) struct SamplesEncoder {
    epoch: u64,
    definitions: Vec<u8>,
    definitions_count: u64,
    rows: Vec<u8>,
    rows_count: u64,
    last_series: i64,
    times: Vec<u8>,
    last_time: i64,
    values: Vec<u64>,
}

impl SamplesEncoder {
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            definitions: Vec::new(),
            definitions_count: 0,
            rows: Vec::new(),
            rows_count: 0,
            last_series: 0,
            times: Vec::new(),
            last_time: 0,
            values: Vec::new(),
        }
    }

    /// Says which labels `series` stands for, in this and later records of the epoch.
    pub(crate) fn define(&mut self, series: SeriesRef, labels: impl LabelPairs) {
        put_u64(&mut self.definitions, u64::from(series.0));
        put_u64(&mut self.definitions, labels.pairs().count() as u64);
        for (name, value) in labels.pairs() {
            put_bytes(&mut self.definitions, name.as_bytes());
            put_bytes(&mut self.definitions, value.as_bytes());
        }
        self.definitions_count += 1;
    }

    pub(crate) fn push(&mut self, series: SeriesRef, samples: &[Sample]) {
        put_i64(&mut self.rows, i64::from(series.0) - self.last_series);
        self.last_series = i64::from(series.0);
        put_u64(&mut self.rows, samples.len() as u64);
        self.rows_count += 1;
        for sample in samples {
            put_i64(&mut self.times, sample.timestamp_ms.wrapping_sub(self.last_time));
            self.last_time = sample.timestamp_ms;
            self.values.push(sample.value.to_bits());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows_count == 0
    }

    /// Returns the bytes that the record takes before packing, near enough.
    pub(crate) fn size_bytes(&self) -> usize {
        self.definitions.len() + self.rows.len() + self.times.len() + 8 * self.values.len()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.size_bytes() + 32);
        body.extend_from_slice(&self.epoch.to_le_bytes());
        put_u64(&mut body, self.definitions_count);
        body.extend_from_slice(&self.definitions);
        put_u64(&mut body, self.rows_count);
        body.extend_from_slice(&self.rows);
        body.extend_from_slice(&self.times);
        // Bytes of the same weight lie together, which zstd likes.
        for byte in 0..8 {
            body.extend(self.values.iter().map(|value| value.to_le_bytes()[byte]));
        }
        pack(SAMPLES, body)
    }
}

/// Encodes metadata as a record.
pub(crate) fn encode_metadata<'a>(metadata: impl ExactSizeIterator<Item = &'a MetricMetadata>) -> Vec<u8> {
    let mut body = Vec::new();
    put_u64(&mut body, metadata.len() as u64);
    for one in metadata {
        for text in [one.name.as_str(), one.kind.as_str(), &one.help, &one.unit] {
            put_bytes(&mut body, text.as_bytes());
        }
    }
    pack(METADATA, body)
}

fn pack(kind: u8, body: Vec<u8>) -> Vec<u8> {
    if body.len() >= PACK_BYTES_MIN
        && let Ok(packed) = zstd::bulk::compress(&body, ZSTD_LEVEL)
        && packed.len() < body.len()
    {
        let mut record = vec![kind, ZSTD];
        put_u64(&mut record, body.len() as u64);
        record.extend_from_slice(&packed);
        return record;
    }
    let mut record = vec![kind, PLAIN];
    record.extend_from_slice(&body);
    record
}

/// A record with its text still in the buffer.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Samples(SamplesRecord<'a>),
    Metadata(Vec<MetricMetadata>),
}

/// Definitions and samples of one record.
#[derive(Debug)]
pub(crate) struct SamplesRecord<'a> {
    pub(crate) epoch: u64,
    pub(crate) definitions: Vec<(SeriesRef, Vec<(&'a str, &'a str)>)>,
    /// Series and how many of `samples` are its.
    pub(crate) rows: Vec<(SeriesRef, usize)>,
    pub(crate) samples: Vec<Sample>,
}

/// Unpacks a record's body; `None` where it makes no sense.
pub(crate) fn unpack(record: &[u8]) -> Option<(u8, std::borrow::Cow<'_, [u8]>)> {
    let mut cursor = Cursor(record);
    let kind = cursor.u8()?;
    match cursor.u8()? {
        PLAIN => Some((kind, cursor.0.into())),
        ZSTD => {
            let length = usize::try_from(cursor.u64()?).ok().filter(|length| *length <= 2 * RECORD_BYTES_MAX)?;
            Some((kind, zstd::bulk::decompress(cursor.0, length).ok()?.into()))
        }
        _ => None,
    }
}

/// Decodes an unpacked record; `None` where it makes no sense.
pub(crate) fn decode(kind: u8, body: &[u8]) -> Option<Record<'_>> {
    let cursor = Cursor(body);
    match kind {
        SAMPLES => decode_samples(cursor).map(Record::Samples),
        METADATA => decode_metadata(cursor).map(Record::Metadata),
        _ => None,
    }
}

fn decode_samples(mut cursor: Cursor<'_>) -> Option<SamplesRecord<'_>> {
    let epoch = cursor.fixed_u64()?;
    let mut definitions = Vec::new();
    for _ in 0..cursor.count()? {
        let series = SeriesRef(cursor.u32()?);
        let mut labels = Vec::new();
        for _ in 0..cursor.count()? {
            labels.push((cursor.text()?, cursor.text()?));
        }
        definitions.push((series, labels));
    }
    let mut rows = Vec::new();
    let (mut series, mut samples_count) = (0_i64, 0_usize);
    for _ in 0..cursor.count()? {
        series = series.wrapping_add(cursor.i64()?);
        let count = usize::try_from(cursor.u64()?).ok()?;
        samples_count = samples_count.checked_add(count)?;
        rows.push((SeriesRef(u32::try_from(series).ok()?), count));
    }
    // Each sample takes nine bytes at least.
    if samples_count > cursor.0.len() / 9 {
        return None;
    }
    let mut samples = Vec::with_capacity(samples_count);
    let mut time = 0_i64;
    for _ in 0..samples_count {
        time = time.wrapping_add(cursor.i64()?);
        samples.push(Sample { timestamp_ms: time, value: 0.0 });
    }
    if cursor.0.len() != 8 * samples_count {
        return None;
    }
    for (i, sample) in samples.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        for (plane, byte) in bytes.iter_mut().enumerate() {
            *byte = *cursor.0.get(plane * samples_count + i)?;
        }
        sample.value = f64::from_bits(u64::from_le_bytes(bytes));
    }
    Some(SamplesRecord { epoch, definitions, rows, samples })
}

fn decode_metadata(mut cursor: Cursor<'_>) -> Option<Vec<MetricMetadata>> {
    let mut metadata = Vec::new();
    for _ in 0..cursor.count()? {
        metadata.push(MetricMetadata {
            name: cursor.text()?.to_owned(),
            kind: MetricKind::from_word(cursor.text()?),
            help: cursor.text()?.to_owned(),
            unit: cursor.text()?.to_owned(),
        });
    }
    cursor.is_empty().then_some(metadata)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(timestamp_ms: i64, bits: u64) -> Sample {
        Sample { timestamp_ms, value: f64::from_bits(bits) }
    }

    fn check(rows: &[(u32, Vec<(i64, u64)>)]) {
        let mut encoder = SamplesEncoder::new(77);
        let labels: &[(&str, &str)] = &[("__name__", "up"), ("이름", "값")];
        for (series, samples) in rows {
            encoder.define(SeriesRef(*series), labels);
            let samples: Vec<Sample> = samples.iter().map(|(at, bits)| sample(*at, *bits)).collect();
            encoder.push(SeriesRef(*series), &samples);
        }
        let record = encoder.finish();
        let (kind, body) = unpack(&record).unwrap();
        let Some(Record::Samples(got)) = decode(kind, &body) else { panic!("no samples") };
        assert_eq!(got.epoch, 77);
        assert!(got.definitions.iter().all(|(_, have)| have == labels));
        let got_rows: Vec<(u32, usize)> = got.rows.iter().map(|(series, count)| (series.0, *count)).collect();
        assert_eq!(got_rows, rows.iter().map(|(series, samples)| (*series, samples.len())).collect::<Vec<_>>());
        let all: Vec<(i64, u64)> = rows.iter().flat_map(|(_, samples)| samples.iter().copied()).collect();
        assert_eq!(got.samples.iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect::<Vec<_>>(), all);
    }

    #[test]
    fn awkward_rows_come_back() {
        check(&[]);
        check(&[(5, vec![(i64::MIN, u64::MAX), (i64::MAX, model::STALE_NAN_BITS)]), (2, vec![]), (2, vec![(0, 0)])]);
    }

    #[test]
    fn metadata_comes_back() {
        let metadata = [MetricMetadata {
            name: "up".to_owned(),
            kind: MetricKind::Gauge,
            help: "Is it up? ".repeat(100),
            unit: String::new(),
        }];
        let record = encode_metadata(metadata.iter());
        let (kind, body) = unpack(&record).unwrap();
        assert!(matches!(decode(kind, &body), Some(Record::Metadata(got)) if got == metadata));
    }

    proptest! {
        #[test]
        fn any_rows_come_back(rows in proptest::collection::vec(
            (0..1000_u32, proptest::collection::vec((any::<i64>(), any::<u64>()), 0..20)), 0..30)) {
            check(&rows);
        }

        #[test]
        fn any_bytes_give_a_record_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((kind, body)) = unpack(&bytes) {
                drop(decode(kind, &body));
            }
            for kind in [SAMPLES, METADATA] {
                drop(decode(kind, &bytes));
            }
        }
    }
}
