//! `detected_labels`, `detected_fields` and a field's values: what is worth offering to someone who explores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{self, Request};
use query_logql::{Direction, Field, LogExpr, LogQuery};
use query_wire::loki::{DetectedField, DetectedFieldValues, DetectedFields, DetectedLabel, DetectedLabels};
use storage_api::{LogQuerier, QueryContext};

use super::error::LokiError;
use super::params::{Params, SINCE_LABELS_NS, SINCE_QUERY_NS};
use super::{Answer, State, json_answer, json_bytes};

/// Fields told unless the request says otherwise.
const FIELDS_DEFAULT: usize = 1000;

/// Lines looked at unless the request says otherwise.
const LINES_DEFAULT: usize = 100;

/// What a value takes beside its text, about.
const VALUE_BYTES: usize = 64;

/// Tells the streams' labels with how many values each has. Labels of nothing but ids are left out: nobody picks one.
pub(super) async fn labels(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let range = params.range(state.services.clock.now_nanos(), SINCE_LABELS_NS)?;
    let selectors = vec![super::labels::selector(params.get("query"))?];
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let streams = logs.streams(&selectors, range, context)?;
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, value) in streams.iter().flat_map(|stream| stream.iter()) {
            values.entry(name).or_default().insert(value);
        }
        let told = values.iter().filter(|(_, values)| !values.iter().all(|value| is_id(value)));
        let detected_labels = told
            .map(|(name, values)| DetectedLabel { label: (*name).to_owned(), cardinality: values.len() as u64 })
            .collect();
        json_bytes(&DetectedLabels { detected_labels })
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}

/// Says whether a value is a number or a UUID.
fn is_id(value: &str) -> bool {
    let uuid = value.len() == 36
        && value
            .char_indices()
            .all(|(i, c)| if matches!(i, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() });
    uuid || value.parse::<f64>().is_ok()
}

#[derive(Debug, Default)]
struct Found {
    values: BTreeSet<String>,
    parsers: BTreeSet<&'static str>,
    json_path: Vec<String>,
}

impl Found {
    /// Adds a value; one that is new counts for the query's memory.
    fn add(&mut self, value: String, context: &QueryContext) -> Result<(), LokiError> {
        let size_bytes = (value.len() + VALUE_BYTES) as u64;
        if self.values.insert(value) {
            context.charge_memory(size_bytes)?;
        }
        Ok(())
    }
}

/// Looks at the newest lines.
fn look(
    log: &LogExpr,
    range: model::TimeRange,
    lines: usize,
    logs: &dyn LogQuerier,
    context: &QueryContext,
) -> Result<BTreeMap<String, Found>, LokiError> {
    let query = LogQuery { log, range, limit: lines, direction: Direction::Backward, interval_ns: 0 };
    let entries = query_logql::select_logs(&query, logs, context)?;
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for entry in &entries {
        let special = |name: &str| name.starts_with("__");
        let known = entry.labels.metadata.iter().chain(entry.labels.parsed.iter());
        for (name, value) in known.filter(|(name, _)| !special(name)) {
            found.entry(name.to_owned()).or_default().add(value.to_owned(), context)?;
        }
        for Field { name, value, parser, json_path } in query_logql::fields(&entry.line) {
            let name = if entry.labels.stream.get(&name).is_some() { format!("{name}_extracted") } else { name };
            let field = found.entry(name).or_default();
            field.add(value, context)?;
            field.parsers.insert(parser);
            field.json_path = json_path;
        }
    }
    Ok(found)
}

/// Names what a field's values are.
fn kind(values: &BTreeSet<String>) -> &'static str {
    let all = |test: &dyn Fn(&str) -> bool| values.iter().all(|value| test(value));
    if values.is_empty() {
        "string"
    } else if all(&|value| value.parse::<i64>().is_ok()) {
        "int"
    } else if all(&|value| value.parse::<f64>().is_ok()) {
        "float"
    } else if all(&|value| matches!(value, "true" | "false")) {
        "boolean"
    } else if all(&|value| query_logql::parse_duration(value).is_some()) {
        "duration"
    } else if all(&|value| query_logql::is_size(value)) {
        "bytes"
    } else {
        "string"
    }
}

/// Tells the fields in the newest lines and in their metadata.
pub(super) async fn fields(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let log = query_logql::parse_log(params.get("query"))?;
    let range = params.range(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    let limit = params.count("limit", FIELDS_DEFAULT)?;
    let lines = params.count("line_limit", LINES_DEFAULT)?;
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let found = look(&log, range, lines, logs.as_ref(), context)?;
        let field = |(label, found): (String, Found)| DetectedField {
            label,
            kind: kind(&found.values).to_owned(),
            cardinality: found.values.len() as u64,
            parsers: (!found.parsers.is_empty()).then(|| found.parsers.into_iter().map(str::to_owned).collect()),
            json_path: found.json_path,
        };
        let fields = found.into_iter().take(limit).map(field).collect();
        json_bytes(&DetectedFields { fields, limit: limit as u64 })
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}

/// Tells the values of one field in the newest lines.
pub(super) async fn field_values(extract::State(state): extract::State<State>, request: Request) -> Answer {
    let (name, params) = super::labels::name_and_params(&state, request).await?;
    let log = query_logql::parse_log(params.get("query"))?;
    let range = params.range(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    let limit = params.count("limit", FIELDS_DEFAULT)?;
    let lines = params.count("line_limit", LINES_DEFAULT)?;
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let mut found = look(&log, range, lines, logs.as_ref(), context)?;
        let values = found.remove(&name).unwrap_or_default().values;
        json_bytes(&DetectedFieldValues { values: values.into_iter().take(limit).collect(), limit: limit as u64 })
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}
