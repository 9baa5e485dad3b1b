//! Pipelines: what is done with each row, ready to run.

pub(crate) mod ip;
pub(crate) mod json;
mod label;
mod line;
pub(crate) mod logfmt;

use std::borrow::Cow;
use std::sync::LazyLock;

use model::Timestamp;

use crate::ast::{Conversion, LabelFilter, LabelFormat, LogExpr, NamedMatcher, Stage, Unwrap};
use crate::error::ParseError;
use crate::go;
use crate::pattern::Pattern;
use crate::row::{ERROR, ERROR_DETAILS, Hints, PRESERVE_ERROR, RowLabels, SeriesLabels};
use crate::template::Template;
use label::CompiledLabel;
use line::{CompiledLine, LeadingLines};

/// What `__error__` says when a template fails.
const TEMPLATE_ERROR: &str = "TemplateFormatErr";
/// What `__error__` says when an unwrapped value is no number.
const EXTRACTION_ERROR: &str = "SampleExtractionErr";

/// ANSI's colour and cursor sequences.
static COLORS: LazyLock<Option<regex::Regex>> = LazyLock::new(|| {
    regex::Regex::new(
        "[\u{1b}\u{9b}][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z0-9]*(?:;[a-zA-Z0-9]*)*)?\u{7})|(?:(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PRZcf-ntqry=><~]))",
    )
    .ok()
});

/// One step, ready to run.
#[derive(Debug)]
enum Step {
    Line(CompiledLine),
    Label(CompiledLabel),
    Json,
    JsonPaths(json::JsonPaths),
    Logfmt(logfmt::Logfmt),
    Regexp(regex::Regex),
    Pattern(Pattern),
    Unpack,
    Decolorize,
    LineFormat(Template),
    LabelFormat(Vec<(String, Format)>),
    Drop(Vec<NamedMatcher>),
    Keep(Vec<NamedMatcher>),
}

#[derive(Debug)]
enum Format {
    Rename(String),
    Template(Template),
}

/// A pipeline, ready to run. It keeps no state: one serves all threads.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Line filters that come first: they need no labels.
    leading: LeadingLines,
    steps: Vec<Step>,
    pub(crate) hints: Hints,
}

/// What a row gives for a metric query.
#[derive(Debug)]
pub(crate) struct Extractor {
    pipeline: Pipeline,
    value: RowValue,
    series: SeriesLabels,
}

#[derive(Debug)]
enum RowValue {
    One,
    Bytes,
    Label { name: String, conversion: Conversion, filters: Vec<CompiledLabel> },
}

fn stage_error(stage: &Stage, error: &str) -> ParseError {
    if error.starts_with(label::UNREAD_NUMBER) {
        return ParseError::whole(error);
    }
    ParseError::whole(format!("stage '{stage}' : {error}"))
}

impl Pipeline {
    /// Prepares the stages of a log query.
    ///
    /// # Errors
    /// Patterns and templates that do not compile.
    pub(crate) fn new(log: &LogExpr) -> Result<Self, ParseError> {
        Self::of(log.stages.iter().collect())
    }

    fn of(stages: Vec<&Stage>) -> Result<Self, ParseError> {
        let mut leading = LeadingLines::default();
        let mut steps = Vec::new();
        for stage in ordered(stages) {
            match (step(stage).map_err(|error| stage_error(stage, &error))?, stage) {
                (Step::Line(compiled), Stage::LineFilter(filter)) if steps.is_empty() => leading.push(compiled, filter),
                (step, _) => steps.push(step),
            }
        }
        Ok(Self { leading, steps, hints: Hints::default() })
    }

    /// Returns the filters that come first, when there are any.
    pub(crate) fn filter(&self) -> Option<&dyn storage_api::LineFilter> {
        (!self.leading.is_empty()).then_some(&self.leading as _)
    }

