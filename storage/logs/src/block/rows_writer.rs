//! Writes `rows.parquet` on a thread of its own: encoding and compressing pages takes about as long as indexing them.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parquet::errors::ParquetError;

use super::page::Page;
use super::rows_file::{RowsFile, Written};

/// Pages that wait for the thread at most, so that memory stays bounded.
const WAITING_PAGES_MAX: usize = 2;

enum Work {
    Page(Box<Page>),
    EndGroup,
    Finish,
}

/// The file and the thread that writes it. When it is dropped before [`Self::finish`], the thread ends with it.
#[derive(Debug)]
pub(super) struct RowsWriter {
    sender: Option<SyncSender<Work>>,
    /// Pages that were written, empty again.
    written: Receiver<Box<Page>>,
    thread: Option<JoinHandle<Result<Option<Written>, ParquetError>>>,
}

impl RowsWriter {
    /// Makes the file, which must not be there; texts are compressed with `zstd_level`.
    pub(super) fn create(path: &Path, zstd_level: i32) -> Result<Self, ParquetError> {
        let rows = RowsFile::create(path, zstd_level)?;
        let (sender, receiver) = sync_channel(WAITING_PAGES_MAX);
        // Room for all pages there are, so that the thread never waits here.
        let (give_back, written) = sync_channel(WAITING_PAGES_MAX + 2);
        let thread = std::thread::Builder::new().name("logs-rows".to_owned());
        let thread = thread.spawn(move || write(rows, &receiver, &give_back))?;
        Ok(Self { sender: Some(sender), written, thread: Some(thread) })
    }

    /// Returns an empty page.
    pub(super) fn page(&self) -> Box<Page> {
        self.written.try_recv().unwrap_or_default()
    }

    /// Adds a page. An error may be that of an earlier page.
    pub(super) fn push_page(&mut self, page: Box<Page>) -> Result<(), ParquetError> {
        self.send(Work::Page(page))
    }

    /// Ends the row group.
    pub(super) fn end_group(&mut self) -> Result<(), ParquetError> {
        self.send(Work::EndGroup)
    }

    /// Writes the rest, fsyncs, and returns (checksums, size, checksum of the whole).
    pub(super) fn finish(mut self) -> Result<Written, ParquetError> {
        self.send(Work::Finish)?;
        self.join()?.ok_or_else(stopped)
    }

    fn send(&mut self, work: Work) -> Result<(), ParquetError> {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(work).is_ok());
        if sent {
            return Ok(());
        }
        // The thread only ends early when it failed.
        self.join()?;
        Err(stopped())
    }

    fn join(&mut self) -> Result<Option<Written>, ParquetError> {
        self.sender = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(stopped()),
        }
    }
}

impl Drop for RowsWriter {
    fn drop(&mut self) {
        // Whoever removes the folder must not race with the thread.
        if self.thread.is_some()
            && let Err(error) = self.join()
        {
            tracing::debug!(%error, "a block that is given up could not be written");
        }
    }
}

/// Runs on the thread; returns nothing when the writer was dropped.
fn write(
    mut rows: RowsFile,
    work: &Receiver<Work>,
    give_back: &SyncSender<Box<Page>>,
) -> Result<Option<Written>, ParquetError> {
    while let Ok(work) = work.recv() {
        match work {
            Work::Page(mut page) => {
                rows.push_page(&page)?;
                page.clear();
                // One too many, or one for nobody, goes.
                drop(give_back.try_send(page));
            }
            Work::EndGroup => rows.end_group()?,
            Work::Finish => return Ok(Some(rows.finish()?)),
        }
    }
    Ok(None)
}

fn stopped() -> ParquetError {
    io::Error::other("the thread that writes rows stopped").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_on_the_thread_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = RowsWriter::create(&dir.path().join("rows"), 1).unwrap();
        // No row group may be without rows of all columns.
        let first = (0..10).find_map(|_| rows.push_page(Box::default()).and_then(|()| rows.end_group()).err());
        assert!(first.is_some_and(|error| !error.to_string().contains("stopped")), "the cause is told");
        assert!(rows.finish().is_err());
    }

    #[test]
    fn a_writer_that_is_dropped_ends_its_thread() {
        let dir = tempfile::tempdir().unwrap();
        let rows = RowsWriter::create(&dir.path().join("rows"), 1).unwrap();
        drop(rows);
        assert!(RowsWriter::create(&dir.path().join("rows"), 1).is_err(), "no file twice");
    }
}
