//! Compresses and decompresses sections of a batch.

use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};

use super::Malformed;

/// Level of compression: it takes half a second per million lines, and a quarter of the bytes is left. Fast levels below
/// save a tenth of that time and leave a quarter more; measured in docs/adr/0008.
const LEVEL: i32 = 1;
/// Most idle compressors: as many as requests are encoded at once, about.
const IDLE_MAX: usize = 8;
/// Longest batch before compression; a reader allocates for no more.
pub(crate) const BATCH_BYTES_MAX: usize = 64 << 20;

/// Compressors that wait for use: making one costs more than compressing a section.
#[derive(Default)]
pub(crate) struct Packers {
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl std::fmt::Debug for Packers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packers").field("idle", &self.idle.lock().len()).finish()
    }
}

impl Packers {
    /// Lends a compressor to `work`.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Compressor<'static>) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        let idle = self.idle.lock().pop();
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => Compressor::new(LEVEL)?,
        };
        let result = work(&mut compressor)?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(compressor);
        }
        Ok(result)
    }
}

/// Decompresses sections, one after the other.
#[derive(Default)]
pub(crate) struct Unpacker {
    inner: Option<Decompressor<'static>>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// Appends what `packed` holds to `out`: `raw_bytes`, neither more nor less.
    pub(crate) fn unpack(&mut self, packed: &[u8], raw_bytes: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if raw_bytes > BATCH_BYTES_MAX {
            return Err(Malformed("a batch of at most 64 MiB"));
        }
        let inner = match &mut self.inner {
            Some(inner) => inner,
            none => none.insert(Decompressor::new().map_err(|_| Malformed("memory to decompress"))?),
        };
        let start = out.len();
        out.resize(start + raw_bytes, 0);
        let room = out.get_mut(start..).unwrap_or_default();
        let got = inner.decompress_to_buffer(packed, room);
        if got.ok() == Some(raw_bytes) { Ok(()) } else { Err(Malformed("a whole section of a known length")) }
    }
}
