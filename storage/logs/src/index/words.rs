//! Words to pages: a tantivy index whose documents are pages.

use std::path::Path;
use std::sync::Arc;

use tantivy::directory::RamDirectory;
use tantivy::schema::{Field, IndexRecordOption, OwnedValue, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{
    DocSet, InvertedIndexReader, SegmentReader, SingleSegmentIndexWriter, TERMINATED, TantivyDocument, Term,
};

use super::PageSet;

/// Memory for the words of a block before tantivy would give up; words are few.
const WRITER_BYTES: usize = 64 << 20;
/// The field's name.
const FIELD: &str = "words";

fn schema() -> (Schema, Field) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_index_option(IndexRecordOption::Basic)
        .set_fieldnorms(false);
    let field = schema.add_text_field(FIELD, TextOptions::default().set_indexing_options(indexing));
    (schema.build(), field)
}

/// Writes the index, page by page.
pub(super) struct WordsBuilder {
    writer: SingleSegmentIndexWriter,
    field: Field,
}

impl WordsBuilder {
    /// Makes an empty index in the empty directory `dir`.
    pub(super) fn create(dir: &Path) -> tantivy::Result<Self> {
        let (schema, field) = schema();
        let settings = tantivy::IndexSettings {
            docstore_compression: tantivy::store::Compressor::None,
            docstore_compress_dedicated_thread: false,
            ..tantivy::IndexSettings::default()
        };
        let directory = tantivy::directory::MmapDirectory::open(dir)?;
        let writer = tantivy::Index::builder()
            .schema(schema)
            .settings(settings)
            .single_segment_index_writer(directory, WRITER_BYTES)?;
        Ok(Self { writer, field })
    }

    /// Adds the next page with its words, each once.
    pub(super) fn push_page(&mut self, words: Vec<String>) -> tantivy::Result<()> {
        let tokens = words.into_iter().enumerate().map(|(position, text)| Token {
            offset_from: 0,
            offset_to: 0,
            position,
            text,
            position_length: 1,
        });
        let text = PreTokenizedString { text: String::new(), tokens: tokens.collect() };
        let mut document = TantivyDocument::new();
        document.add_field_value(self.field, &OwnedValue::PreTokStr(text));
        self.writer.add_document(document)
    }

    pub(super) fn finish(self) -> tantivy::Result<()> {
        self.writer.finalize().map(drop)
    }
}

/// An open index, all in memory.
pub(super) struct Words {
    reader: Arc<InvertedIndexReader>,
    field: Field,
    size_bytes: usize,
}

impl Words {
    /// Opens the index from its files, whose checksums were verified.
    pub(super) fn open(files: &[(String, bytes::Bytes)]) -> tantivy::Result<Self> {
        let directory = RamDirectory::create();
        for (name, bytes) in files {
            tantivy::Directory::atomic_write(&directory, Path::new(name), bytes)?;
        }
        let index = tantivy::Index::open(directory)?;
        let field = index.schema().get_field(FIELD)?;
        let segments = index.searchable_segments()?;
        let [segment] = segments.as_slice() else {
            return Err(tantivy::TantivyError::InternalError("a block has one index segment".to_owned()));
        };
        let reader = SegmentReader::open(segment)?.inverted_index(field)?;
        Ok(Self { reader, field, size_bytes: files.iter().map(|(_, bytes)| bytes.len()).sum() })
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Returns the pages that hold `word`, folded.
    pub(super) fn pages(&self, word: &str, pages: u32) -> std::io::Result<PageSet> {
        let mut found = PageSet::none(pages);
        let term = Term::from_field_text(self.field, word);
        if let Some(mut postings) = self.reader.read_postings(&term, IndexRecordOption::Basic)? {
            let mut page = postings.doc();
            while page != TERMINATED {
                found.insert(page);
                page = postings.advance();
            }
        }
        Ok(found)
    }
}