    /// Says whether each row passes that passes the filters which come first.
    pub(crate) fn keeps_rows(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step, Step::Line(_) | Step::Label(_)))
    }

    /// Tests a line with the filters that come first, before its labels are gathered.
    pub(crate) fn passes(&self, line: &str) -> bool {
        self.leading.keeps(line)
    }

    /// Runs a row that [`passes`](Self::passes) through the rest; `None` when it is left out.
    pub(crate) fn process<'l>(&'l self, at: Timestamp, line: &'l str, row: &mut RowLabels<'l>) -> Option<Cow<'l, str>> {
        let mut line = Cow::Borrowed(line);
        for step in &self.steps {
            line = step.process(at, line, row, &self.hints)?;
        }
        Some(line)
    }

    /// Collects the labels that the steps look at.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for step in &self.steps {
            match step {
                Step::Label(filter) => filter.names(&mut names),
                Step::LineFormat(template) => template.fields(&mut names),
                Step::LabelFormat(formats) => formats.iter().for_each(|(_, format)| match format {
                    Format::Rename(source) => names.push(source.clone()),
                    Format::Template(template) => template.fields(&mut names),
                }),
                _ => {}
            }
        }
        names
    }
}

/// Leaves out each `line_format` whose line nothing looks at any more: where lines are counted, it has no effect but the
/// errors of its template, and Loki does not run it either.
fn without_idle_formats(stages: &[Stage]) -> Vec<&Stage> {
    let reads_line = |stage: &Stage| match stage {
        Stage::LineFilter(_)
        | Stage::Json(_)
        | Stage::Logfmt { .. }
        | Stage::Regexp(_)
        | Stage::Pattern(_)
        | Stage::Unpack => true,
        Stage::LabelFilter(_)
        | Stage::LineFormat(_)
        | Stage::LabelFormat(_)
        | Stage::Decolorize
        | Stage::Drop(_)
        | Stage::Keep(_) => false,
    };
    let read_until = stages.iter().rposition(reads_line).unwrap_or(0);
    let kept = |(i, stage): (usize, &&Stage)| i < read_until || !matches!(stage, Stage::LineFormat(_));
    stages.iter().enumerate().filter(|(i, stage)| kept((*i, stage))).map(|(_, stage)| stage).collect()
}

/// Moves line filters before what does not change the line, as Loki does: they cost least.
fn ordered(stages: Vec<&Stage>) -> Vec<&Stage> {
    let mut out = Vec::with_capacity(stages.len());
    let (mut filters, mut others) = (Vec::new(), Vec::new());
    for stage in stages {
        let closes = match stage {
            Stage::LineFilter(_) => {
                filters.push(stage);
                continue;
            }
            Stage::LabelFilter(_) => {
                out.append(&mut filters);
                out.append(&mut others);
                out.push(stage);
                continue;
            }
            Stage::LineFormat(_) | Stage::Unpack => true,
            _ => false,
        };
        others.push(stage);
        if closes {
            out.append(&mut filters);
            out.append(&mut others);
        }
    }
    out.append(&mut filters);
    out.append(&mut others);
    out
}

fn step(stage: &Stage) -> Result<Step, String> {
    Ok(match stage {
        Stage::LineFilter(filter) => Step::Line(CompiledLine::new(filter)?),
        Stage::LabelFilter(filter) => Step::Label(CompiledLabel::new(filter)?),
        Stage::Json(extractions) if extractions.is_empty() => Step::Json,
        Stage::Json(extractions) => Step::JsonPaths(json::JsonPaths::new(extractions)?),
        Stage::Logfmt { strict, keep_empty, extractions } => {
            Step::Logfmt(logfmt::Logfmt::new(*strict, *keep_empty, extractions)?)
        }
        Stage::Regexp(pattern) => Step::Regexp(crate::regex::with_names(pattern)?),
        Stage::Pattern(text) => Step::Pattern(Pattern::new(text)?),
        Stage::Unpack => Step::Unpack,
        Stage::Decolorize => Step::Decolorize,
        Stage::LineFormat(template) => Step::LineFormat(
            Template::new("line", template).map_err(|error| format!("invalid line template: {error}"))?,
        ),
        Stage::LabelFormat(formats) => Step::LabelFormat(label_formats(formats)?),
        Stage::Drop(names) => Step::Drop(names.clone()),
        Stage::Keep(names) => Step::Keep(names.clone()),
    })
}

