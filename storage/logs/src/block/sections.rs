//! Loads the indexes of a block, each by itself, when a query asks for it or before any does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use storage_api::{Needle, Result};

use super::cache::Kind;
use super::checked_file::{CHECKSUMS_MAGIC, CheckedFile};
use super::counts::COUNTS_FILE;
use super::files::{corrupt, unseal};
use super::meta::FileMeta;
use super::reader::{Block, read_error, read_file};
use super::writer::{IDS_CHECKSUMS_FILE, IDS_FILE, TRIGRAMS_CHECKSUMS_FILE, TRIGRAMS_FILE, WORDS_DIR};
use crate::index::{Ids, PageSet, Place, ReadAt, Sections, Trigrams, Unusable, Words, pages_of};
use crate::telemetry::Damage;

/// What [`Block::warm`] loads, the most useful for its size first.
const WARM: [Kind; 5] = [Kind::Footer, Kind::Counts, Kind::Words, Kind::Trigrams, Kind::Ids];

/// How much larger the counts are in memory than in their file, about.
const COUNTS_GROWTH: u64 = 8;

impl Block {
    /// Returns the pages that may hold rows which fulfil all `needles`; `None` when there is no index to ask.
    pub(crate) fn candidates(&self, needles: &[Needle]) -> Option<PageSet> {
        if needles.is_empty() || self.index_is_lost.load(Ordering::Relaxed) {
            return None;
        }
        match pages_of(self, needles) {
            Ok(pages) => Some(pages),
            Err(unusable) => {
                self.index_is_lost.store(true, Ordering::Relaxed);
                let error = self.unusable(unusable);
                self.note_damage(Damage::Index, &error);
                None
            }
        }
    }

    /// Says whether the index can be read.
    ///
    /// # Errors
    /// [`Error::Corrupt`](storage_api::Error::Corrupt) and [`Error::Io`](storage_api::Error::Io).
    pub(crate) fn check_index(&self) -> Result<()> {
        self.load_words()?;
        self.load_ids()?;
        self.load_trigrams().map(drop)
    }

    /// Loads what queries will ask for, as far as there is room for it without pushing anything out. Damage shows when a
    /// query needs what is damaged.
    pub(crate) fn warm(&self) {
        for kind in WARM {
            if self.cache().has(self.dir(), kind) || !self.cache().has_room(self.kept_bytes(kind)) {
                continue;
            }
            let loaded = match kind {
                Kind::Footer => self.footer().map(drop),
                Kind::Counts => self.counts().map(drop),
                Kind::Words => self.load_words().map(drop),
                Kind::Trigrams => self.load_trigrams().map(drop),
                Kind::Ids => self.load_ids().map(drop),
                Kind::TrigramsInParts | Kind::IdsInParts => Ok(()),
            };
            if let Err(error) = loaded {
                tracing::debug!(%error, ?kind, "a part of a block could not be loaded before a query asks for it");
            }
        }
        self.is_warm.store(true, Ordering::Relaxed);
    }

    /// Says whether the block was [warmed](Self::warm).
    pub(crate) fn is_warm(&self) -> bool {
        self.is_warm.load(Ordering::Relaxed)
    }

    /// Returns what something takes in memory, about.
    fn kept_bytes(&self, kind: Kind) -> u64 {
        let size = |name: &str| self.meta().file(name).map_or(0, |file| file.size_bytes);
        match kind {
            // Where each page of each column lies.
            Kind::Footer => self.meta().pages.saturating_mul(16 * 32),
            Kind::Counts => size(COUNTS_FILE).saturating_mul(COUNTS_GROWTH),
            Kind::Words => self.words_files().map(|(_, file)| file.size_bytes).sum(),
            Kind::Trigrams => size(TRIGRAMS_FILE),
            Kind::Ids => size(IDS_FILE),
            // Loaded only when there is no room for more.
            Kind::TrigramsInParts | Kind::IdsInParts => u64::MAX,
        }
    }

    /// Returns the files of the index of words by their names in its folder.
    fn words_files(&self) -> impl Iterator<Item = (&str, &FileMeta)> {
        let name = |file: &'_ FileMeta| file.name.strip_prefix(WORDS_DIR).is_some_and(|rest| rest.starts_with('/'));
        let files = self.meta().files.iter().filter(move |file| name(file));
        files.map(|file| (file.name.get(WORDS_DIR.len() + 1..).unwrap_or_default(), file))
    }

