//! One followed file: reads lines from where it stopped, and turns them into log records.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use runtime::{Ledger, Signal};

use super::frame::{plain, unframe};
use super::mark;
use super::origin::{Origin, origin};
use super::shape::shape;
use crate::checkpoint::{FileMark, Piece};
use crate::config::{FileConfig, Format};
use crate::otlp::{LogBatch, Pairs, attribute, bool_attribute, text};
use crate::stats::Stats;

/// The name of this input in metrics.
pub(super) const INPUT: &str = "file";
/// The ledger's place.
pub(super) const PLACE: &str = "agent_file";
/// Bytes of one ordinary read.
const READ_BYTES: usize = 64 << 10;
/// Bytes that one file may read before the others have their turn.
const TURN_BYTES: u64 = 1 << 20;
/// Most bytes of unfinished lines that container runtimes wrote in pieces, over all files.
const PIECES_BYTES_MAX: usize = 6 << 20;

/// What all files share while they are read.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: FileConfig,
    pub(super) ledger: Ledger,
    pub(super) stats: Stats,
    /// Nanoseconds since the epoch, at the start of the round.
    pub(super) now: i64,
    pub(super) batch: LogBatch,
    pub(super) batch_bytes: usize,
    buffer: Vec<u8>,
    /// Bytes held in pieces, over all files.
    pub(super) pieces_bytes: usize,
    /// A file was found truncated: look for the copy before more is stored.
    pub(super) truncation_seen: bool,
    /// Attributes of the host, and of the settings.
    pairs: (Pairs, Pairs),
}

impl Shared {
    pub(super) fn new(
        config: FileConfig,
        batch_bytes: usize,
        ledger: Ledger,
        stats: Stats,
        pairs: (Pairs, Pairs),
    ) -> Self {
        let buffer = vec![0; READ_BYTES.max(config.line_bytes_max + 2)];
        Self {
            config,
            ledger,
            stats,
            now: 0,
            batch: LogBatch::default(),
            batch_bytes,
            buffer,
            pieces_bytes: 0,
            truncation_seen: false,
            pairs,
        }
    }

    fn full(&self) -> bool {
        self.batch.bytes >= self.batch_bytes
    }
}

/// How a file's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Everything was read; an unfinished line may be waited for.
    AtEnd,
    /// There is more to read.
    More,
    /// The batch is full.
    BatchFull,
}

/// A followed file.
#[derive(Debug)]
pub(super) struct Tailed {
    pub(super) mark: FileMark,
    /// Known while it is open: a hundred thousand of them would be much memory.
    origin: Option<Arc<Origin>>,
    /// Open while it is read or may be; closed after a while without change.
    pub(super) file: Option<File>,
    /// Its size when last looked at.
    pub(super) size: u64,
    pub(super) modified: (i64, i64),
    /// When it last changed, for closing.
    pub(super) changed: Instant,
    /// Since when no path that matches leads to it.
    pub(super) gone: Option<Instant>,
    /// What it was before it was truncated, to know a copy by.
    pub(super) before_truncation: Option<FileMark>,
    /// Bytes of an unfinished last line, and since when it has been so long.
    unfinished: Option<(u64, Instant)>,
    at_end: bool,
    /// Whether lines had a container runtime's frame so far.
    framed: bool,
}

impl Tailed {
    pub(super) fn new(mark: FileMark) -> Self {
        Self {
            mark,
            origin: None,
            file: None,
            size: 0,
            modified: (0, 0),
            changed: Instant::now(),
            gone: None,
            before_truncation: None,
            unfinished: None,
            at_end: false,
            framed: false,
        }
    }

    pub(super) fn key(&self) -> (u64, u64) {
        (self.mark.dev, self.mark.ino)
    }

    /// Says whether all was read and nothing is waited for.
    pub(super) fn settled(&self) -> bool {
        self.at_end && self.unfinished.is_none() && self.mark.pieces.is_empty()
    }

    /// Says whether there may be something to read.
    pub(super) fn wants_to_read(&self) -> bool {
        !self.at_end || self.unfinished.is_some() || self.size != self.mark.offset
    }

    /// Takes over what a look at the path found; says whether it is something new.
    pub(super) fn noticed(&mut self, size: u64, modified: (i64, i64)) -> bool {
        if (size, modified) == (self.size, self.modified) {
            return false;
        }
        (self.size, self.modified) = (size, modified);
        self.changed = Instant::now();
        self.at_end = false;
        true
    }

