//! `dry_run=1`: runs a query on a store that gives no rows, and tells what it asked for and what that would read.

use std::sync::{Arc, Mutex, PoisonError};

use model::{Labels, Matcher, TimeRange};
use query_logql::{LogQuery, MetricExpr, Steps};
use query_wire::loki::Response;
use query_wire::plan::{BlockPlan, QueryPlan, Selection, Total};
use storage_api::{
    LogBlockPlan, LogCount, LogPart, LogPlan, LogQuerier, LogSelect, LogTallies, LogTallySelect, Needle, QueryContext,
    TailBatch,
};
use tokio::sync::broadcast;

use super::error::LokiError;
use super::json_bytes;

/// Notes what it is asked for.
#[derive(Debug)]
struct Planner<'a> {
    logs: &'a dyn LogQuerier,
    selections: Mutex<Vec<Selection>>,
}

impl LogQuerier for Planner<'_> {
    fn select(&self, select: &LogSelect, context: &QueryContext) -> storage_api::Result<Vec<Box<dyn LogPart>>> {
        let plan = self.logs.plan(select, context)?;
        let mut columns = vec!["timestamp"];
        columns.extend((!select.without_lines).then_some("lines"));
        columns.extend(select.with_metadata.then_some("metadata"));
        self.note((&select.matchers, select.range), select.needles.iter().map(needle).collect(), &columns, plan);
        Ok(Vec::new())
    }

    fn streams(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> storage_api::Result<Vec<Labels>> {
        self.logs.streams(selectors, range, context)
    }

    fn counts(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        step_ns: Option<i64>,
        context: &QueryContext,
    ) -> storage_api::Result<Vec<LogCount>> {
        self.logs.counts(matchers, range, step_ns, context)
    }

    fn tally(&self, select: &LogTallySelect, context: &QueryContext) -> storage_api::Result<LogTallies> {
        let plan = self.logs.plan_tally(select, context)?;
        self.note((&select.matchers, select.range), Vec::new(), &["timestamp", "severity"], plan);
        Ok(LogTallies::default())
    }

    fn tail(&self) -> broadcast::Receiver<Arc<TailBatch>> {
        self.logs.tail()
    }
}

impl Planner<'_> {
    fn note(&self, (matchers, range): (&[Matcher], TimeRange), needles: Vec<String>, columns: &[&str], plan: LogPlan) {
        let selection = Selection {
            selector: query_logql::selector_text(matchers),
            start_ns: range.start.0.to_string(),
            end_ns: range.end.0.saturating_sub(1).to_string(),
            needles,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            blocks_outside: plan.blocks_outside,
            blocks: plan.blocks.into_iter().map(block).collect(),
            head_records: plan.head_records,
        };
        self.selections.lock().unwrap_or_else(PoisonError::into_inner).push(selection);
    }
}

fn needle(needle: &Needle) -> String {
    match needle {
        Needle::Line(text) => format!("the line holds {text:?}"),
        Needle::LineFold(text) => format!("the line holds {text:?} in any case"),
        Needle::Field { name, value } => format!("{name} is {value:?}, or the line holds that as a word"),
        Needle::Any(any) => any.iter().map(self::needle).collect::<Vec<_>>().join(" or "),
    }
}

fn block(plan: LogBlockPlan) -> BlockPlan {
    BlockPlan {
        block: plan.name,
        records: plan.records,
        pages: plan.pages,
        streams: plan.streams,
        pages_inside: plan.pages_inside,
        by_index: plan.by_index,
        pages_read: plan.pages_read,
        records_read: plan.records_read,
        bytes_read: plan.bytes_read,
        records_counted: plan.records_counted,
    }
}

/// Tells what a log query would read.
pub(super) fn of_lines(
    query: &LogQuery<'_>,
    logs: &dyn LogQuerier,
    context: &QueryContext,
) -> Result<Vec<u8>, LokiError> {
    let planner = Planner { logs, selections: Mutex::default() };
    // Lines that lie too near are left out when they were read.
    query_logql::select_logs(&LogQuery { interval_ns: 0, ..query.clone() }, &planner, context)?;
    answer(planner, context)
}

/// Tells what a metric query would read.
pub(super) fn of_numbers(
    metric: &MetricExpr,
    steps: Steps,
    logs: &dyn LogQuerier,
    context: &QueryContext,
) -> Result<Vec<u8>, LokiError> {
    let planner = Planner { logs, selections: Mutex::default() };
    query_logql::evaluate(metric, steps, &planner, context)?;
    answer(planner, context)
}

fn answer(planner: Planner<'_>, context: &QueryContext) -> Result<Vec<u8>, LokiError> {
    let selections = planner.selections.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut total = Total::default();
    for selection in &selections {
        total.records_read += selection.head_records;
        for block in &selection.blocks {
            total.blocks += 1;
            total.blocks_read += u64::from(block.pages_read > 0);
            total.pages_inside += block.pages_inside;
            total.pages_read += block.pages_read;
            total.records_read += block.records_read;
            total.bytes_read += block.bytes_read;
            total.records_counted += block.records_counted;
        }
    }
    let plan = QueryPlan { result_type: "plan".to_owned(), selections, total };
    json_bytes(&Response::success(plan).with_warnings(context.take_warnings()))
}
