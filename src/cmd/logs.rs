//! `daybook logs`: LogQL against a server; lines, or a table or chart of a metric query.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use query_wire::loki::{LabelMap, QueryResponse, Response, Stream};
use query_wire::plan::QueryPlan;

use crate::client::answer::{self, Answer, Canvas};
use crate::client::export::{Around, entry_of, export};
use crate::client::http::{Server, ServerArgs};
use crate::client::lines::{Direction, Form, Printer, common_labels, in_order};
use crate::client::scale::Unit;
use crate::client::series_name::series_name;
use crate::client::style::StyleArgs;
use crate::client::tail::{Options, follow};
use crate::client::time::{RangeArgs, When, parse_duration, parse_when, rfc3339};
use crate::client::{block_on, notes, plan, usage};
use crate::cmd::query::{output_for, step_for};

/// How far back to look unless told.
const SINCE_DEFAULT: Duration = Duration::from_secs(3600);

/// Runs a LogQL query; shows lines, or a table or chart of numbers
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// LogQL, e.g. '{service_name="api"} |= "error"'
    query: String,
    #[command(flatten)]
    range: RangeArgs,
    /// Evaluate a metric query at this time only
    #[arg(long, value_name = "TIME", value_parser = parse_when, allow_hyphen_values = true,
          conflicts_with_all = ["since", "start", "end", "step"])]
    time: Option<When>,
    /// Distance between the points of a metric query; about 250 points unless given
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    step: Option<Duration>,
    /// Most lines
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Every line of the range, however many; a broken connection is taken up where it broke
    #[arg(long, conflicts_with_all = ["limit", "time", "step", "follow"])]
    all: bool,
    /// Do not run the query; tell which blocks, pages and bytes it would read
    #[arg(long, conflicts_with_all = ["follow", "all", "before", "after", "context"])]
    explain: bool,
    /// Show this many lines of the same stream before each line
    #[arg(long, short = 'B', value_name = "LINES", conflicts_with_all = ["all", "time", "step", "follow"])]
    before: Option<u32>,
    /// Show this many lines of the same stream after each line
    #[arg(long, short = 'A', value_name = "LINES", conflicts_with_all = ["all", "time", "step", "follow"])]
    after: Option<u32>,
    /// Show this many lines of the same stream before and after each line
    #[arg(long, short = 'C', value_name = "LINES", conflicts_with_all = ["all", "time", "step", "follow"])]
    context: Option<u32>,
    /// Which end of the range to take lines from, and print first
    #[arg(long, value_enum, default_value_t = Direction::Backward)]
    direction: Direction,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Default)]
    output: Output,
    /// Show the newest lines, then follow
    #[arg(long = "tail", short = 'f', visible_alias = "follow", conflicts_with_all = ["end", "time", "step"])]
    follow: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    style: StyleArgs,
}

/// How to print lines, or the answer to a metric query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Time, labels and line; a table or chart of a metric query
    Default,
    /// The API's data
    Json,
    /// A JSON object per line
    Jsonl,
    /// The line alone
    Raw,
    /// A CSV row per line or sample
    Csv,
    /// Aligned columns, of a metric query
    Table,
    /// Drawn in the terminal, of a metric query
    Chart,
}

impl Output {
    /// Returns the form of a line; `None` for what only numbers can be.
    pub(super) fn form(self) -> Option<Form> {
        match self {
            Self::Default => Some(Form::Default),
            Self::Json | Self::Jsonl => Some(Form::Jsonl),
            Self::Raw => Some(Form::Raw),
            Self::Csv => Some(Form::Csv),
            Self::Table | Self::Chart => None,
        }
    }
}