    /// Takes over what a look at the path of a closed file found; an open one is looked at itself.
    pub(super) fn noticed_from_outside(&mut self, size: u64, modified: (i64, i64)) {
        if self.file.is_none() {
            self.noticed(size, modified);
        }
    }

    /// Opens the file at its path, unless another one is there now.
    pub(super) fn open(&mut self, shared: &Shared) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = open(&self.mark.path)?;
        let meta = file.metadata()?;
        if (meta.dev(), meta.ino()) != self.key() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.file = Some(file);
        self.origin = Some(self.describe(shared));
        self.noticed(meta.len(), (meta.mtime(), meta.mtime_nsec()));
        Ok(())
    }

    fn describe(&self, shared: &Shared) -> Arc<Origin> {
        let known = self.origin.as_ref().map(Arc::clone);
        known.unwrap_or_else(|| Arc::new(origin(&self.mark.path, &shared.pairs.0, &shared.pairs.1)))
    }

    /// Closes the file; says whether it was open.
    pub(super) fn close(&mut self) -> bool {
        self.origin = None;
        self.file.take().is_some()
    }

    /// Looks at the open file's size, and begins anew when it was truncated.
    fn look(&mut self, shared: &mut Shared) -> io::Result<()> {
        let Some(meta) = self.file.as_ref().map(File::metadata).transpose()? else { return Ok(()) };
        let seen = self.size;
        let changed = self.noticed(meta.len(), (meta.mtime(), meta.mtime_nsec()));
        if !changed && self.at_end {
            return Ok(());
        }
        let Some(file) = &self.file else { return Ok(()) };
        if meta.len() < self.mark.offset || !mark::matches(&self.mark, file)? {
            self.truncated(seen, shared);
        }
        Ok(())
    }

    fn truncated(&mut self, seen: u64, shared: &mut Shared) {
        let unread = seen.saturating_sub(self.mark.offset);
        shared.stats.file_rotations.with(&["truncate"]).inc();
        if unread > 0 {
            shared.stats.file_unread_bytes.with(&["truncated"]).inc_by(unread);
            tracing::warn!(path = %self.mark.path.display(), bytes = unread, "a file was truncated before all of it was read");
        }
        self.finish_pieces(shared);
        self.before_truncation = Some(self.mark.clone());
        self.mark.offset = 0;
        (self.mark.head_len, self.mark.tail_len) = (0, 0);
        self.mark.skipping = false;
        self.unfinished = None;
        self.at_end = false;
        shared.truncation_seen = true;
    }

    /// Reads until the end, the batch is full or others should have their turn.
    pub(super) fn turn(&mut self, shared: &mut Shared) -> io::Result<Turn> {
        self.look(shared)?;
        if shared.truncation_seen {
            return Ok(Turn::More);
        }
        if self.at_end && self.unfinished.is_none() {
            return Ok(Turn::AtEnd);
        }
        let Some(file) = self.file.take() else { return Ok(Turn::AtEnd) };
        let began = self.mark.offset;
        let mut buffer = std::mem::take(&mut shared.buffer);
        let turn = self.read(&file, &mut buffer, shared);
        shared.buffer = buffer;
        if self.mark.offset != began {
            mark::refresh(&mut self.mark, &file)?;
        }
        self.file = Some(file);
        turn
    }

    fn read(&mut self, file: &File, buffer: &mut [u8], shared: &mut Shared) -> io::Result<Turn> {
        let limit = shared.config.line_bytes_max;
        let mut want = READ_BYTES.min(buffer.len());
        let until = self.mark.offset + TURN_BYTES.max(limit as u64);
        loop {
            if shared.full() {
                return Ok(Turn::BatchFull);
            }
            if self.mark.offset >= until {
                return Ok(Turn::More);
            }
            let room = buffer.get_mut(..want).unwrap_or_default();
            let length = read_at(file, room, self.mark.offset)?;
            let data = buffer.get(..length).unwrap_or_default();
            if length == 0 {
                self.at_end = true;
                self.unfinished = None;
                return Ok(Turn::AtEnd);
            }
            let taken = self.take_lines(data, shared);
            shared.stats.file_bytes.inc_by(taken as u64);
            self.mark.offset += taken as u64;
            if taken > 0 {
                self.unfinished = None;
                want = READ_BYTES.min(buffer.len());
                continue;
            }
            // No line ends in what was read.
            if length > limit {
                self.overlong(data, shared);
            } else if length == want {
                want = buffer.len();
            } else {
                return Ok(self.wait_for_the_rest(data, shared));
            }
        }
    }

    /// Makes records of the complete lines in `data`; returns how many bytes they and what is skipped take.
    fn take_lines(&mut self, data: &[u8], shared: &mut Shared) -> usize {
        let mut start = 0;
        if self.mark.skipping {
            match memchr::memchr(b'\n', data) {
                Some(end) => {
                    self.mark.skipping = false;
                    start = end + 1;
                }
                None => start = data.len(),
            }
            shared.stats.truncated_bytes.with(&[INPUT]).inc_by(start as u64);
        }
        while !shared.full()
            && let Some(rest) = data.get(start..)
            && let Some(length) = memchr::memchr(b'\n', rest)
        {
            self.line(rest.get(..length).unwrap_or_default(), shared);
            start += length + 1;
        }
        start
    }

    /// Keeps the beginning of a line over the limit and skips the rest.
    fn overlong(&mut self, data: &[u8], shared: &mut Shared) {
        let kept = utf8_floor(data, shared.config.line_bytes_max);
        self.mark.offset += kept as u64;
        self.mark.skipping = true;
        self.unfinished = None;
        shared.stats.file_bytes.inc_by(kept as u64);
        shared.stats.truncated_lines.with(&[INPUT]).inc();
        self.emit(plain(data.get(..kept).unwrap_or_default()).text.as_ref(), "", None, true, shared);
    }

    /// Takes a last line without newline when it did not grow for a while.
    fn wait_for_the_rest(&mut self, data: &[u8], shared: &mut Shared) -> Turn {
        self.at_end = true;
        let length = data.len() as u64;
        let since = match self.unfinished {
            Some((known, since)) if known == length => since,
            _ => Instant::now(),
        };
        if since.elapsed() < shared.config.flush_timeout {
            self.unfinished = Some((length, since));
            return Turn::AtEnd;
        }
        self.unfinished = None;
        self.mark.offset += length;
        shared.stats.file_bytes.inc_by(length);
        self.line(data, shared);
        Turn::AtEnd
    }

    fn line(&mut self, line: &[u8], shared: &mut Shared) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            shared.ledger.received(PLACE, Signal::Logs, 1);
            shared.ledger.dropped(PLACE, Signal::Logs, "empty", 1);
            return;
        }
        let limit = shared.config.line_bytes_max;
        let (line, cut) = match line.len() > limit {
            true => line.split_at(utf8_floor(line, limit)),
            false => (line, [].as_slice()),
        };
        if !cut.is_empty() {
            shared.stats.truncated_lines.with(&[INPUT]).inc();
            shared.stats.truncated_bytes.with(&[INPUT]).inc_by(cut.len() as u64);
        }
        let format = match shared.config.format {
            Format::Auto => self.origin.as_ref().map_or(Format::Auto, |origin| origin.format),
            given => given,
        };
        let framed = unframe(line, format).unwrap_or_else(|| {
            shared.stats.unparsed_lines.with(&[format_name(format)]).inc();
            plain(line)
        });
        if format == Format::Auto {
            if framed.format != Format::Plain {
                self.framed = true;
            } else if self.framed {
                shared.stats.unparsed_lines.with(&["auto"]).inc();
            }
        }
        let has_piece = self.mark.pieces.iter().any(|piece| piece.stream == framed.stream);
        if framed.goes_on || has_piece {
            self.piece(&framed, shared);
        } else {
            self.emit(&framed.text, &framed.stream, framed.time, !cut.is_empty(), shared);
        }
    }

    /// Joins a line that a container runtime wrote in pieces.
    fn piece(&mut self, framed: &super::frame::Framed<'_>, shared: &mut Shared) {
        let at = match self.mark.pieces.iter().position(|piece| piece.stream == framed.stream) {
            Some(at) => at,
            None => {
                let stream = framed.stream.clone().into_owned();
                self.mark.pieces.push(Piece { stream, time: framed.time.unwrap_or(0), ..Piece::default() });
                self.mark.pieces.len() - 1
            }
        };
        let Some(piece) = self.mark.pieces.get_mut(at) else { return };
        let limit = shared.config.line_bytes_max.saturating_sub(piece.text.len());
        let room = limit.min(PIECES_BYTES_MAX.saturating_sub(shared.pieces_bytes));
        let kept = if piece.truncated { 0 } else { utf8_floor(&framed.text, room) };
        // Runtimes cut at any byte; half a character at a seam is replaced and counted like any other.
        let before = piece.text.len();
        let part = String::from_utf8_lossy(framed.text.get(..kept).unwrap_or_default());
        if matches!(part, std::borrow::Cow::Owned(_)) {
            shared.stats.replaced_lines.with(&[INPUT]).inc();
        }
        piece.text.push_str(&part);
        shared.pieces_bytes += piece.text.len() - before;
        if kept < framed.text.len() {
            shared.stats.truncated_bytes.with(&[INPUT]).inc_by((framed.text.len() - kept) as u64);
            if !std::mem::replace(&mut piece.truncated, true) {
                shared.stats.truncated_lines.with(&[INPUT]).inc();
            }
        }
        if !framed.goes_on {
            let piece = self.mark.pieces.remove(at);
            self.emit_piece(piece, shared);
        }
    }

    fn emit_piece(&mut self, piece: Piece, shared: &mut Shared) {
        shared.pieces_bytes = shared.pieces_bytes.saturating_sub(piece.text.len());
        let time = (piece.time != 0).then_some(piece.time);
        self.emit(piece.text.as_bytes(), &piece.stream, time, piece.truncated, shared);
    }

    /// Makes records of lines whose end will never come.
    pub(super) fn finish_pieces(&mut self, shared: &mut Shared) {
        for piece in std::mem::take(&mut self.mark.pieces) {
            self.emit_piece(piece, shared);
        }
    }

    /// Takes an unfinished last line as it is, because the file will not grow any more.
    pub(super) fn finish(&mut self, shared: &mut Shared) -> io::Result<()> {
        if let Some((length, _)) = self.unfinished.take()
            && let Some(file) = self.file.take()
        {
            let mut line = vec![0; usize::try_from(length).unwrap_or(0).min(shared.config.line_bytes_max)];
            let length = read_at(&file, &mut line, self.mark.offset)?;
            self.mark.offset += length as u64;
            shared.stats.file_bytes.inc_by(length as u64);
            self.line(line.get(..length).unwrap_or_default(), shared);
            self.file = Some(file);
        }
        self.finish_pieces(shared);
        Ok(())
    }

    fn emit(&self, line: &[u8], stream: &str, time: Option<i64>, truncated: bool, shared: &mut Shared) {
        let found = shape(line, shared.now);
        let mut body = String::from_utf8_lossy(line);
        let mut truncated = truncated;
        if let std::borrow::Cow::Owned(body) = &mut body {
            shared.stats.replaced_lines.with(&[INPUT]).inc();
            // A replaced byte becomes three.
            let kept = utf8_floor(body.as_bytes(), shared.config.line_bytes_max);
            if kept < body.len() {
                shared.stats.truncated_lines.with(&[INPUT]).inc();
                shared.stats.truncated_bytes.with(&[INPUT]).inc_by((body.len() - kept) as u64);
                body.truncate(kept);
                truncated = true;
            }
        }
        let origin = self.describe(shared);
        let mut attributes = origin.attributes.clone();
        if !stream.is_empty() {
            attributes.push(attribute("log.iostream", stream));
        }
        if truncated {
            attributes.push(bool_attribute("log.truncated", true));
        }
        let nanos = |time: i64| u64::try_from(time).unwrap_or(0);
        let record = LogRecord {
            time_unix_nano: time.or(found.time).map_or(0, nanos),
            observed_time_unix_nano: nanos(shared.now),
            severity_number: found.severity.map_or(0, |severity| i32::from(severity.number)),
            severity_text: found.severity.map_or_else(String::new, |severity| severity.text.to_owned()),
            body: Some(text(body.into_owned())),
            attributes,
            trace_id: found.trace_id.map_or_else(Vec::new, |id| id.to_vec()),
            span_id: found.span_id.map_or_else(Vec::new, |id| id.to_vec()),
            ..LogRecord::default()
        };
        shared.batch.push(&origin.resource, INPUT, record);
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Auto => "auto",
        Format::Plain => "plain",
        Format::Cri => "cri",
        Format::Docker => "docker",
    }
}

/// Opens a regular file for reading. Never blocks on a pipe.
pub(super) fn open(path: &PathBuf) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset + length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Returns the greatest length up to `limit` that does not cut a UTF-8 character.
fn utf8_floor(data: &[u8], limit: usize) -> usize {
    if data.len() <= limit {
        return data.len();
    }
    let is_inside = |at: usize| data.get(at).is_some_and(|b| b & 0xC0 == 0x80);
    let floor = (0..4).map(|back| limit.saturating_sub(back)).find(|at| !is_inside(*at));
    floor.filter(|at| *at > 0).unwrap_or(limit)
}