fn label_formats(formats: &[LabelFormat]) -> Result<Vec<(String, Format)>, String> {
    let mut out: Vec<(String, Format)> = Vec::new();
    for LabelFormat { name, value, rename } in formats {
        if name == ERROR {
            return Err(format!("{name} cannot be formatted"));
        }
        if out.iter().any(|(have, _)| have == name) {
            return Err(format!("multiple label name '{name}' not allowed in a single format operation"));
        }
        let format = if *rename {
            Format::Rename(value.clone())
        } else {
            let template =
                Template::new("label", value).map_err(|error| format!("invalid template for label '{name}': {error}"));
            Format::Template(template?)
        };
        out.push((name.clone(), format));
    }
    Ok(out)
}

impl Step {
    /// Runs a parser on the line; `keep` makes what it takes out of the line live as long as the row's labels.
    fn parse<'x, 'l>(
        &'l self,
        line: &'x str,
        row: &mut RowLabels<'l>,
        hints: &Hints,
        keep: impl Fn(Cow<'x, str>) -> Cow<'l, str> + Copy,
    ) {
        match self {
            Self::Json => json::json(line, row, hints, keep),
            Self::JsonPaths(paths) => paths.process(line, row, hints, keep),
            Self::Logfmt(logfmt) => logfmt.process(line, row, hints, keep),
            Self::Regexp(regex) => regexp(regex, line, row, hints, keep),
            Self::Pattern(pattern) if !hints.skips(row) => pattern.captures(line, |name, value| {
                set_wanted(name, keep(value.into()), row, hints);
                true
            }),
            _ => {}
        }
    }

    fn process<'l>(
        &'l self,
        at: Timestamp,
        line: Cow<'l, str>,
        row: &mut RowLabels<'l>,
        hints: &Hints,
    ) -> Option<Cow<'l, str>> {
        match self {
            Self::Line(filter) => return filter.keeps(&line).then_some(line),
            Self::Label(filter) => return filter.keeps(row).then_some(line),
            Self::Json | Self::JsonPaths(_) | Self::Logfmt(_) | Self::Regexp(_) | Self::Pattern(_) => match &line {
                // What is taken out of a page's line stays where it is.
                Cow::Borrowed(line) => self.parse(line, row, hints, |part| part),
                Cow::Owned(line) => self.parse(line.as_str(), row, hints, |part| Cow::Owned(part.into_owned())),
            },
            Self::Unpack => return Some(json::unpack(line, row, hints)),
            Self::Decolorize => {
                let Some(colors) = COLORS.as_ref().filter(|colors| colors.is_match(&line)) else { return Some(line) };
                return Some(Cow::Owned(colors.replace_all(&line, "").into_owned()));
            }
            Self::LineFormat(template) => {
                return Some(match template.render(at, &line, row) {
                    Ok(text) => Cow::Owned(text),
                    Err(error) => {
                        row.fail(TEMPLATE_ERROR, error);
                        line
                    }
                });
            }
            Self::LabelFormat(formats) => format_labels(formats, at, &line, row),
            Self::Drop(names) => names.iter().for_each(|name| drop_label(name, row)),
            Self::Keep(names) => keep_labels(names, row),
        }
        Some(line)
    }
}

fn set_wanted<'l>(name: &'l str, value: Cow<'l, str>, row: &mut RowLabels<'l>, hints: &Hints) {
    let name = row.parsed_name(name);
    if hints.wants(&name) && !row.is_extracted(&name) {
        row.set_parsed(name, value);
    }
}