/// Asks and prints, or follows.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let now = runtime::Clock::system().now_nanos();
    let (start, end) = match args.range.resolve(now, SINCE_DEFAULT) {
        Ok(range) => range,
        Err(text) => return usage(&text),
    };
    if args.follow {
        return run_tail(&args, start);
    }
    if args.all {
        return run_export(&args, start, end);
    }
    if args.before.or(args.after).or(args.context).is_some() {
        return run_context(&args, start, end);
    }
    let mut form = vec![
        ("query", args.query.clone()),
        ("limit", args.limit.to_string()),
        ("direction", args.direction.as_str().to_owned()),
    ];
    let path = if let Some(time) = args.time {
        form.push(("time", time.resolve(now).to_string()));
        "query"
    } else {
        let step = args.step.unwrap_or_else(|| step_for(start, end));
        let step = ("step", format!("{}s", step.as_secs_f64()));
        form.extend([("start", start.to_string()), ("end", end.to_string()), step]);
        "query_range"
    };
    let server = Server::new(&args.server)?;
    if args.explain {
        return run_explain(&args, &server, path, form);
    }
    let response: QueryResponse = block_on(server.post(&["loki", "api", "v1", path], &form))?;

    let mut out = BufWriter::new(std::io::stdout().lock());
    if args.output == Output::Json {
        serde_json::to_writer(&mut out, &response.data).map_err(std::io::Error::from)?;
        writeln!(out)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    match Answer::from_loki(response.data.result) {
        Err(streams) => {
            let Some(form) = args.output.form() else {
                return usage("--output table and chart are for metric queries; this query gives lines");
            };
            print_lines(&args, &streams, form, &mut out)?;
        }
        Ok(answer) => print_numbers(&args, &answer, (start / 1_000_000, end / 1_000_000), &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn run_tail(args: &Args, start_ns: i64) -> anyhow::Result<ExitCode> {
    let Some(form) = args.output.form() else {
        return usage("--output table and chart are for metric queries, which cannot be followed");
    };
    let server = Server::new(&args.server)?;
    let options = Options { query: args.query.clone(), start_ns, limit: args.limit };
    let printer = Printer::new(form, args.style.stdout(), std::collections::BTreeMap::new());
    let mut out = BufWriter::new(std::io::stdout().lock());
    block_on(follow(&server, &options, &printer, &mut out))?;
    Ok(ExitCode::SUCCESS)
}

fn run_explain(args: &Args, server: &Server, path: &str, mut form: Vec<(&str, String)>) -> anyhow::Result<ExitCode> {
    form.push(("dry_run", "1".to_owned()));
    let response: Response<QueryPlan> = block_on(server.post(&["loki", "api", "v1", path], &form))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if matches!(args.output, Output::Json | Output::Jsonl) {
        serde_json::to_writer(&mut out, &response.data).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        plan::print(&response.data, args.style.stdout(), &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn run_export(args: &Args, start: i64, end: i64) -> anyhow::Result<ExitCode> {
    let Some(form) = args.output.form() else {
        return usage("--output table and chart are for metric queries, which have no lines");
    };
    let parameters = vec![
        ("query", args.query.clone()),
        ("start", start.to_string()),
        ("end", end.to_string()),
        ("direction", args.direction.as_str().to_owned()),
    ];
    let server = Server::new(&args.server)?;
    let printer = Printer::new(form, args.style.stdout(), LabelMap::new());
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    printer.header(&mut out)?;
    let silence = args.server.timeout;
    block_on(export(&server, parameters, silence, &mut |line| printer.line(&line.labels, &entry_of(&line), &mut out)))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn run_context(args: &Args, start: i64, end: i64) -> anyhow::Result<ExitCode> {
    let Some(form) = args.output.form() else {
        return usage("--output table and chart are for metric queries, which have no lines");
    };
    let lines = |side: Option<u32>| side.or(args.context).unwrap_or(0);
    let around = Around { before: lines(args.before), after: lines(args.after) };
    let parameters = [
        ("query", args.query.clone()),
        ("limit", args.limit.to_string()),
        ("direction", args.direction.as_str().to_owned()),
        ("start", start.to_string()),
        ("end", end.to_string()),
    ];
    let server = Server::new(&args.server)?;
    let response: QueryResponse = block_on(server.post(&["loki", "api", "v1", "query_range"], &parameters))?;
    let Err(streams) = Answer::from_loki(response.data.result) else {
        return usage("lines around are for log queries; this one gives numbers");
    };
    let printer = Printer::new(form, args.style.stdout(), LabelMap::new());
    let mut out = BufWriter::new(std::io::stdout().lock());
    printer.header(&mut out)?;
    let hits = in_order(&streams, args.direction);
    for (number, (_, hit)) in hits.iter().enumerate() {
        if number > 0 && matches!(form, Form::Default | Form::Raw) {
            writeln!(out, "--")?;
        }
        let found = block_on(around.ask(&server, &args.query, hit))?;
        for entry in found.before.iter().chain([&found.line]).chain(&found.after) {
            printer.line(&found.stream, entry, &mut out)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn print_lines(args: &Args, streams: &[Stream], form: Form, out: &mut impl Write) -> std::io::Result<()> {
    let common = if form == Form::Default { common_labels(streams) } else { std::collections::BTreeMap::new() };
    if !common.is_empty() {
        notes("common labels", &[series_name(&common)]);
    }
    let printer = Printer::new(form, args.style.stdout(), common);
    printer.header(out)?;
    let lines = in_order(streams, args.direction);
    for (labels, entry) in &lines {
        printer.line(labels, entry, out)?;
    }
    if u32::try_from(lines.len()).unwrap_or(u32::MAX) >= args.limit {
        notes(
            "note",
            &[format!(
                "there may be more: this is the limit of {} lines (--limit, or --all for every line)",
                args.limit
            )],
        );
    }
    Ok(())
}

fn print_numbers(args: &Args, answer: &Answer, range_ms: (i64, i64), out: &mut impl Write) -> std::io::Result<()> {
    let output = match args.output {
        Output::Csv => answer::Output::Csv,
        Output::Table | Output::Raw | Output::Json => answer::Output::Table,
        Output::Chart => answer::Output::Chart,
        Output::Default => output_for(answer),
        Output::Jsonl => return print_samples_as_json(answer, out),
    };
    let range_ms = matches!(answer, Answer::Range(_)).then_some(range_ms);
    let canvas =
        Canvas { style: args.style.stdout(), columns: args.style.columns(), unit: Unit::guess(&args.query), range_ms };
    answer::print(answer, output, &canvas, out)
}

fn print_samples_as_json(answer: &Answer, out: &mut impl Write) -> std::io::Result<()> {
    for series in answer.series() {
        for (at, value) in &series.points {
            let timestamp = rfc3339(at.saturating_mul(1_000_000));
            let sample = serde_json::json!({ "timestamp": timestamp, "labels": series.labels, "value": value.text() });
            writeln!(out, "{sample}")?;
        }
    }
    Ok(())
}
