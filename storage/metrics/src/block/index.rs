//! The label index of a block: series, their rows, and which series have which label. Layout:
//! docs/format/metrics-block.md, "index".

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::Labels;
use roaring::RoaringBitmap;
use storage_api::{MillisRange, Result};

use super::decimal::{Form, SCALE_MAX};
use super::times::decode_times;
use crate::error::corrupt;
use crate::postings::Postings;
use crate::varint::{Cursor, put_bytes, put_i64, put_u64};

/// The file's name.
pub(crate) const INDEX_FILE: &str = "index";
const MAGIC: [u8; 8] = *b"DAYBKMIX";
const VERSION: u32 = 3;

/// The sections, in the order they are written.
const SECTIONS: usize = 8;
const SYMBOLS: usize = 0;
const LABELS: usize = 1;
const SERIES: usize = 2;
const TERMS: usize = 3;
const POSTINGS: usize = 4;
const EXTENTS: usize = 5;
const RUNS: usize = 6;
const TIMES: usize = 7;

/// A run's scale when its values are no decimals, and the bit that says that there are exceptions.
const RUN_PLAIN: u8 = 0xff;
const RUN_EXCEPTIONS: u8 = 0x80;

/// Magic, version, count of sections; then per section checksum, packing, offset and length; then a checksum.
const HEADER_BYTES: usize = 16 + SECTIONS * 24 + 4;

/// A section that is compressed, in its header.
const PACKED: u32 = 1;
/// Largest section, in bytes, once it is unpacked.
const SECTION_BYTES_MAX: u64 = 8 << 30;
/// How hard to compress sections.
const ZSTD_LEVEL: i32 = 3;

/// One series of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeriesEntry {
    labels_at: u64,
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
}

impl SeriesEntry {
    pub(crate) fn range(&self) -> MillisRange {
        MillisRange { min_ms: self.min_ms, max_ms: self.max_ms }
    }
}

/// Rows of one series in one row group: how their values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunEntry {
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    pub(crate) form: Form,
    /// Which list of the section `times` has the run's timestamps, when one has.
    pub(crate) times: Option<u32>,
}

/// Collects the series of a block in their order.
#[derive(Debug, Default)]
pub(crate) struct IndexWriter {
    symbols: BTreeMap<Box<str>, u32>,
    /// Per series: name and value by the order in which symbols were first seen, renumbered at the end.
    labels: Vec<Vec<(u32, u32)>>,
    series: Vec<SeriesEntry>,
    runs: Vec<u8>,
    /// Encoded lists of timestamps, and their number.
    times: HashMap<Arc<[u8]>, u32>,
}

impl IndexWriter {
    fn symbol(&mut self, text: &str) -> u32 {
        if let Some(id) = self.symbols.get(text) {
            return *id;
        }
        let id = u32::try_from(self.symbols.len()).expect("a block has fewer labels than 4 Gi");
        self.symbols.insert(text.into(), id);
        id
    }

    /// Adds the next series.
    pub(crate) fn push(&mut self, labels: &Labels, first_row: u64, rows: u64, range: MillisRange) {
        let pairs = labels.iter().map(|(name, value)| (self.symbol(name), self.symbol(value))).collect();
        self.labels.push(pairs);
        let MillisRange { min_ms, max_ms } = range;
        self.series.push(SeriesEntry { labels_at: 0, first_row, rows, min_ms, max_ms });
    }

    /// Adds the next run of rows.
    pub(crate) fn push_run(&mut self, rows: u64, form: Form, times: Option<u32>) {
        put_u64(&mut self.runs, rows);
        put_u64(&mut self.runs, times.map_or(0, |number| u64::from(number) + 1));
        match form {
            Form::Plain => self.runs.push(RUN_PLAIN),
            Form::Decimal { scale, shift, has_exceptions } => {
                self.runs.push(scale | if has_exceptions { RUN_EXCEPTIONS } else { 0 });
                self.runs.push(shift);
            }
        }
    }

    /// Returns the number of an encoded list of timestamps; series of one scrape share it.
    pub(crate) fn times(&mut self, list: Arc<[u8]>) -> u32 {
        let next = u32::try_from(self.times.len()).expect("a block has fewer runs than 4 Gi");
        *self.times.entry(list).or_insert(next)
    }

