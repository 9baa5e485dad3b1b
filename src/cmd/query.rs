//! `daybook query`: PromQL against a server, now or over time.

use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use query_wire::prometheus::{QueryData, Response};

use crate::client::answer::{Answer, Canvas, Output, print};
use crate::client::http::{Server, ServerArgs};
use crate::client::scale::Unit;
use crate::client::style::StyleArgs;
use crate::client::time::{RangeArgs, When, api_seconds, parse_duration, parse_when};
use crate::client::{block_on, notes, usage};

/// How far back a range goes when only a step was given.
const SINCE_DEFAULT: Duration = Duration::from_secs(3600);

/// Points of a range whose step was not given: a terminal has no more dots than that.
const POINTS_DEFAULT: i64 = 250;

/// Runs a PromQL query, now or over time
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// PromQL, e.g. 'rate(http_requests_total[5m])'
    query: String,
    /// Evaluate at this time only: now, -1h, 2026-01-31T08:00:00Z or Unix seconds
    #[arg(long, value_name = "TIME", value_parser = parse_when, allow_hyphen_values = true,
          conflicts_with_all = ["since", "start", "end", "step"])]
    time: Option<When>,
    #[command(flatten)]
    range: RangeArgs,
    /// Distance between the points of a range; about 250 points unless given
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    step: Option<Duration>,
    /// Form of the output; a table, or a chart for a range on a terminal, unless given
    #[arg(long, short, value_enum)]
    output: Option<Output>,
    /// Unit of the chart's axis; guessed from the query unless given
    #[arg(long, value_enum)]
    unit: Option<Unit>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    style: StyleArgs,
}

/// Asks and prints.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let now = runtime::Clock::system().now_nanos();
    let mut form = vec![("query", args.query.clone())];
    let mut range_ms = None;
    let over_time = args.range.given() || args.step.is_some();
    if over_time {
        let (start, end) = match args.range.resolve(now, SINCE_DEFAULT) {
            Ok(range) => range,
            Err(text) => return usage(&text),
        };
        let step = args.step.unwrap_or_else(|| step_for(start, end));
        // The end is a point, whatever the step: people ask for the newest value.
        let start = if args.step.is_none() { align(start, end, step) } else { start };
        form.extend([
            ("start", api_seconds(start)),
            ("end", api_seconds(end)),
            ("step", step.as_secs_f64().to_string()),
        ]);
        range_ms = Some((start / 1_000_000, end / 1_000_000));
    } else if let Some(time) = args.time {
        form.push(("time", api_seconds(time.resolve(now))));
    }
    let server = Server::new(&args.server)?;
    let path = if over_time { "query_range" } else { "query" };
    let response: Response<QueryData> = block_on(server.post(&["api", "v1", path], &form))?;
    notes("warning", &response.warnings);
    notes("info", &response.infos);
    let Some(data) = response.data else { anyhow::bail!("{} sent no data", server.origin()) };

    let mut out = BufWriter::new(std::io::stdout().lock());
    if args.output == Some(Output::Json) {
        serde_json::to_writer(&mut out, &data).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        let answer = Answer::from(data.result);
        let canvas = Canvas {
            style: args.style.stdout(),
            columns: args.style.columns(),
            unit: args.unit.unwrap_or_else(|| Unit::guess(&args.query)),
            range_ms,
        };
        print(&answer, args.output.unwrap_or_else(|| output_for(&answer)), &canvas, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns a step that gives about 250 points, whole seconds at least.
pub(super) fn step_for(start_ns: i64, end_ns: i64) -> Duration {
    let seconds = end_ns.saturating_sub(start_ns) / 1_000_000_000 / POINTS_DEFAULT;
    Duration::from_secs(seconds.max(1).unsigned_abs())
}

/// Returns the first point at or after `start` that is whole steps before `end`.
fn align(start_ns: i64, end_ns: i64, step: Duration) -> i64 {
    let step = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX).max(1);
    end_ns - end_ns.saturating_sub(start_ns) / step * step
}

/// Returns a chart for a range on a terminal, else a table.
pub(super) fn output_for(answer: &Answer) -> Output {
    match answer {
        Answer::Range(_) if std::io::stdout().is_terminal() => Output::Chart,
        _ => Output::Table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_about_250_points_and_ends_with_one() {
        let (start, end) = (0, 3_600_000_000_000);
        let step = step_for(start, end);
        assert_eq!(step, Duration::from_secs(14));
        assert_eq!(align(start, end, step), 2_000_000_000);
        assert_eq!(step_for(0, 1), Duration::from_secs(1));
        assert_eq!(align(0, 1, Duration::from_secs(1)), 1);
        assert_eq!(align(i64::MIN, i64::MAX, Duration::MAX), 0);
    }
}
