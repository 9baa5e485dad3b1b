//! Writes a block into an empty folder, row by row, in the order of (stream, timestamp).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::Labels;
use parquet::errors::ParquetError;
use storage_api::{Error, Result};

use super::PAGE_ROWS;
use super::catalog::{CATALOG_FILE, Catalog, PageInfo, StreamInfo};
use super::checked_file::{CHECKSUMS_MAGIC, checksums_of};
use super::counts::{COUNTS_FILE, CountsBuilder};
use super::files::{corrupt, seal, sync_dir, sync_file, write_file};
use super::meta::{BlockMeta, FileMeta, Sequence, VERSION};
use super::page::Page;
use super::rows::{RowView, line_of};
use super::rows_writer::RowsWriter;
use crate::codec::{Malformed, encode_stream};
use crate::index::IndexBuilder;
use crate::json::{self, FieldValue};
use crate::metadata::{HEX_BYTES_MAX, Names, OriginFields, hex_in};

/// The file of rows.
pub(super) const ROWS_FILE: &str = "rows.parquet";
/// Its checksums.
pub(super) const CHECKSUMS_FILE: &str = "rows.crc";
/// The index of ids.
pub(super) const IDS_FILE: &str = "ids.idx";
/// Its checksums.
pub(super) const IDS_CHECKSUMS_FILE: &str = "ids.crc";
/// The index of trigrams.
pub(super) const TRIGRAMS_FILE: &str = "trigrams.idx";
/// Its checksums.
pub(super) const TRIGRAMS_CHECKSUMS_FILE: &str = "trigrams.crc";
/// The folder of the index of words.
pub(super) const WORDS_DIR: &str = "words";

/// Pages in a row group: 128 Ki rows.
const GROUP_PAGES: u32 = 128;
/// A page with more text than this ends early, and its row group with it, so that a page fits into memory however long
/// its lines are.
const PAGE_TEXT_BYTES_MAX: usize = 4 << 20;
/// A row group with more text than this ends.
const GROUP_TEXT_BYTES_MAX: usize = 64 << 20;

/// How a block is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriterOptions {
    pub(crate) sequence: Sequence,
    pub(crate) wal_before: u64,
    pub(crate) level: u32,
    pub(crate) zstd_level: i32,
}

/// A block that is being written.
pub(crate) struct BlockWriter {
    dir: PathBuf,
    options: WriterOptions,
    rows: RowsWriter,
    index: IndexBuilder,
    catalog: Catalog,
    counts: CountsBuilder,
    page: Box<Page>,
    /// Pages and text of the open row group.
    group: u32,
    group_first_row: u32,
    group_pages: u32,
    group_text_bytes: usize,
    line_bytes: u64,
    stream: Option<OpenStream>,
    /// Resource and scope of the last row in this page; their tokens are in already.
    origin: (String, String),
    /// Attributes of the last rows with any of this page and stream; what they hold is noted and indexed.
    attributes: Recent,
    /// Severity texts and event names of the last rows of this page; they are indexed.
    texts: Recent,
    /// Names of attributes of the open stream that are noted, by their place in the last row that had one there.
    shape: Vec<String>,
    origins: HashMap<(String, String), OriginFields>,
    names: Names,
}

/// Texts that came lately.
#[derive(Debug, Default)]
struct Recent {
    texts: [String; 4],
    /// The one that is replaced next.
    oldest: usize,
}

impl Recent {
    /// Says whether a text is none of those, and notes it.
    fn is_new(&mut self, text: &str) -> bool {
        if self.texts.iter().any(|known| known == text) {
            return false;
        }
        if let Some(oldest) = self.texts.get_mut(self.oldest) {
            text.clone_into(oldest);
        }
        self.oldest = (self.oldest + 1) % self.texts.len();
        true
    }

    fn clear(&mut self) {
        self.texts.iter_mut().for_each(String::clear);
    }
}

