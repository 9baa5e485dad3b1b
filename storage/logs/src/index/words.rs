//! Words to pages: a tantivy index whose documents are pages.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tantivy::directory::RamDirectory;
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer, TokenizerManager};
use tantivy::{
    DocSet, InvertedIndexReader, SegmentReader, SingleSegmentIndexWriter, TERMINATED, TantivyDocument, Term,
};

use super::PageSet;

/// Memory for the words of a block, which tantivy makes its first table for; words are few.
const WRITER_BYTES: usize = 16 << 20;
/// Pages that wait for the thread at most, so that memory stays bounded.
const WAITING_PAGES_MAX: usize = 2;
/// The field's name.
const FIELD: &str = "words";
/// The name of the tokenizer, which only who writes needs: terms are looked up as they are.
const TOKENIZER: &str = "raw";

/// Cuts a page's words apart again, each ended by a line feed.
#[derive(Debug, Clone, Default)]
struct Lines {
    token: Token,
}

struct LineStream<'a> {
    rest: &'a str,
    token: &'a mut Token,
}

impl Tokenizer for Lines {
    type TokenStream<'a> = LineStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> LineStream<'a> {
        self.token.reset();
        LineStream { rest: text, token: &mut self.token }
    }
}

impl TokenStream for LineStream<'_> {
    fn advance(&mut self) -> bool {
        let Some((word, rest)) = self.rest.split_once('\n') else { return false };
        self.rest = rest;
        self.token.text.clear();
        self.token.text.push_str(word);
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

fn schema() -> (Schema, Field) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::Basic)
        .set_fieldnorms(false);
    let field = schema.add_text_field(FIELD, TextOptions::default().set_indexing_options(indexing));
    (schema.build(), field)
}

enum Work {
    Page(String),
    Finish,
}

/// Writes the index, page by page, on a thread of its own. When it is dropped before [`Self::finish`], the thread ends
/// with it.
pub(super) struct WordsBuilder {
    sender: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<tantivy::Result<()>>>,
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
        let tokenizers = TokenizerManager::new();
        tokenizers.register(TOKENIZER, Lines::default());
        let directory = tantivy::directory::MmapDirectory::open(dir)?;
        let writer = tantivy::Index::builder()
            .schema(schema)
            .settings(settings)
            .tokenizers(tokenizers)
            .single_segment_index_writer(directory, WRITER_BYTES)?;
        let (sender, receiver) = sync_channel(WAITING_PAGES_MAX);
        let thread = std::thread::Builder::new().name("logs-words".to_owned());
        let thread = thread.spawn(move || write(writer, field, &receiver))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// Adds the next page with its words, each once and ended by a line feed. An error may be that of an earlier page.
    pub(super) fn push_page(&mut self, words: String) -> tantivy::Result<()> {
        self.send(Work::Page(words))
    }

    pub(super) fn finish(mut self) -> tantivy::Result<()> {
        self.send(Work::Finish)?;
        self.join()
    }

    fn send(&mut self, work: Work) -> tantivy::Result<()> {
        if self.sender.as_ref().is_some_and(|sender| sender.send(work).is_ok()) {
            return Ok(());
        }
        // The thread only ends early when it failed.
        self.join()?;
        Err(stopped())
    }

    fn join(&mut self) -> tantivy::Result<()> {
        self.sender = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(stopped()),
        }
    }
}

impl Drop for WordsBuilder {
    fn drop(&mut self) {
        // Whoever removes the folder must not race with the thread.
        if self.thread.is_some()
            && let Err(error) = self.join()
        {
            tracing::debug!(%error, "the words of a block that is given up could not be written");
        }
    }
}

/// Runs on the thread; an index that nobody finished stays unfinished.
fn write(mut writer: SingleSegmentIndexWriter, field: Field, work: &Receiver<Work>) -> tantivy::Result<()> {
    while let Ok(work) = work.recv() {
        match work {
            Work::Page(words) => {
                let mut document = TantivyDocument::new();
                document.add_text(field, words);
                writer.add_document(document)?;
            }
            Work::Finish => return writer.finalize().map(drop),
        }
    }
    Ok(())
}

fn stopped() -> tantivy::TantivyError {
    tantivy::TantivyError::InternalError("the thread that writes words stopped".to_owned())
}

/// An open index, all in memory.
pub(crate) struct Words {
    reader: Arc<InvertedIndexReader>,
    field: Field,
    size_bytes: usize,
}

impl Words {
    /// Opens the index from its files, whose checksums were verified.
    pub(crate) fn open(files: &[(String, bytes::Bytes)]) -> tantivy::Result<Self> {
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

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Returns the pages that hold `word`, folded.
    pub(crate) fn pages(&self, word: &str, pages: u32) -> std::io::Result<PageSet> {
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
