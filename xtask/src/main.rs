//! The project's tasks: `cargo xtask ui` builds the web UI's bundle.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool for developers talks to its terminal"
)]

use std::path::Path;
use std::process::ExitCode;

mod ui;

const USAGE: &str = "usage: cargo xtask <task>

tasks:
  ui [--force]    build the web UI into ui/dist; skipped when nothing has changed, unless forced";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["ui"] => ui::build(root(), ui::Rebuild::WhenChanged),
        ["ui", "--force"] => ui::build(root(), ui::Rebuild::Always),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the workspace's root, where `xtask` is a folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}
