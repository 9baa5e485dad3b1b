//! Writes `rows.parquet` on a thread of its own: encoding and compressing pages takes about as long as indexing them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::checked_file::CheckedWriter;
use super::rows::SCHEMA;

/// Pages that wait for the thread at most, so that memory stays bounded.
const WAITING_PAGES_MAX: usize = 2;

type Rows = ArrowWriter<CheckedWriter>;
type Written = (Vec<u8>, u64, u32);

enum Work {
    Page(RecordBatch),
    EndGroup,
    Finish,
}

/// The file and the thread that writes it. When it is dropped before [`Self::finish`], the thread ends with it.
#[derive(Debug)]
pub(super) struct RowsWriter {
    sender: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<Result<Option<Written>, ParquetError>>>,
}

impl RowsWriter {
    /// Makes the file, which must not be there.
    pub(super) fn create(path: &Path, properties: WriterProperties) -> Result<Self, ParquetError> {
        let rows = ArrowWriter::try_new(CheckedWriter::create(path)?, Arc::clone(&SCHEMA), Some(properties))?;
        let (sender, receiver) = sync_channel(WAITING_PAGES_MAX);
        let thread = std::thread::Builder::new().name("logs-rows".to_owned()).spawn(move || write(rows, &receiver))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// Adds a page. An error may be that of an earlier page.
    pub(super) fn push_page(&mut self, page: RecordBatch) -> Result<(), ParquetError> {
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
fn write(mut rows: Rows, work: &Receiver<Work>) -> Result<Option<Written>, ParquetError> {
    while let Ok(work) = work.recv() {
        match work {
            Work::Page(page) => rows.write(&page)?,
            Work::EndGroup => rows.flush()?,
            Work::Finish => return Ok(Some(rows.into_inner()?.finish()?)),
        }
    }
    Ok(None)
}

fn stopped() -> ParquetError {
    io::Error::other("the thread that writes rows stopped").into()
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn a_failure_on_the_thread_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut rows = RowsWriter::create(&path, WriterProperties::default()).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("other", DataType::Int32, false)]));
        let wrong = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![1]))]).unwrap();
        let first = (0..10).find_map(|_| rows.push_page(wrong.clone()).err());
        assert!(first.is_some_and(|error| !error.to_string().contains("stopped")), "the cause is told");
        assert!(rows.finish().is_err());
    }

    #[test]
    fn a_writer_that_is_dropped_ends_its_thread() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = RowsWriter::create(&dir.path().join("rows"), WriterProperties::default()).unwrap();
        rows.end_group().unwrap();
        drop(rows);
        assert!(RowsWriter::create(&dir.path().join("rows"), WriterProperties::default()).is_err(), "no file twice");
    }
}
