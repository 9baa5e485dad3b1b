//! `daybook labels`: the label names, or the values of one, of metrics or logs.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use query_wire::loki::LabelsResponse;
use query_wire::prometheus::Response;

use crate::client::http::{Server, ServerArgs};
use crate::client::style::printable;
use crate::client::time::{RangeArgs, api_seconds};
use crate::client::{block_on, notes, usage};

/// How far back a range goes when only its end was given.
const SINCE_DEFAULT: Duration = Duration::from_secs(6 * 3600);

/// Lists label names, or the values of one
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Label whose values to list; all label names unless given
    name: Option<String>,
    /// Ask for the labels of log streams, not of metrics
    #[arg(long)]
    logs: bool,
    /// Only series that match, e.g. 'up{job="api"}'; may be given again for metrics
    #[arg(long = "match", value_name = "SELECTOR")]
    matches: Vec<String>,
    #[command(flatten)]
    range: RangeArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Lines)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

/// How to print names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A name per line
    Lines,
    /// A JSON array
    Json,
}

/// Asks and prints.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.logs && args.matches.len() > 1 {
        return usage("--logs takes one --match");
    }
    let mut query = Vec::new();
    if args.range.given() {
        let (start, end) = match args.range.resolve(runtime::Clock::system().now_nanos(), SINCE_DEFAULT) {
            Ok(range) => range,
            Err(text) => return usage(&text),
        };
        let write = |ns: i64| if args.logs { ns.to_string() } else { api_seconds(ns) };
        query.extend([("start", write(start)), ("end", write(end))]);
    }
    let matcher = if args.logs { "query" } else { "match[]" };
    query.extend(args.matches.iter().map(|selector| (matcher, selector.clone())));
    let mut path = if args.logs { vec!["loki", "api", "v1"] } else { vec!["api", "v1"] };
    match &args.name {
        Some(name) => path.extend(["label", name, "values"]),
        None => path.push("labels"),
    }
    let server = Server::new(&args.server)?;
    let names = if args.logs {
        block_on(server.get::<LabelsResponse>(&path, &query))?.data
    } else {
        let response: Response<Vec<String>> = block_on(server.get(&path, &query))?;
        notes("warning", &response.warnings);
        response.data.unwrap_or_default()
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    match args.output {
        Output::Json => {
            serde_json::to_writer(&mut out, &names).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Output::Lines => {
            for name in &names {
                writeln!(out, "{}", printable(name))?;
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