struct OpenStream {
    info: StreamInfo,
    id: u64,
    text: String,
    /// The fields of the last row's resource and scope are noted already.
    has_origin: bool,
}

impl BlockWriter {
    /// Makes the folder, which must not be there, and its files.
    pub(crate) fn create(dir: &Path, options: WriterOptions) -> Result<Self> {
        let words = dir.join(WORDS_DIR);
        fs::create_dir_all(&words).map_err(|source| Error::io("creating", &words, source))?;
        let path = dir.join(ROWS_FILE);
        let rows = RowsWriter::create(&path, options.zstd_level);
        let rows = rows.map_err(|error| write_error(&path, error))?;
        Ok(Self {
            index: IndexBuilder::create(&words).map_err(|error| write_error(&words, error))?,
            dir: dir.to_owned(),
            options,
            rows,
            catalog: Catalog::default(),
            counts: CountsBuilder::default(),
            page: Box::default(),
            group: 0,
            group_first_row: 0,
            group_pages: 0,
            group_text_bytes: 0,
            line_bytes: 0,
            stream: None,
            origin: Default::default(),
            attributes: Recent::default(),
            texts: Recent::default(),
            shape: Vec::new(),
            origins: HashMap::new(),
            names: Names::default(),
        })
    }

    /// Starts a stream; they come sorted by labels.
    pub(crate) fn start_stream(&mut self, labels: &Labels) {
        self.finish_stream();
        self.attributes.clear();
        self.shape.clear();
        let info = StreamInfo {
            labels: labels.clone(),
            first_row: self.catalog.rows,
            rows: 0,
            min_timestamp: i64::MAX,
            max_timestamp: i64::MIN,
        };
        let id = xxhash_rust::xxh3::xxh3_64(&encode_stream(labels));
        let mut text = String::from("{");
        for (i, (name, value)) in labels.iter().enumerate() {
            text.push_str(if i > 0 { "," } else { "" });
            json::write_text(&mut text, name);
            text.push(':');
            json::write_text(&mut text, value);
        }
        text.push('}');
        self.index_labels(labels);
        self.stream = Some(OpenStream { info, id, text, has_origin: false });
    }

    fn index_labels(&mut self, labels: &Labels) {
        labels.iter().for_each(|(_, value)| self.index.push_field(value));
    }

    fn finish_stream(&mut self) {
        if let Some(stream) = self.stream.take()
            && stream.info.rows > 0
        {
            self.counts.finish_stream();
            self.catalog.streams.push(stream.info);
        }
    }

    /// Adds a row of the open stream; its timestamp is not before that of the last one.
    pub(crate) fn push(&mut self, row: &RowView<'_>) -> Result<()> {
        let malformed = |path: &Path, expected: &str| corrupt(path, format!("expected {expected}"));
        let line = line_of(row.body_type, row.body).map_err(|error| malformed(&self.dir, error.0))?;
        let Some(stream) = &mut self.stream else {
            return Err(Error::Invalid("a row without a stream".to_owned()));
        };
        if self.page.len() == 0 {
            self.catalog.pages.push(PageInfo {
                first_row: self.catalog.rows,
                group: self.group,
                row_in_group: self.catalog.rows - self.group_first_row,
                first_timestamp: row.timestamp,
                token_bytes_max: 0,
            });
        }
        stream.info.min_timestamp = stream.info.min_timestamp.min(row.timestamp);
        stream.info.max_timestamp = stream.info.max_timestamp.max(row.timestamp);
        stream.info.rows += 1;
        self.counts.push(row.timestamp, row.severity_number, row.severity_text, line.len());
        self.line_bytes += line.len() as u64;
        self.page.push(stream.id, &stream.text, row);
        self.index.push_line(&line);
        self.index_fields(row)?;
        self.catalog.rows += 1;
        if self.page.len() >= PAGE_ROWS as usize || self.page.text_bytes() >= PAGE_TEXT_BYTES_MAX {
            self.finish_page()?;
        }
        Ok(())
    }

