//! Small files with a checksum, and what makes a folder durable.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use storage_api::{Error, Result};

use crate::fault::Faults;

/// Longest content of a sealed file.
const CONTENT_BYTES_MAX: usize = 1 << 30;
/// Bytes before the content: magic and its length.
const HEADER_BYTES: usize = 12;

/// Makes an error for a file that does not hold what it should.
pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Error {
    Error::Corrupt { path: path.display().to_string(), reason: reason.into() }
}

/// Writes `bytes` to a new file and fsyncs it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let faults = Faults::current();
    let written = faults.pass("create").and_then(|()| File::create_new(path)).and_then(|mut file| {
        faults.pass("write")?;
        file.write_all(bytes)?;
        faults.pass("fsync")?;
        file.sync_all()
    });
    written.map_err(|source| Error::io("writing", path, source))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    let opened = Faults::current().pass("fsync of a folder").and_then(|()| File::open(path));
    opened.and_then(|dir| dir.sync_all()).map_err(|source| Error::io("syncing", path, source))
}

/// Gives a file or folder another name, in place of what has it.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let renamed = Faults::current().pass("rename").and_then(|()| fs::rename(from, to));
    renamed.map_err(|source| Error::io("renaming", from, source))
}

/// Fsyncs a file that someone else wrote.
pub(crate) fn sync_file(path: &Path) -> Result<()> {
    let opened = Faults::current().pass("fsync").and_then(|()| File::open(path));
    opened.and_then(|file| file.sync_all()).map_err(|source| Error::io("syncing", path, source))
}

/// Removes a folder with all that is in it; one that is not there is no error.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path, source)),
        _ => Ok(()),
    }
}

/// Removes the folder of a block. It gets another name first: what a crash leaves of it is no block, and not a damaged one either.
pub(crate) fn remove_block(path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let going = path.with_file_name(format!("tmp-removed-{name}"));
    remove_dir(&going)?;
    match fs::rename(path, &going) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::io("removing", path, source)),
        Ok(()) => remove_dir(&going),
    }
}

/// Reads a file whose size and checksum are known.
pub(crate) fn read_checked(path: &Path, size_bytes: u64, crc: u32) -> Result<Vec<u8>> {
    let size = fs::metadata(path).map_err(|source| Error::io("reading", path, source))?.len();
    if size != size_bytes {
        return Err(corrupt(path, format!("it has {size} bytes, expected {size_bytes}")));
    }
    let bytes = fs::read(path).map_err(|source| Error::io("reading", path, source))?;
    let got = crc32c::crc32c(&bytes);
    if got == crc { Ok(bytes) } else { Err(corrupt(path, format!("checksum {got:08x}, expected {crc:08x}"))) }
}

/// Encodes `content` compressed, between a magic and a checksum.
pub(crate) fn seal(magic: [u8; 8], content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    out.extend_from_slice(&magic);
    out.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&zstd::bulk::compress(content, 3)?);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// Decodes what [`seal`] made. Nothing is allocated before the checksum holds.
pub(crate) fn unseal(magic: [u8; 8], path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let (sealed, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| corrupt(path, "it is cut off"))?;
    if crc32c::crc32c(sealed) != u32::from_le_bytes(*crc) {
        return Err(corrupt(path, "its checksum is wrong"));
    }
    let (header, content) =
        sealed.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| corrupt(path, "its header is cut off"))?;
    let (found, length) = header.split_at(8);
    if found != magic {
        return Err(corrupt(path, "it is of another kind or version"));
    }
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
    if length > CONTENT_BYTES_MAX {
        return Err(corrupt(path, format!("its content has {length} bytes, the most is {CONTENT_BYTES_MAX}")));
    }
    let content = zstd::bulk::decompress(content, length).map_err(|error| corrupt(path, error.to_string()))?;
    if content.len() == length { Ok(content) } else { Err(corrupt(path, "its content is cut off")) }
}