    /// Returns the file's content.
    pub(crate) fn finish(mut self, extents: &[u32]) -> Result<Vec<u8>, String> {
        // Symbols get their final number in the order of their text.
        let mut renumbered = vec![0; self.symbols.len()];
        for (new, old) in self.symbols.values().enumerate() {
            renumbered[*old as usize] = new as u32;
        }
        let mut labels = Vec::new();
        let mut terms: BTreeMap<u32, BTreeMap<u32, Vec<u32>>> = BTreeMap::new();
        for (id, (entry, pairs)) in self.series.iter_mut().zip(&self.labels).enumerate() {
            entry.labels_at = labels.len() as u64;
            put_u64(&mut labels, pairs.len() as u64);
            for (name, value) in pairs {
                let (name, value) = (renumbered[*name as usize], renumbered[*value as usize]);
                put_u64(&mut labels, u64::from(name));
                put_u64(&mut labels, u64::from(value));
                terms.entry(name).or_default().entry(value).or_default().push(id as u32);
            }
        }
        let series = encode_series(&self.series, labels.len() as u64);
        let texts: Vec<&str> = self.symbols.keys().map(AsRef::as_ref).collect();
        let (terms, postings) = encode_terms(&texts, terms)?;
        let extents: Vec<u8> = extents.iter().flat_map(|crc| crc.to_le_bytes()).collect();
        let mut lists: Vec<(&[u8], u32)> = self.times.iter().map(|(list, number)| (list.as_ref(), *number)).collect();
        lists.sort_unstable_by_key(|(_, number)| *number);
        let mut times = Vec::new();
        lists.iter().for_each(|(list, _)| put_bytes(&mut times, list));
        assemble([encode_symbols(&texts)?, labels, series, terms, postings, extents, self.runs, times])
    }
}

/// Encodes where the series' labels and rows lie, which follow each other, and their times, which hardly differ.
fn encode_series(series: &[SeriesEntry], labels_bytes: u64) -> Vec<u8> {
    let mut section = Vec::new();
    let ends = series.iter().skip(1).map(|next| next.labels_at).chain([labels_bytes]);
    let (mut min_ms, mut max_ms) = (0_i64, 0_i64);
    for (entry, end) in series.iter().zip(ends) {
        put_u64(&mut section, end - entry.labels_at);
        put_u64(&mut section, entry.rows);
        put_i64(&mut section, entry.min_ms.wrapping_sub(min_ms));
        put_i64(&mut section, entry.max_ms.wrapping_sub(max_ms));
        (min_ms, max_ms) = (entry.min_ms, entry.max_ms);
    }
    section
}

/// Returns the series of a section; `None` unless they cover all labels.
fn decode_series(section: &[u8], labels_bytes: u64) -> Option<Vec<SeriesEntry>> {
    let mut cursor = Cursor(section);
    let mut series = Vec::new();
    let (mut labels_at, mut first_row) = (0_u64, 0_u64);
    let (mut min_ms, mut max_ms) = (0_i64, 0_i64);
    while !cursor.is_empty() {
        let (labels, rows) = (cursor.u64()?, cursor.u64()?);
        min_ms = min_ms.wrapping_add(cursor.i64()?);
        max_ms = max_ms.wrapping_add(cursor.i64()?);
        series.push(SeriesEntry { labels_at, first_row, rows, min_ms, max_ms });
        labels_at = labels_at.checked_add(labels)?;
        first_row = first_row.checked_add(rows)?;
    }
    (labels_at == labels_bytes).then_some(series)
}

fn encode_symbols(texts: &[&str]) -> Result<Vec<u8>, String> {
    let mut section = (texts.len() as u32).to_le_bytes().to_vec();
    let mut end = 0_usize;
    for text in texts {
        end += text.len();
        let end = u32::try_from(end).map_err(|_| "the label text of a block is over 4 GiB".to_owned())?;
        section.extend_from_slice(&end.to_le_bytes());
    }
    for text in texts {
        section.extend_from_slice(text.as_bytes());
    }
    Ok(section)
}