    /// Indexes what a query may ask for as a field.
    fn index_fields(&mut self, row: &RowView<'_>) -> Result<()> {
        let malformed = |expected: &str| Error::Invalid(format!("typed JSON: expected {expected}"));
        if !row.attributes.is_empty() && self.attributes.is_new(row.attributes) {
            self.index_attributes(row.attributes).map_err(|error| malformed(error.0))?;
        }
        let mut room = [0; HEX_BYTES_MAX];
        for id in [row.trace_id.as_slice(), &row.span_id] {
            if let Some(id) = hex_in(id, &mut room) {
                self.index.push_field(id);
            }
        }
        for text in [row.severity_text, row.event_name] {
            if !text.is_empty() && self.texts.is_new(text) {
                self.index.push_field(text);
            }
        }
        let is_indexed = self.origin.0 == row.resource && self.origin.1 == row.scope;
        let has_origin = self.stream.as_mut().is_some_and(|stream| std::mem::replace(&mut stream.has_origin, true));
        if is_indexed && has_origin {
            return Ok(());
        }
        self.origin = (row.resource.to_owned(), row.scope.to_owned());
        if !self.origins.contains_key(&self.origin) {
            let fields = OriginFields::parse(row.resource, row.scope, &mut self.names);
            self.origins.insert(self.origin.clone(), fields.map_err(|error| malformed(error.0))?);
        }
        if let Some(fields) = self.origins.get(&self.origin) {
            for (name, value) in fields.resource.iter().chain(&fields.scope) {
                self.counts.note_field(name);
                if !is_indexed {
                    self.index.push_field(value);
                }
            }
        }
        Ok(())
    }

    fn index_attributes(&mut self, attributes: &str) -> std::result::Result<(), Malformed> {
        let Self { counts, index, names, shape, .. } = self;
        let mut place = 0;
        let mut leaves = Vec::new();
        json::for_each_pair(attributes, |name, value| match value {
            FieldValue::Str(value) => {
                // A sender's records have the same names in the same order, mostly.
                if shape.get(place).is_none_or(|noted| noted.as_str() != name) {
                    counts.note_field(&names.label(&name));
                    match shape.get_mut(place) {
                        Some(noted) => name.as_ref().clone_into(noted),
                        None => shape.push(name.into_owned()),
                    }
                }
                place += 1;
                index.push_field(&value);
            }
            FieldValue::Other(value) => {
                names.flatten(&mut leaves, "", &name, &value);
                for (name, value) in leaves.drain(..) {
                    counts.note_field(&name);
                    index.push_field(&value);
                }
            }
        })
    }

    fn finish_page(&mut self) -> Result<()> {
        let path = self.dir.join(ROWS_FILE);
        let is_short = self.page.len() < PAGE_ROWS as usize;
        self.group_text_bytes += self.page.text_bytes();
        let empty = self.rows.page();
        self.rows.push_page(std::mem::replace(&mut self.page, empty)).map_err(|error| write_error(&path, error))?;
        self.index.finish_page().map_err(|error| write_error(&self.dir, error))?;
        self.origin = Default::default();
        self.texts.clear();
        self.attributes.clear();
        self.group_pages += 1;
        if is_short || self.group_pages == GROUP_PAGES || self.group_text_bytes >= GROUP_TEXT_BYTES_MAX {
            self.rows.end_group().map_err(|error| write_error(&path, error))?;
            self.group += 1;
            self.group_first_row = self.catalog.rows;
            self.group_pages = 0;
            self.group_text_bytes = 0;
        }
        if let Some(stream) = &self.stream {
            let labels = stream.info.labels.clone();
            self.index_labels(&labels);
        }
        Ok(())
    }

