//! A query's text in lines, as Loki lays it out for readers.
//!
//! What takes at most [`WIDTH_MAX`] bytes in its canonical form stays one line, however far it is indented; what takes more
//! is broken, one level of its parts at a time:
//!
//! * A pipeline: the selector, which is never broken, then a line for each stage, one level deeper. Line filters that
//!   follow each other are one stage; as many of them share its line as fit, the others get one each. `decolorize` alone
//!   stands at the margin.
//! * A function over a window: its name, the parameter, the pipeline and the closing parenthesis with the grouping on
//!   lines of their own; `unwrap` and each filter behind it, too, and behind the last the window and the offset.
//! * A function over series and `label_replace`: the name, each argument and the closing parenthesis.
//! * An operator: its sides one level deeper and itself between them, without parentheses.
//!
//! In what is broken, labels in lists are apart by a comma and a blank, and offsets are as short as windows.
//!
//! Where Loki's lines would be another query, or none, these stay the same one: alternatives of a line filter that stands in
//! a broken row of them (Loki forgets all but the first), `on ()` (it forgets that), `without ()` (it forgets the
//! parentheses) and offsets of less than a millisecond (it cuts that off).

use std::fmt::{self, Display, Write};

use crate::ast::{
    AggregateExpr, BinaryExpr, Cardinality, Expr, Grouping, LabelReplaceExpr, LogExpr, MetricExpr, RangeExpr, Stage,
};
use crate::go;

/// Most bytes of a line that is not broken, without its indentation.
const WIDTH_MAX: usize = 100;

const INDENT: &str = "  ";

/// Writes a query for readers: long ones take several lines.
#[must_use]
pub fn layout(expr: &Expr) -> String {
    let mut out = Layout { out: String::new() };
    match expr {
        Expr::Log(log) => out.log(log, 0),
        Expr::Metric(metric) => out.metric(metric, 0),
    }
    out.out
}

/// Counts what is written, up to the width.
struct Width(usize);

impl Write for Width {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        if self.0 > WIDTH_MAX { Err(fmt::Error) } else { Ok(()) }
    }
}

fn is_long(item: &dyn Display) -> bool {
    write!(Width(0), "{item}").is_err()
}

fn offset_text(nanos: i64) -> String {
    match nanos.unsigned_abs() {
        // It has no units for less than milliseconds.
        part if part % 1_000_000 != 0 => go::duration_text(nanos),
        _ => {
            let sign = if nanos < 0 { "-" } else { "" };
            format!("{sign}{}", go::prometheus_duration_text(nanos.saturating_abs()))
        }
    }
}

struct Layout {
    out: String,
}

impl Layout {
    fn indent(&mut self, level: usize) {
        for _ in 0..level {
            self.out.push_str(INDENT);
        }
    }

    /// Starts a line.
    fn line(&mut self, level: usize, text: &str) {
        self.out.push('\n');
        self.indent(level);
        self.out.push_str(text);
    }

    fn log(&mut self, log: &LogExpr, level: usize) {
        self.indent(level);
        if !is_long(log) {
            self.out.push_str(&log.to_string());
            return;
        }
        self.out.push_str(&super::selector_text(&log.matchers));
        let mut stages = log.stages.as_slice();
        while let Some((first, rest)) = stages.split_first() {
            match first {
                Stage::LineFilter(_) => {
                    let count = stages.iter().take_while(|stage| matches!(stage, Stage::LineFilter(_))).count();
                    let (filters, rest) = stages.split_at(count);
                    self.line_filters(filters, level + 1);
                    stages = rest;
                    continue;
                }
                Stage::Decolorize => self.line(0, &first.to_string()),
                stage => self.line(level + 1, &stage.to_string()),
            }
            stages = rest;
        }
    }

