//! `daybook tail`: logs as they arrive.

use std::io::BufWriter;
use std::process::ExitCode;
use std::time::Duration;

use crate::client::http::{Server, ServerArgs};
use crate::client::lines::Printer;
use crate::client::style::StyleArgs;
use crate::client::tail::{Options, follow};
use crate::client::time::parse_duration;
use crate::client::{block_on, usage};
use crate::cmd::logs::Output;

/// Follows logs as they arrive
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// LogQL, e.g. '{service_name="api"} |= "error"'
    query: String,
    /// Show lines from this long ago first
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Most lines from before now
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Default)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    style: StyleArgs,
}

/// Follows until interrupted.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(form) = args.output.form() else {
        return usage("--output table and chart are for metric queries, which cannot be followed");
    };
    let since = i64::try_from(args.since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX);
    let start_ns = runtime::Clock::system().now_nanos().saturating_sub(since);
    let server = Server::new(&args.server)?;
    let printer = Printer::new(form, args.style.stdout(), std::collections::BTreeMap::new());
    let options = Options { query: args.query, start_ns, limit: args.limit };
    let mut out = BufWriter::new(std::io::stdout().lock());
    block_on(follow(&server, &options, &printer, &mut out))?;
    Ok(ExitCode::SUCCESS)
}
