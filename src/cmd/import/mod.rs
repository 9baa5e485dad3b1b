//! `daybook import openmetrics FILE`: backfills metrics.

mod collect;
mod text;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::FromArgMatches;
use runtime::{CpuPool, LogFormat};
use serde_json::json;
use storage::Storage;
use storage_api::{AppendReport, Error, MetricBatch};

use crate::client::style::printable;
use crate::cmd::{EXIT_FAILED, EXIT_USAGE, complain};
use crate::server::Ground;
use text::Imported;

/// Memory of the head: as large blocks as that gives are what compaction works on.
const HEAD_BYTES: u64 = 256 << 20;

/// Returns the subcommand.
pub(crate) fn command() -> clap::Command {
    use clap::{Args as _, Command};
    Command::new("import")
        .about("Put data from files into a data directory that no server has open")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Args::augment_args(Command::new("openmetrics").about(
            "Import samples with timestamps, exemplars and metadata from OpenMetrics text; exit code 1 when not all of it was taken",
        )))
}

/// What it takes.
#[derive(Debug, Clone, clap::Args)]
struct Args {
    /// OpenMetrics 1.0 text, every sample with its timestamp, `# EOF` at the end; - is standard input
    file: PathBuf,
    /// Directory for all state, as given to the server; made if missing
    #[arg(long, env = "DAYBOOK_DATA_DIR", value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(matches: &clap::ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((_, matches)) = matches.subcommand() else { return Ok(ExitCode::from(EXIT_USAGE)) };
    let args = Args::from_arg_matches(matches)?;
    runtime::init_logs(LogFormat::Text, "warn", true, None).map_err(|why| anyhow!("starting logs failed: {why}"))?;
    // Before the directory, which a wrong file name must not make.
    let input: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(&args.file).with_context(|| format!("opening {} failed", args.file.display()))?;
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let storage = open(&args.data_dir)?;
    let mut imported = text::import(input, |batch| append(&storage, batch));
    let settled = storage.flush_and_settle().and_then(|()| storage.close());
    imported.failure = imported.failure.map(|why| why.context(args.file.display().to_string()));
    report(&imported, args.json, std::io::stdout().lock())?;
    if let Some(failure) = &imported.failure {
        complain(&printable(&format!("{failure:#}")));
    }
    // What was imported is safe in the write-ahead log nevertheless.
    settled.context("writing the blocks failed, the next start of a server does it")?;
    let is_whole = imported.failure.is_none() && imported.report.rejected() == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn open(data_dir: &Path) -> anyhow::Result<Storage> {
    let options = storage::Options {
        data_dir: data_dir.to_owned(),
        retention: None,
        metrics_head_bytes: HEAD_BYTES,
        logs_head_bytes: HEAD_BYTES,
        flush_interval: Duration::MAX,
        log_line_bytes: u64::MAX,
    };
    let Ground { clock, telemetry, ledger, .. } = Ground::new();
    let cpu = CpuPool::new(0).context("starting the CPU pool failed")?;
    Storage::open(options, &clock, &telemetry, &ledger, &cpu)
        .with_context(|| format!("opening the data directory {} failed", data_dir.display()))
}

/// Appends a batch, and makes room for it where there is none.
fn append(storage: &Storage, batch: &MetricBatch<'_>) -> anyhow::Result<AppendReport> {
    let appender = storage.metrics_appender();
    match appender.append(batch) {
        Err(Error::Overloaded { .. }) => {
            storage.flush_and_settle().context("writing a block failed")?;
            Ok(appender.append(batch)?)
        }
        appended => Ok(appended?),
    }
}

fn report(imported: &Imported, is_json: bool, mut out: impl Write) -> std::io::Result<()> {
    let AppendReport { accepted, accepted_exemplars, rejections, .. } = &imported.report;
    let (series, is_more) = imported.series();
    if is_json {
        let rejected = rejections.iter().map(
            |rejection| json!({ "reason": rejection.reason, "count": rejection.count, "detail": rejection.detail }),
        );
        let all = json!({
            "series": series,
            "samples": accepted,
            "exemplars": accepted_exemplars,
            "rejected": rejected.collect::<Vec<_>>(),
            "error": imported.failure.as_ref().map(|failure| format!("{failure:#}")),
        });
        return writeln!(out, "{all}");
    }
    let more = if is_more { "at least " } else { "" };
    writeln!(out, "imported {accepted} samples and {accepted_exemplars} exemplars of {more}{series} series")?;
    for rejection in rejections {
        writeln!(out, "{}", printable(&rejection.to_string()))?;
    }
    Ok(())
}
