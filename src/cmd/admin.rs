//! `daybook admin verify|blocks`: looks after a data directory.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat};
use clap::FromArgMatches;
use serde_json::{Value, json};
use storage_api::{BlockInfo, Checked, Finding};

use crate::client::style::{DIM, ERROR, Style, StyleArgs, printable};
use crate::client::table;
use crate::cmd::{EXIT_FAILED, EXIT_USAGE};

/// Returns the subcommand.
pub(crate) fn command() -> clap::Command {
    use clap::{Args as _, Command};
    Command::new("admin")
        .about("Check a data directory, or list what is in it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Args::augment_args(Command::new("verify").about(
            "Check every checksum and cross-reference of a data directory that no server has open; exit code 1 for damage",
        )))
        .subcommand(Args::augment_args(
            Command::new("blocks").about("List the blocks of metrics and logs; a server may run meanwhile"),
        ))
}

/// What both take.
#[derive(Debug, Clone, clap::Args)]
struct Args {
    /// Directory for all state, as given to the server
    #[arg(long, env = "DAYBOOK_DATA_DIR", value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
    #[command(flatten)]
    style: StyleArgs,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One JSON object
    Json,
}

/// Runs it.
pub(crate) fn run(matches: &clap::ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(ExitCode::from(EXIT_USAGE)) };
    let args = Args::from_arg_matches(matches)?;
    let is_json = args.json || args.output == Output::Json;
    let out = BufWriter::new(std::io::stdout().lock());
    match name {
        "verify" => verify(&args, is_json, out),
        _ => blocks(&args, is_json, out),
    }
}

fn verify(args: &Args, is_json: bool, mut out: impl Write) -> anyhow::Result<ExitCode> {
    let style = args.style.stdout();
    let (mut findings, mut damaged) = (Vec::new(), 0_u64);
    let mut failed = Ok(());
    let verified = storage::verify(&args.data_dir, &mut |finding| {
        damaged += u64::from(finding.is_damage);
        if is_json {
            findings.push(finding_json(&finding));
        } else if failed.is_ok() {
            failed = print_finding(&finding, style, &mut out).and_then(|()| out.flush());
        }
    })
    .with_context(|| format!("checking {} failed", args.data_dir.display()))?;
    failed?;
    if is_json {
        let all = json!({
            "damaged": damaged,
            "findings": findings,
            "metrics": checked_json(verified.metrics, "samples"),
            "logs": checked_json(verified.logs, "records"),
        });
        writeln!(out, "{all}")?;
    } else {
        let told = |what: &str, rows: &str, checked: Checked| {
            let Checked { blocks, rows: count, bytes, wal_records } = checked;
            format!(
                "{what}: {blocks} blocks, {count} {rows}, {bytes} bytes; {wal_records} records in the write-ahead log"
            )
        };
        writeln!(out, "{}", told("metrics", "samples", verified.metrics))?;
        writeln!(out, "{}", told("logs", "records", verified.logs))?;
        match damaged {
            0 => writeln!(out, "no damage")?,
            1 => writeln!(out, "{}", style.paint(ERROR, "1 place is damaged"))?,
            count => writeln!(out, "{}", style.paint(ERROR, &format!("{count} places are damaged")))?,
        }
    }
    out.flush()?;
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn print_finding(finding: &Finding, style: Style, out: &mut impl Write) -> std::io::Result<()> {
    let word = if finding.is_damage { style.paint(ERROR, "damage") } else { style.paint(DIM, "note") };
    writeln!(out, "{word}  {}", printable(&finding.to_string()))
}

fn finding_json(finding: &Finding) -> Value {
    json!({ "path": finding.path.display().to_string(), "reason": finding.reason, "damage": finding.is_damage })
}

fn checked_json(checked: Checked, rows: &str) -> Value {
    let Checked { blocks, rows: count, bytes, wal_records } = checked;
    json!({ "blocks": blocks, rows: count, "bytes": bytes, "wal_records": wal_records })
}

fn blocks(args: &Args, is_json: bool, mut out: impl Write) -> anyhow::Result<ExitCode> {
    let (metrics, logs) = listed(&args.data_dir)?;
    if is_json {
        let all = json!({
            "metrics": metrics.iter().map(|info| block_json(info, "samples", "series")).collect::<Vec<_>>(),
            "logs": logs.iter().map(|info| block_json(info, "records", "streams")).collect::<Vec<_>>(),
        });
        writeln!(out, "{all}")?;
    } else {
        let header = ["store", "block", "level", "first", "last", "samples", "series", "bytes", "bytes/sample"];
        let rows: Vec<Vec<String>> = metrics
            .iter()
            .map(|info| block_row("metrics", info))
            .chain(logs.iter().map(|info| block_row("logs", info)))
            .collect();
        write!(out, "{}", table::render(&header, &rows, args.style.stdout()))?;
    }
    out.flush()?;
    let is_intact = metrics.iter().chain(&logs).all(|info| info.damage.is_none());
    Ok(if is_intact { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn listed(data_dir: &Path) -> anyhow::Result<(Vec<BlockInfo>, Vec<BlockInfo>)> {
    storage::blocks(data_dir).with_context(|| format!("listing {} failed", data_dir.display()))
}

fn time(ns: i128) -> String {
    let time = i64::try_from(ns.div_euclid(1_000_000)).ok().and_then(DateTime::from_timestamp_millis);
    // Beyond the years that have a name.
    time.map_or_else(
        || format!("{}s", ns.div_euclid(1_000_000_000)),
        |time| time.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn per_row(info: &BlockInfo) -> Option<f64> {
    (info.rows > 0).then(|| info.bytes as f64 / info.rows as f64)
}

fn block_row(store: &str, info: &BlockInfo) -> Vec<String> {
    let text = |value: &dyn std::fmt::Display| value.to_string();
    let mut row = vec![store.to_owned(), info.name.clone(), text(&info.level)];
    match &info.damage {
        Some(damage) => {
            row.extend(["damaged".to_owned(), damage.clone()]);
            row.extend(["", "", "", ""].map(str::to_owned));
        }
        None => {
            row.extend([time(info.min_time_ns), time(info.max_time_ns)]);
            row.extend([text(&info.rows), text(&info.series), text(&info.bytes)]);
            row.push(per_row(info).map_or_else(String::new, |ratio| format!("{ratio:.3}")));
        }
    }
    row
}

fn block_json(info: &BlockInfo, rows: &str, series: &str) -> Value {
    match &info.damage {
        Some(damage) => json!({ "name": info.name, "level": info.level, "damage": damage }),
        None => json!({
            "name": info.name,
            "level": info.level,
            "first": time(info.min_time_ns),
            "last": time(info.max_time_ns),
            rows: info.rows,
            series: info.series,
            "bytes": info.bytes,
            format!("bytes_per_{}", rows.trim_end_matches('s')): per_row(info),
        }),
    }
}