    fn read_section(&self, name: &str) -> Result<Bytes> {
        read_file(self.dir(), self.meta(), name).map(Bytes::from)
    }

    /// Returns an index that is read in parts: when it is not in memory and has no room there. A look-up reads some KB of it,
    /// so that a store with more blocks than fit needs not load each again for every query.
    fn in_parts(&self, name: &str, checksums: &str, kind: Kind) -> Result<Option<Place>> {
        let (Some(file), Some(_)) = (self.meta().file(name), self.meta().file(checksums)) else { return Ok(None) };
        if self.cache().has(self.dir(), kind) || self.cache().has_room(file.size_bytes) {
            return Ok(None);
        }
        let path = self.dir().join(checksums);
        let checksums = unseal(CHECKSUMS_MAGIC, &path, &self.read_section(checksums)?)?;
        let file_path = self.dir().join(name);
        let opened = CheckedFile::unopened(&file_path, file.size_bytes, checksums);
        let opened = opened.map_err(|source| read_error(&file_path, source))?;
        Ok(Some(Place::File(Box::new(opened), file.size_bytes)))
    }

    fn load_ids(&self) -> Result<Arc<Ids>> {
        let open = |place| {
            let ids = Ids::open(place).map_err(|unusable| self.unusable(unusable))?;
            let size_bytes = ids.size_bytes();
            Ok((ids, size_bytes))
        };
        if let Some(known) = self.cache().get((self.dir(), Kind::IdsInParts)) {
            return Ok(known);
        }
        if let Some(place) = self.in_parts(IDS_FILE, IDS_CHECKSUMS_FILE, Kind::Ids)? {
            return self.cache().get_or_load((self.dir(), Kind::IdsInParts), || open(place));
        }
        self.cache().get_or_load((self.dir(), Kind::Ids), || open(self.read_section(IDS_FILE)?.into()))
    }

    fn load_trigrams(&self) -> Result<Arc<Trigrams>> {
        let open = |place| {
            let trigrams = Trigrams::open(place, Sections::pages(self)).map_err(|unusable| self.unusable(unusable))?;
            let size_bytes = trigrams.size_bytes();
            Ok((trigrams, size_bytes))
        };
        if let Some(known) = self.cache().get((self.dir(), Kind::TrigramsInParts)) {
            return Ok(known);
        }
        if let Some(place) = self.in_parts(TRIGRAMS_FILE, TRIGRAMS_CHECKSUMS_FILE, Kind::Trigrams)? {
            return self.cache().get_or_load((self.dir(), Kind::TrigramsInParts), || open(place));
        }
        self.cache().get_or_load((self.dir(), Kind::Trigrams), || open(self.read_section(TRIGRAMS_FILE)?.into()))
    }

    fn unusable(&self, unusable: Unusable) -> storage_api::Error {
        unusable.cause.unwrap_or_else(|| corrupt(self.dir(), format!("its index: {}", unusable.reason)))
    }

    fn load_words(&self) -> Result<Arc<Words>> {
        self.cache().get_or_load((self.dir(), Kind::Words), || {
            let files = self.words_files().map(|(name, file)| Ok((name.to_owned(), self.read_section(&file.name)?)));
            let words = Words::open(&files.collect::<Result<Vec<_>>>()?);
            let words = words.map_err(|error| corrupt(self.dir(), error.to_string()))?;
            let size_bytes = words.size_bytes();
            Ok((words, size_bytes))
        })
    }
}

impl ReadAt for CheckedFile {
    fn read_at(&self, start: u64, length: usize) -> Result<Bytes> {
        self.read_range(start, length).map_err(|source| read_error(self.path(), source))
    }
}

impl Sections for Block {
    fn pages(&self) -> u32 {
        u32::try_from(self.catalog().pages.len()).unwrap_or(u32::MAX)
    }

    fn token_bytes_max(&self, page: u32) -> u32 {
        self.catalog().pages.get(page as usize).map_or(0, |page| page.token_bytes_max)
    }

    fn ids(&self) -> Result<Arc<Ids>, Unusable> {
        self.load_ids().map_err(Unusable::from)
    }

    fn trigrams(&self) -> Result<Arc<Trigrams>, Unusable> {
        self.load_trigrams().map_err(Unusable::from)
    }

    fn words(&self) -> Result<Arc<Words>, Unusable> {
        self.load_words().map_err(Unusable::from)
    }

    fn are_words_at_hand(&self) -> bool {
        self.cache().has(self.dir(), Kind::Words) || self.cache().has_room(self.kept_bytes(Kind::Words))
    }
}