    fn line_filters(&mut self, filters: &[Stage], level: usize) {
        let mut width = 0;
        for filter in filters {
            let text = filter.to_string();
            let starts = width == 0;
            width += text.len() + usize::from(!starts);
            if starts || width > WIDTH_MAX {
                self.line(level, &text);
            } else {
                self.out.push(' ');
                self.out.push_str(&text);
            }
        }
    }

    fn metric(&mut self, metric: &MetricExpr, level: usize) {
        match metric {
            MetricExpr::Binary(binary) if is_long(metric) => return self.binary(binary, level),
            _ => self.indent(level),
        }
        match metric {
            MetricExpr::Range(range) if is_long(metric) => self.range(range, level),
            MetricExpr::Aggregate(aggregate) if is_long(metric) => self.aggregate(aggregate, level),
            MetricExpr::LabelReplace(replace) if is_long(metric) => self.label_replace(replace, level),
            short => self.out.push_str(&short.to_string()),
        }
    }

    fn range(&mut self, range: &RangeExpr, level: usize) {
        self.out.push_str(range.op.as_str());
        self.out.push('(');
        if let Some(parameter) = range.parameter {
            self.line(level + 1, &go::float_f(parameter));
            self.out.push(',');
        }
        self.out.push('\n');
        self.log(&range.log, level + 1);
        if let Some(unwrap) = &range.unwrap {
            self.line(level + 2, &unwrap.conversion_text());
            for filter in &unwrap.filters {
                self.line(level + 2, &format!("| {filter}"));
            }
        }
        self.out.push_str(&format!(" [{}]", go::prometheus_duration_text(range.range_ns)));
        if range.offset_ns != 0 {
            self.out.push_str(&format!(" offset {}", offset_text(range.offset_ns)));
        }
        self.line(level, ")");
        self.grouping(range.grouping.as_ref());
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr, level: usize) {
        self.out.push_str(aggregate.op.as_str());
        self.grouping(aggregate.grouping.as_ref());
        self.out.push('(');
        if let Some(parameter) = aggregate.parameter {
            self.line(level + 1, &format!("{parameter},"));
        }
        self.out.push('\n');
        self.metric(&aggregate.inner, level + 1);
        self.line(level, ")");
    }

    /// Writes a grouping; one by no labels is none.
    fn grouping(&mut self, grouping: Option<&Grouping>) {
        match grouping {
            Some(Grouping { without, labels }) if *without || !labels.is_empty() => {
                self.out.push_str(if *without { " without" } else { " by" });
                self.out.push_str(&format!(" ({})", labels.join(", ")));
            }
            _ => {}
        }
    }

    fn label_replace(&mut self, replace: &LabelReplaceExpr, level: usize) {
        self.out.push_str("label_replace(\n");
        self.metric(&replace.inner, level + 1);
        for text in [&replace.target, &replace.replacement, &replace.source, &replace.pattern] {
            self.out.push(',');
            self.line(level + 1, &go::quote(text));
        }
        self.line(level, ")");
    }

    fn binary(&mut self, binary: &BinaryExpr, level: usize) {
        self.metric(&binary.left, level + 1);
        self.line(level, binary.op.as_str());
        if binary.return_bool {
            self.out.push_str(" bool");
        }
        let matching = &binary.matching;
        if let Some(labels) = matching.labels.as_ref().filter(|labels| matching.on || !labels.is_empty()) {
            let word = if matching.on { "on" } else { "ignoring" };
            self.out.push_str(&format!(" {word} ({}) ", labels.join(", ")));
            self.out.push_str(match matching.card {
                Cardinality::OneToOne => "",
                Cardinality::ManyToOne => "group_left",
                Cardinality::OneToMany => "group_right",
            });
            if let Some(include) = matching.include.as_ref().filter(|include| !include.is_empty()) {
                self.out.push_str(&format!(" ({})", include.join(", ")));
            }
        }
        self.out.push('\n');
        self.metric(&binary.right, level + 1);
    }
}

#[cfg(test)]
mod tests;
