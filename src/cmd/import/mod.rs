//! `daybook import openmetrics FILE`: backfills metrics, into a data directory or a running server.

mod collect;
mod progress;
mod send;
mod text;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::FromArgMatches;
use progress::Progress;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use runtime::{CpuPool, LogFormat};
use send::Sender;
use serde_json::json;
use storage::Storage;
use storage_api::{AppendReport, Error, MetricBatch};

use crate::client::http::{ServerArgs, parse_header, parse_url};
use crate::client::style::printable;
use crate::client::time::parse_duration;
use crate::cmd::{EXIT_FAILED, EXIT_USAGE, complain};
use crate::server::Ground;
use text::Imported;

/// Memory of the head: as large blocks as that gives are what compaction works on.
const HEAD_BYTES: u64 = 256 << 20;

/// Returns the subcommand.
pub(crate) fn command() -> clap::Command {
    use clap::{Args as _, Command};
    Command::new("import")
        .about("Put data from files into a data directory that no server has open, or into a running server")
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
    /// Send to this running server, by remote write 2.0, instead of writing to a data directory
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<Url>,
    /// Header to send with each request, e.g. 'X-Scope-OrgID: team'; may be given again
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header, requires = "url")]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Longest wait for an answer of the server
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration, requires = "url")]
    timeout: Duration,
    /// How long to send a batch again that the server cannot take now, or that does not reach it
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration, requires = "url")]
    retry_for: Duration,
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
    let (input, total): (Box<dyn BufRead>, _) = if args.file == Path::new("-") {
        (Box::new(BufReader::new(std::io::stdin())), None)
    } else {
        let file = File::open(&args.file).with_context(|| format!("opening {} failed", args.file.display()))?;
        let total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        (Box::new(BufReader::with_capacity(1 << 16, file)), total)
    };
    let mut progress = Progress::new(total);
    let mut tell = |bytes, imported: &Imported| progress.tell(bytes, imported.report.accepted);
    let (mut imported, settled) = match &args.url {
        Some(url) => {
            let server = ServerArgs { url: url.clone(), headers: args.headers.clone(), timeout: args.timeout };
            let sender = Sender::new(&server, args.retry_for)?;
            (text::import(input, |batch| sender.send(batch), &mut tell), Ok(()))
        }
        None => {
            let storage = open(&args.data_dir)?;
            let imported = text::import(input, |batch| append(&storage, batch), &mut tell);
            (imported, storage.flush_and_settle().and_then(|()| storage.close()))
        }
    };
    progress.end();
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