fn regexp<'x, 'l>(
    regex: &'l regex::Regex,
    line: &'x str,
    row: &mut RowLabels<'l>,
    hints: &Hints,
    keep: impl Fn(Cow<'x, str>) -> Cow<'l, str>,
) {
    let Some(captures) = regex.captures(line) else { return };
    for (i, name) in regex.capture_names().enumerate() {
        let Some(name) = name else { continue };
        // A group that took no part is there, and empty.
        let value = captures.get(i).map_or("", |found| found.as_str());
        set_wanted(name, keep(value.into()), row, hints);
    }
}

fn format_labels<'l>(formats: &'l [(String, Format)], at: Timestamp, line: &str, row: &mut RowLabels<'l>) {
    // All templates see the labels as they are when the first of them is met.
    let mut seen = None;
    for (name, format) in formats {
        match format {
            Format::Rename(source) => {
                if let Some(value) = row.get(source).map(str::to_owned) {
                    row.set_parsed(name.as_str(), value);
                    row.delete(source);
                }
            }
            Format::Template(template) => {
                let labels: &Vec<(String, String)> = seen.get_or_insert_with(|| {
                    row.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
                });
                match template.render_with(at, line, labels) {
                    Ok(value) => row.set_parsed(name.as_str(), value),
                    Err(error) => row.fail(TEMPLATE_ERROR, error),
                }
            }
        }
    }
}

fn drop_label(name: &NamedMatcher, row: &mut RowLabels<'_>) {
    let (label, matcher) = match name {
        NamedMatcher::Name(name) => (name.as_str(), None),
        NamedMatcher::Matcher(matcher) => (matcher.name.as_str(), Some(matcher)),
    };
    let passes = |value: &str| matcher.is_none_or(|matcher| matcher.matches(value));
    match label {
        ERROR if passes(row.error) => row.error = "",
        ERROR_DETAILS if passes(&row.error_details) => row.error_details.clear(),
        ERROR | ERROR_DETAILS => {}
        label => {
            let drops = match row.get(label) {
                Some(value) => passes(value),
                None => false,
            };
            if drops {
                row.delete(label);
            }
        }
    }
}

fn keep_labels(names: &[NamedMatcher], row: &mut RowLabels<'_>) {
    let kept = |label: &str, value: &str| {
        names.iter().any(|name| match name {
            NamedMatcher::Name(name) => name == label,
            NamedMatcher::Matcher(matcher) => matcher.name == label && matcher.matches(value),
        })
    };
    let special = |label: &str| matches!(label, ERROR | ERROR_DETAILS | PRESERVE_ERROR);
    let dropped: Vec<String> = row
        .iter()
        .filter(|(label, value)| !special(label) && !kept(label, value))
        .map(|(label, _)| label.to_owned())
        .collect();
    dropped.iter().for_each(|label| row.delete(label));
}

impl Extractor {
    /// Prepares a row's value: 1, the line's bytes, or an unwrapped label.
    ///
    /// # Errors
    /// As [`Pipeline::new`].
    pub(crate) fn new(
        log: &LogExpr,
        unwrap: Option<&Unwrap>,
        bytes: bool,
        mut series: SeriesLabels,
    ) -> Result<Self, ParseError> {
        let mut pipeline =
            Pipeline::of(if bytes { log.stages.iter().collect() } else { without_idle_formats(&log.stages) })?;
        let mut names = pipeline.names();
        let value = match unwrap {
            None if bytes => RowValue::Bytes,
            None => RowValue::One,
            Some(Unwrap { name, conversion, filters }) => {
                let compile = |filter: &LabelFilter| {
                    CompiledLabel::new(filter)
                        .map_err(|error| ParseError::whole(format!("stage '| {filter}' : {error}")))
                };
                let filters: Vec<CompiledLabel> = filters.iter().map(compile).collect::<Result<_, _>>()?;
                filters.iter().for_each(|filter| filter.names(&mut names));
                names.push(name.clone());
                // Without grouping, the unwrapped label is no part of the series.
                series = match series {
                    SeriesLabels::All => SeriesLabels::Without(vec![name.clone()]),
                    SeriesLabels::Without(mut without) => {
                        without.push(name.clone());
                        SeriesLabels::Without(without)
                    }
                    other => other,
                };
                RowValue::Label { name: name.clone(), conversion: *conversion, filters }
            }
        };
        pipeline.hints = Hints::new(&series, names);
        Ok(Self { pipeline, value, series })
    }

