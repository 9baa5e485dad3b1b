//! What the client commands share: the connection, times, colours, and the forms of output.

pub(crate) mod answer;
pub(crate) mod chart;
pub(crate) mod export;
pub(crate) mod http;
pub(crate) mod lines;
pub(crate) mod plan;
pub(crate) mod scale;
pub(crate) mod series_name;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod time;

use std::process::ExitCode;

use anyhow::Context;

use crate::cmd::{EXIT_USAGE, complain};

/// Tells that a command was used wrongly, in a way that the argument parser could not see.
pub(crate) fn usage(text: &str) -> anyhow::Result<ExitCode> {
    complain(text);
    Ok(ExitCode::from(EXIT_USAGE))
}

/// Runs a client's future on this thread; a client needs no more.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("starting the async runtime failed")?.block_on(work)
}

/// Tells a person something about the output on stderr, so that stdout stays parseable.
#[expect(clippy::print_stderr, reason = "notes for people go beside the output, not into it")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints what the server added to its answer on stderr, so that stdout stays parseable.
#[expect(clippy::print_stderr, reason = "notes for people go beside the output, not into it")]
pub(crate) fn notes(kind: &str, texts: &[String]) {
    for text in texts {
        eprintln!("{kind}: {text}");
    }
}
