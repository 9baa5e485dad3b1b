//! Compresses and decompresses sections of a batch.

use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};

use super::Malformed;

/// Level of compression: it takes half a second per million lines, and a quarter of the bytes is left. Fast levels below
/// save a tenth of that time and leave a quarter more; measured in docs/adr/0008.
const LEVEL: i32 = 1;
/// Most idle compressors: as many as requests are encoded at once, about.
const IDLE_MAX: usize = 8;
/// Most memory that an idle compressor holds for what it made.
const ROOM_BYTES_MAX: usize = 1 << 20;
/// Longest batch before compression; a reader allocates for no more.
pub(crate) const BATCH_BYTES_MAX: usize = 64 << 20;

/// Compresses sections, one after the other.
pub(super) struct Packer {
    inner: Compressor<'static>,
    /// Where the compressed bytes are made.
    room: Vec<u8>,
}

impl Packer {
    /// Compresses a section; the result stays until the next one.
    pub(super) fn pack(&mut self, raw: &[u8]) -> std::io::Result<&[u8]> {
        self.room.clear();
        self.room.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let length = self.inner.compress_to_buffer(raw, &mut self.room)?;
        Ok(self.room.get(..length).unwrap_or_default())
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("room", &self.room.capacity()).finish_non_exhaustive()
    }
}

/// Compressors that wait for use: making one costs more than compressing a section.
#[derive(Default)]
pub(crate) struct Packers {
    idle: Mutex<Vec<Packer>>,
}

impl std::fmt::Debug for Packers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packers").field("idle", &self.idle.lock().len()).finish()
    }
}

impl Packers {
    /// Lends a compressor.
    pub(super) fn lend(&self) -> std::io::Result<Packer> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(packer) => Ok(packer),
            None => Ok(Packer { inner: Compressor::new(LEVEL)?, room: Vec::new() }),
        }
    }

    /// Keeps a compressor for the next one who asks.
    pub(super) fn take_back(&self, packer: Packer) {
        // A section of one huge record makes it large.
        if packer.room.capacity() <= ROOM_BYTES_MAX {
            let mut idle = self.idle.lock();
            if idle.len() < IDLE_MAX {
                idle.push(packer);
            }
        }
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
