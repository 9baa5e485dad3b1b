//! Writes the files of `fixtures/` once: `cargo run -p storage-metrics --example write_fixture -- DIR`; DIR must be empty
//! or missing. What is there is never written again: it stands for what earlier versions left on people's disks.

use std::error::Error;
use std::path::PathBuf;

#[path = "../fixtures/v4.rs"]
mod v4;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from).ok_or("which directory?")?;
    if dir.exists() && dir.read_dir()?.next().is_some() {
        return Err(format!("{} is not empty", dir.display()).into());
    }
    v4::write(&dir)
}