    /// Writes the rest, fsyncs everything, and returns what the block is. The folder still has its temporary name.
    pub(crate) fn finish(mut self) -> Result<BlockMeta> {
        self.finish_stream();
        if self.page.len() > 0 {
            self.finish_page()?;
        }
        let dir = self.dir;
        let mut files = Vec::new();
        let path = dir.join(ROWS_FILE);
        let words = dir.join(WORDS_DIR);
        // While the thread of rows writes its last pages.
        let built = self.index.finish().map_err(|error| write_error(&words, error))?;
        let (checksums, size_bytes, crc32c) = self.rows.finish().map_err(|error| write_error(&path, error))?;
        files.push(FileMeta { name: ROWS_FILE.to_owned(), size_bytes, crc32c });
        for (page, token_bytes_max) in self.catalog.pages.iter_mut().zip(built.tokens_bytes_max) {
            page.token_bytes_max = token_bytes_max;
        }
        let sealing = |source| Error::io("compressing", &dir, source);
        for (name, bytes) in [
            (CHECKSUMS_FILE, seal(CHECKSUMS_MAGIC, &checksums).map_err(sealing)?),
            (CATALOG_FILE, self.catalog.encode().map_err(sealing)?),
            (COUNTS_FILE, self.counts.encode().map_err(sealing)?),
            (IDS_CHECKSUMS_FILE, seal(CHECKSUMS_MAGIC, &checksums_of(&built.ids)).map_err(sealing)?),
            (TRIGRAMS_CHECKSUMS_FILE, seal(CHECKSUMS_MAGIC, &checksums_of(&built.trigrams)).map_err(sealing)?),
            (IDS_FILE, built.ids),
            (TRIGRAMS_FILE, built.trigrams),
        ] {
            write_file(&dir.join(name), &bytes)?;
            files.push(file_meta(name, &bytes));
        }
        for name in list(&words)? {
            let path = words.join(&name);
            sync_file(&path)?;
            let bytes = fs::read(&path).map_err(|source| Error::io("reading", &path, source))?;
            files.push(file_meta(&format!("{WORDS_DIR}/{name}"), &bytes));
        }
        sync_dir(&words)?;
        let streams = &self.catalog.streams;
        let meta = BlockMeta {
            version: VERSION,
            sequence: self.options.sequence,
            wal_before: self.options.wal_before,
            rows: u64::from(self.catalog.rows),
            streams: streams.len() as u64,
            pages: self.catalog.pages.len() as u64,
            line_bytes: self.line_bytes,
            min_timestamp: streams.iter().map(|stream| stream.min_timestamp).min().unwrap_or(0),
            max_timestamp: streams.iter().map(|stream| stream.max_timestamp).max().unwrap_or(0),
            level: self.options.level,
            zstd_level: self.options.zstd_level,
            files,
        };
        meta.write(&dir)?;
        sync_dir(&dir)?;
        Ok(meta)
    }
}

fn file_meta(name: &str, bytes: &[u8]) -> FileMeta {
    FileMeta { name: name.to_owned(), size_bytes: bytes.len() as u64, crc32c: crc32c::crc32c(bytes) }
}

/// Returns the names of the files in a folder, sorted.
fn list(dir: &Path) -> Result<Vec<String>> {
    let listing = |source| Error::io("listing", dir, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(listing)? {
        let name = entry.map_err(listing)?.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.ends_with(".lock")) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Turns an error of a library into ours, and tells a full disk apart, however deep the system's word lies.
fn write_error(path: &Path, error: impl std::error::Error + 'static) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        let external = match current.downcast_ref::<ParquetError>() {
            Some(ParquetError::External(inner)) => inner.downcast_ref::<io::Error>(),
            _ => None,
        };
        let shared = current.downcast_ref::<std::sync::Arc<io::Error>>().map(AsRef::as_ref);
        if let Some(found) = external.or(shared).or_else(|| current.downcast_ref::<io::Error>()) {
            let copy = match found.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(found.kind(), found.to_string()),
            };
            return Error::io("writing", path, copy);
        }
        cause = current.source();
    }
    Error::io("writing", path, io::Error::other(error.to_string()))
}
