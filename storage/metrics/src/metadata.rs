//! Kind, help and unit of metrics: in memory, covered by the WAL, and in one small file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use model::MetricMetadata;
use storage_api::{Error, Result};

use crate::block::file::write_new_file;
use crate::record::{self, Record};

/// The file's name beside the blocks.
pub(crate) const FILE: &str = "metadata";
/// The file's first bytes: magic and version.
const MAGIC: [u8; 8] = *b"DAYBKMD\x01";

/// What is known of each metric.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    by_name: BTreeMap<String, MetricMetadata>,
    /// There is something that the file does not have.
    is_dirty: bool,
}

impl Metadata {
    /// Takes `one` in; says whether it was news.
    pub(crate) fn set(&mut self, one: MetricMetadata) -> bool {
        if self.by_name.get(&one.name) == Some(&one) {
            return false;
        }
        self.by_name.insert(one.name.clone(), one);
        self.is_dirty = true;
        true
    }

    pub(crate) fn is_known(&self, one: &MetricMetadata) -> bool {
        self.by_name.get(&one.name) == Some(one)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn get(&self, name: Option<&str>) -> Vec<MetricMetadata> {
        match name {
            Some(name) => self.by_name.get(name).cloned().into_iter().collect(),
            None => self.by_name.values().cloned().collect(),
        }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Returns the file's content and takes the metadata as written.
    pub(crate) fn take_for_file(&mut self) -> Vec<u8> {
        self.is_dirty = false;
        let body = record::encode_metadata(self.by_name.values());
        let mut content = MAGIC.to_vec();
        content.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        content.extend_from_slice(&body);
        content
    }

    /// Notes that the file could not be written after all.
    pub(crate) fn set_dirty(&mut self) {
        self.is_dirty = true;
    }

    /// Reads the file in `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::io("reading", &path, source)),
        };
        let Some(metadata) = decode(&content) else {
            return Err(crate::error::corrupt(&path, "its checksum or content is wrong"));
        };
        let by_name = metadata.into_iter().map(|one| (one.name.clone(), one)).collect();
        Ok(Self { by_name, is_dirty: false })
    }
}

fn decode(content: &[u8]) -> Option<Vec<MetricMetadata>> {
    let rest = content.strip_prefix(&MAGIC)?;
    let (crc, body) = rest.split_first_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (kind, body) = record::unpack(body)?;
    match record::decode(kind, &body)? {
        Record::Metadata(metadata) => Some(metadata),
        Record::Samples(_) => None,
    }
}

/// Replaces the file in `dir`.
pub(crate) fn store(dir: &Path, content: &[u8], faults: &storage_wal::Faults) -> Result<()> {
    let temporary = dir.join(format!("{}{FILE}", crate::block::TEMPORARY_PREFIX));
    write_new_file(&temporary, content, faults)?;
    let path = dir.join(FILE);
    fs::rename(&temporary, &path).map_err(|source| Error::io("renaming", &path, source))?;
    crate::block::file::sync_dir(dir)
}