    /// Returns the labels that stages, value and series look at; `None` when that may be any.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        let whole = self
            .pipeline
            .steps
            .iter()
            .any(|step| matches!(step, Step::LineFormat(_) | Step::LabelFormat(_) | Step::Drop(_) | Step::Keep(_)));
        let mut names = self.pipeline.names();
        match &self.series {
            SeriesLabels::None => {}
            SeriesLabels::By(by) => names.extend(by.iter().cloned()),
            SeriesLabels::All | SeriesLabels::Without(_) => return None,
        }
        if let RowValue::Label { name, filters, .. } = &self.value {
            names.push(name.clone());
            filters.iter().for_each(|filter| filter.names(&mut names));
        }
        // A name with the suffix may stand for metadata that the stream's label pushed aside.
        (!whole && names.iter().all(|name| !name.ends_with("_extracted"))).then_some(names)
    }

    /// Says whether a label of this name can matter.
    pub(crate) fn asks_for(&self, name: &str) -> bool {
        self.names().is_none_or(|names| names.iter().any(|have| have == name))
    }

    /// Says whether the value of a row depends on its line, beside the filters that come first.
    pub(crate) fn needs_lines(&self) -> bool {
        let is_blind = |step: &Step| matches!(step, Step::Label(_) | Step::Drop(_) | Step::Keep(_));
        matches!(self.value, RowValue::Bytes) || !self.pipeline.steps.iter().all(is_blind)
    }

    /// Returns which labels name the series.
    pub(crate) fn series(&self) -> &SeriesLabels {
        &self.series
    }

    /// See [`Pipeline::filter`].
    pub(crate) fn filter(&self) -> Option<&dyn storage_api::LineFilter> {
        self.pipeline.filter()
    }

    /// Runs a row that passed the filters which come first through the rest and returns its value; `None` when it is left out. Then the row's labels name the series.
    pub(crate) fn process<'l>(&'l self, at: Timestamp, line: &'l str, row: &mut RowLabels<'l>) -> Option<f64> {
        let line = self.pipeline.process(at, line, row)?;
        match &self.value {
            RowValue::One => Some(1.0),
            #[expect(clippy::cast_precision_loss, reason = "lines are far below 2^53 bytes")]
            RowValue::Bytes => Some(line.len() as f64),
            RowValue::Label { name, conversion, filters } => {
                let text = row.get(name).filter(|text| !text.is_empty())?;
                let value = match convert(*conversion, text) {
                    Ok(value) => value,
                    Err(details) => {
                        row.fail(EXTRACTION_ERROR, details);
                        0.0
                    }
                };
                filters.iter().all(|filter| filter.keeps(row)).then_some(value)
            }
        }
    }
}

fn convert(conversion: Conversion, text: &str) -> Result<f64, String> {
    match conversion {
        Conversion::Number => go::parse_float(text).ok_or_else(|| go::float_error(text)),
        #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
        Conversion::Bytes => go::parse_bytes(text).map(|bytes| bytes as f64),
        #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
        Conversion::Duration | Conversion::DurationSeconds => {
            go::parse_duration(text).map(|nanos| nanos as f64 / 1e9).ok_or_else(|| go::duration_error(text))
        }
    }
}