/// Returns the dictionaries, one per label name, and the bitmaps that they point at.
fn encode_terms(texts: &[&str], terms: BTreeMap<u32, BTreeMap<u32, Vec<u32>>>) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (mut directory, mut dictionaries, mut postings) = (Vec::new(), Vec::new(), Vec::new());
    put_u64(&mut directory, terms.len() as u64);
    for (name, values) in terms {
        let mut dictionary = fst::MapBuilder::memory();
        for (value, ids) in values {
            let bitmap = RoaringBitmap::from_sorted_iter(ids).map_err(|error| error.to_string())?;
            let text = texts.get(value as usize).copied().unwrap_or_default();
            dictionary.insert(text, postings.len() as u64).map_err(|error| error.to_string())?;
            put_u64(&mut postings, bitmap.serialized_size() as u64);
            bitmap.serialize_into(&mut postings).map_err(|error| error.to_string())?;
        }
        let dictionary = dictionary.into_inner().map_err(|error| error.to_string())?;
        put_u64(&mut directory, u64::from(name));
        put_u64(&mut directory, dictionary.len() as u64);
        dictionaries.extend_from_slice(&dictionary);
    }
    directory.extend_from_slice(&dictionaries);
    Ok((directory, postings))
}

/// Compresses a section where that makes it smaller; says whether it did.
fn pack(section: Vec<u8>) -> Result<(u32, Vec<u8>), String> {
    let mut packed = (section.len() as u64).to_le_bytes().to_vec();
    packed.extend(zstd::bulk::compress(&section, ZSTD_LEVEL).map_err(|error| error.to_string())?);
    Ok(if packed.len() < section.len() { (PACKED, packed) } else { (0, section) })
}

/// Returns a section as it was before it was packed.
fn unpack(section: Bytes) -> Option<Bytes> {
    let (size, packed) = section.split_first_chunk::<8>()?;
    let size = Some(u64::from_le_bytes(*size)).filter(|size| *size <= SECTION_BYTES_MAX)?;
    // It grows with what is there, whatever the size says.
    let mut plain = Vec::new();
    zstd::stream::Decoder::new(packed).ok()?.take(size + 1).read_to_end(&mut plain).ok()?;
    (plain.len() as u64 == size).then(|| plain.into())
}

fn assemble(sections: [Vec<u8>; SECTIONS]) -> Result<Vec<u8>, String> {
    let mut content = MAGIC.to_vec();
    content.extend_from_slice(&VERSION.to_le_bytes());
    content.extend_from_slice(&(SECTIONS as u32).to_le_bytes());
    let (mut packed, mut offset) = (Vec::with_capacity(SECTIONS), HEADER_BYTES as u64);
    for section in sections {
        let (packing, section) = pack(section)?;
        content.extend_from_slice(&crc32c::crc32c(&section).to_le_bytes());
        content.extend_from_slice(&packing.to_le_bytes());
        content.extend_from_slice(&offset.to_le_bytes());
        content.extend_from_slice(&(section.len() as u64).to_le_bytes());
        offset += section.len() as u64;
        packed.push(section);
    }
    let crc = crc32c::crc32c(&content);
    content.extend_from_slice(&crc.to_le_bytes());
    packed.iter().for_each(|section| content.extend_from_slice(section));
    Ok(content)
}

/// The index of a block, in memory as it is on disk.
#[derive(Debug)]
pub(crate) struct Index {
    symbol_ends: Bytes,
    symbol_text: Bytes,
    labels: Bytes,
    series: Vec<SeriesEntry>,
    terms: BTreeMap<Box<str>, fst::Map<Bytes>>,
    postings: Bytes,
    pub(crate) extents: Arc<[u32]>,
    runs: Vec<RunEntry>,
    times: Bytes,
    /// Where each list lies in `times`.
    lists: Vec<std::ops::Range<usize>>,
    path: std::path::PathBuf,
}

