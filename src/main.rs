//! Daybook's one binary: metrics, logs and dashboards that can account for every record.

mod client;
mod cmd;
mod config;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cmd::dispatch() {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            cmd::complain(&format!("{error:#}"));
            ExitCode::from(cmd::EXIT_FAILED)
        }
    }
}

/// Says whether whoever read our output went away, which is no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
