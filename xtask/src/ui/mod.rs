//! Builds the web UI: wasm by whichever compiler can, bindings, style sheet, compression.

use std::path::Path;

use anyhow::{Context as _, Result};

mod bundle;
mod fingerprint;
mod toolchain;

/// When to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rebuild {
    /// Only when a source file, the lock file or the compiler differs from the last build.
    WhenChanged,
    /// In any case.
    Always,
}

/// Builds the bundle into `ui/dist` of the workspace at `root`.
///
/// # Errors
/// When no compiler here can build wasm (the message says what to install), or a step fails.
pub(crate) fn build(root: &Path, rebuild: Rebuild) -> Result<()> {
    let dist = root.join("ui/dist");
    let stamp = root.join("target-wasm/ui.fingerprint");
    let sources = fingerprint::of_sources(root)?;
    let is_current = dist.join("index.html").is_file()
        && std::fs::read_to_string(&stamp).is_ok_and(|last| last == sources.to_string());
    if rebuild == Rebuild::WhenChanged && is_current {
        println!("ui: nothing has changed since the last build");
        return Ok(());
    }

    let toolchain = toolchain::Choice::from_probe(&toolchain::Probe::of_this_machine())?;
    println!("ui: building wasm with {toolchain}");
    let wasm = toolchain.build(root)?;
    let files = bundle::write(root, &wasm, &dist)?;
    print!("{}", bundle::size_table(&files));

    std::fs::write(&stamp, sources.to_string()).with_context(|| format!("writing {}", stamp.display()))
}