impl Index {
    /// Checks every byte of `content`, which was read from `path`.
    pub(crate) fn decode(path: &Path, content: Bytes) -> Result<Self> {
        let sections = split(&content).map_err(|reason| corrupt(path, reason))?;
        let [symbols, labels, series, terms, postings, extents, runs, times] = sections;
        let bad = |what: &str| corrupt(path, format!("its {what} make no sense"));
        let count = symbols.first_chunk::<4>().map(|count| u32::from_le_bytes(*count) as usize);
        let ends = count.and_then(|count| count.checked_mul(4)).filter(|ends| 4 + ends <= symbols.len());
        let ends = ends.ok_or_else(|| bad("symbols"))?;
        if !extents.len().is_multiple_of(4) {
            return Err(bad("extents"));
        }
        let words = extents.chunks_exact(4).map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]));
        let mut index = Self {
            symbol_ends: symbols.slice(4..4 + ends),
            symbol_text: symbols.slice(4 + ends..),
            series: decode_series(&series, labels.len() as u64).ok_or_else(|| bad("series"))?,
            labels,
            terms: BTreeMap::new(),
            postings,
            extents: words.collect(),
            runs: decode_runs(&runs).ok_or_else(|| bad("runs"))?,
            lists: decode_lists(&times).ok_or_else(|| bad("times"))?,
            times,
            path: path.to_owned(),
        };
        index.terms = index.decode_terms(&terms).ok_or_else(|| bad("terms"))?;
        Ok(index)
    }

    fn decode_terms(&self, section: &Bytes) -> Option<BTreeMap<Box<str>, fst::Map<Bytes>>> {
        let mut cursor = Cursor(section);
        let mut directory = Vec::new();
        for _ in 0..cursor.count()? {
            directory.push((cursor.u32()?, usize::try_from(cursor.u64()?).ok()?));
        }
        let mut at = section.len() - cursor.0.len();
        let mut terms = BTreeMap::new();
        for (name, length) in directory {
            let end = at.checked_add(length).filter(|end| *end <= section.len())?;
            terms.insert(self.symbol(name)?.into(), fst::Map::new(section.slice(at..end)).ok()?);
            at = end;
        }
        Some(terms)
    }

    fn symbol(&self, id: u32) -> Option<&str> {
        let end = |id: usize| {
            let bytes = self.symbol_ends.get(id * 4..id * 4 + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let id = id as usize;
        let start = if id == 0 { 0 } else { end(id - 1)? };
        std::str::from_utf8(self.symbol_text.get(start..end(id)?)?).ok()
    }

    /// Returns the number of series.
    pub(crate) fn series_len(&self) -> u32 {
        u32::try_from(self.series.len()).unwrap_or(u32::MAX)
    }

    /// Returns where the series' rows lie.
    pub(crate) fn entry(&self, id: u32) -> Result<SeriesEntry> {
        let entry = self.series.get(id as usize).copied();
        entry.ok_or_else(|| corrupt(&self.path, format!("there is no series {id}")))
    }

    /// Returns the run that holds `row`.
    pub(crate) fn run(&self, row: u64) -> Result<RunEntry> {
        let place = self.runs.partition_point(|run| run.first_row <= row).checked_sub(1);
        let run = place.and_then(|place| self.runs.get(place)).copied();
        run.ok_or_else(|| corrupt(&self.path, format!("no run holds row {row}")))
    }

    /// Returns a list of timestamps, strictly ascending.
    pub(crate) fn times(&self, list: u32) -> Result<Vec<i64>> {
        let bytes = self.lists.get(list as usize).and_then(|list| self.times.get(list.clone()));
        let times = bytes.and_then(decode_times);
        times.ok_or_else(|| corrupt(&self.path, format!("the list of times {list} makes no sense")))
    }

    /// Returns the series' label set.
    pub(crate) fn labels(&self, entry: &SeriesEntry) -> Result<Labels> {
        let decode = || {
            let at = usize::try_from(entry.labels_at).ok()?;
            let mut cursor = Cursor(self.labels.get(at..)?);
            let mut pairs = Vec::new();
            for _ in 0..cursor.count()? {
                pairs.push((self.symbol(cursor.u32()?)?, self.symbol(cursor.u32()?)?));
            }
            pairs.is_sorted_by(|a, b| a.0 < b.0).then(|| Labels::from_sorted(pairs))
        };
        decode().ok_or_else(|| corrupt(&self.path, format!("the labels at {} make no sense", entry.labels_at)))
    }

    fn bitmap(&self, at: u64) -> Result<RoaringBitmap> {
        let decode = || {
            let mut cursor = Cursor(self.postings.get(usize::try_from(at).ok()?..)?);
            let length = usize::try_from(cursor.u64()?).ok()?;
            RoaringBitmap::deserialize_from(cursor.bytes(length)?).ok()
        };
        decode().ok_or_else(|| corrupt(&self.path, format!("the postings at {at} make no sense")))
    }

    /// Returns the bytes that the index keeps in memory.
    pub(crate) fn size_bytes(&self) -> u64 {
        let parts = [&self.symbol_ends, &self.symbol_text, &self.labels, &self.postings];
        parts.iter().map(|part| part.len() as u64).sum::<u64>()
            + self.extents.len() as u64 * 4
            + (self.runs.len() * size_of::<RunEntry>() + self.series.len() * size_of::<SeriesEntry>()) as u64
            + (self.times.len() + self.lists.len() * size_of::<std::ops::Range<usize>>()) as u64
    }
}

fn decode_runs(section: &[u8]) -> Option<Vec<RunEntry>> {
    let mut cursor = Cursor(section);
    let (mut runs, mut first_row) = (Vec::new(), 0_u64);
    while !cursor.is_empty() {
        let rows = cursor.u64()?;
        let times = cursor.u64()?.checked_sub(1).map(u32::try_from).transpose().ok()?;
        let form = match cursor.u8()? {
            RUN_PLAIN => Form::Plain,
            byte => {
                let scale = Some(byte & !RUN_EXCEPTIONS).filter(|scale| *scale <= SCALE_MAX)?;
                let shift = cursor.u8().filter(|shift| *shift < 64)?;
                Form::Decimal { scale, shift, has_exceptions: byte & RUN_EXCEPTIONS != 0 }
            }
        };
        runs.push(RunEntry { first_row, rows, form, times });
        first_row = first_row.checked_add(rows)?;
    }
    Some(runs)
}

fn decode_lists(section: &[u8]) -> Option<Vec<std::ops::Range<usize>>> {
    let mut cursor = Cursor(section);
    let mut lists = Vec::new();
    while !cursor.is_empty() {
        let length = cursor.count()?;
        let start = section.len() - cursor.0.len();
        cursor.bytes(length)?;
        lists.push(start..start + length);
    }
    Some(lists)
}

/// Returns the sections, each with a valid checksum.
fn split(content: &Bytes) -> Result<[Bytes; SECTIONS], String> {
    let header = content.get(..HEADER_BYTES).ok_or("it is shorter than its header")?;
    let (header, crc) = header.split_at(HEADER_BYTES - 4);
    if header[..8] != MAGIC {
        return Err("it does not begin as an index does".to_owned());
    }
    if crc32c::crc32c(header).to_le_bytes() != crc {
        return Err("the checksum of its header is wrong".to_owned());
    }
    let mut cursor = Cursor(&header[8..]);
    let two = cursor.fixed_u64().unwrap_or(0);
    let (version, count) = (two as u32, (two >> 32) as usize);
    if version != VERSION || count != SECTIONS {
        return Err(format!("version {version} with {count} sections, expected {VERSION} with {SECTIONS}"));
    }
    let mut sections = [const { Bytes::new() }; SECTIONS];
    let mut covered = HEADER_BYTES;
    for (number, section) in sections.iter_mut().enumerate() {
        let mut word = || cursor.fixed_u64().and_then(|word| usize::try_from(word).ok()).unwrap_or(usize::MAX);
        let (crc, start, length) = (word(), word(), word());
        let (crc, packing) = (crc as u32, (crc >> 32) as u32);
        let end = start.checked_add(length).filter(|end| *end <= content.len());
        let Some(end) = end else { return Err(format!("section {number} reaches beyond the end")) };
        let stored = content.slice(start..end);
        if crc32c::crc32c(&stored) != crc {
            return Err(format!("the checksum of section {number} is wrong"));
        }
        *section = match packing {
            0 => stored,
            PACKED => unpack(stored).ok_or_else(|| format!("section {number} does not unpack"))?,
            other => return Err(format!("section {number} is packed in the unknown way {other}")),
        };
        covered += length;
    }
    if covered != content.len() {
        return Err(format!("it has {} bytes, its sections {covered}", content.len()));
    }
    debug_assert!(
        [SYMBOLS, LABELS, SERIES, TERMS, POSTINGS, EXTENTS, RUNS, TIMES].is_sorted(),
        "in the order of `sections`"
    );
    Ok(sections)
}

impl Postings for Index {
    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series_len());
        all
    }

    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap> {
        match self.terms.get(name).and_then(|terms| terms.get(value)) {
            Some(at) => self.bitmap(at),
            None => Ok(RoaringBitmap::new()),
        }
    }

    fn accepted(&self, name: &str, accept: &mut dyn FnMut(&str) -> bool) -> Result<RoaringBitmap> {
        use fst::Streamer;
        let mut found = RoaringBitmap::new();
        let Some(terms) = self.terms.get(name) else { return Ok(found) };
        let mut stream = terms.stream();
        while let Some((value, at)) = stream.next() {
            let value = std::str::from_utf8(value).map_err(|error| corrupt(&self.path, error))?;
            if accept(value) {
                found |= self.bitmap(at)?;
            }
        }
        Ok(found)
    }

    fn names(&self) -> Vec<&str> {
        self.terms.keys().map(AsRef::as_ref).collect()
    }

    fn values(&self, name: &str, series: &RoaringBitmap) -> Result<Vec<String>> {
        use fst::Streamer;
        let mut found = Vec::new();
        let Some(terms) = self.terms.get(name) else { return Ok(found) };
        let mut stream = terms.stream();
        while let Some((value, at)) = stream.next() {
            if !self.bitmap(at)?.is_disjoint(series) {
                found.push(std::str::from_utf8(value).map_err(|error| corrupt(&self.path, error))?.to_owned());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use model::{MatchOp, Matcher};

    use super::*;
    use crate::postings::find;

    fn sets() -> Vec<Labels> {
        let mut sets: Vec<Labels> = (0..40)
            .map(|i| {
                let (name, host) = (format!("m{}", i % 4), format!("host-{}", i / 4));
                let path = if i % 3 == 0 { "/" } else { "" };
                Labels::from_pairs([("__name__", name.as_str()), ("host", &host), ("path", path), ("경로", "값")])
            })
            .collect();
        sets.sort();
        sets
    }

    fn content() -> Vec<u8> {
        let mut writer = IndexWriter::default();
        for (i, labels) in sets().iter().enumerate() {
            let i = i as i64;
            writer.push(labels, i as u64 * 10, 10, MillisRange { min_ms: -i, max_ms: i });
        }
        writer.finish(&[1, 2, 3]).unwrap()
    }

    #[test]
    fn series_come_back() {
        let index = Index::decode(Path::new("x"), content().into()).unwrap();
        assert_eq!(index.series_len(), 40);
        assert_eq!(&*index.extents, [1, 2, 3]);
        for (i, labels) in sets().iter().enumerate() {
            let entry = index.entry(i as u32).unwrap();
            assert_eq!(&index.labels(&entry).unwrap(), labels);
            assert_eq!((entry.first_row, entry.min_ms, entry.max_ms), (i as u64 * 10, -(i as i64), i as i64));
        }
        assert!(index.entry(40).is_err());
    }

    #[test]
    fn matchers_find_what_a_walk_over_all_sets_finds() {
        let index = Index::decode(Path::new("x"), content().into()).unwrap();
        let values = [
            ("__name__", "m1"),
            ("host", "host-[12]|host-7"),
            ("host", "host-3|host-4"),
            ("path", "/|"),
            ("path", ".*"),
            ("path", ".+"),
            ("path", "/"),
            ("none", ""),
            ("none", "x"),
            ("host", "host-.*"),
            ("경로", "값"),
        ];
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        let all: Vec<Matcher> =
            values.iter().flat_map(|(name, value)| ops.map(|op| Matcher::new(*name, op, *value).unwrap())).collect();
        for a in &all {
            for b in &all {
                let matchers = [a.clone(), b.clone()];
                let passes = |labels: &Labels| {
                    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
                };
                let expected: Vec<u32> =
                    sets().iter().enumerate().filter(|(_, labels)| passes(labels)).map(|(i, _)| i as u32).collect();
                assert_eq!(find(&index, &matchers).unwrap().iter().collect::<Vec<_>>(), expected, "{a} {b}");
            }
        }
    }

    #[test]
    fn every_flipped_or_missing_byte_is_noticed() {
        let content = content();
        for at in 0..content.len() {
            let mut bytes = content.clone();
            bytes[at] ^= 0x10;
            assert!(Index::decode(Path::new("x"), bytes.into()).is_err(), "byte {at}");
            let cut = content[..at].to_vec();
            assert!(Index::decode(Path::new("x"), cut.into()).is_err(), "cut at {at}");
        }
    }
}
