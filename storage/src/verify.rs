//! Checks a data directory that nobody has open, and lists what is in it.

use std::path::Path;

use storage_api::{BlockInfo, Checked, Findings};

use crate::lock::DirLock;
use crate::{Error, Result};

/// What a check of a data directory went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// The metrics.
    pub metrics: Checked,
    /// The logs.
    pub logs: Checked,
}

/// Returns an error unless there is a data directory.
fn ensure_data(data_dir: &Path) -> Result<()> {
    let is_one = ["metrics", "logs", "wal"].iter().any(|name| data_dir.join(name).is_dir());
    if is_one { Ok(()) } else { Err(Error::NoData { path: data_dir.to_owned() }) }
}

/// Checks every checksum and cross-reference of the directory, and tells what is wrong where. Nothing is changed.
///
/// # Errors
/// When there is no data directory, another process has it open, or a folder cannot be listed.
pub fn verify(data_dir: &Path, found: Findings<'_>) -> Result<Verified> {
    ensure_data(data_dir)?;
    let _lock = DirLock::take(data_dir)?;
    let wal = data_dir.join("wal");
    let metrics = storage_metrics::verify(&data_dir.join("metrics"), &wal.join("metrics"), found)?;
    let logs = storage_logs::verify(&data_dir.join("logs"), &wal.join("logs"), found)?;
    Ok(Verified { metrics, logs })
}

/// Lists the blocks of metrics and of logs, each oldest first. A server may have the directory open.
///
/// # Errors
/// When there is no data directory, or a folder cannot be listed.
pub fn blocks(data_dir: &Path) -> Result<(Vec<BlockInfo>, Vec<BlockInfo>)> {
    ensure_data(data_dir)?;
    Ok((storage_metrics::blocks(&data_dir.join("metrics"))?, storage_logs::blocks(&data_dir.join("logs"))?))
}
