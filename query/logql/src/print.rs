//! A query's canonical text, as Loki prints it.

mod layout;

use std::fmt;

use model::{MatchOp, Matcher};

use crate::ast::{
    AggregateExpr, BinaryExpr, Cardinality, Conversion, Expr, Extraction, Grouping, LabelFilter, LabelFormat,
    LabelReplaceExpr, LineFilter, LineNeedle, LogExpr, MetricExpr, NamedMatcher, RangeExpr, Stage, Unwrap,
};
use crate::{go, simplify};

pub use layout::layout;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

fn joined<T: fmt::Display>(f: &mut fmt::Formatter<'_>, separator: &str, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

/// Prints a matcher as Loki does: Go's quoting, and the name in quotes when it is no plain one.
struct Shown<'a>(&'a Matcher);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matcher { name, op, value, .. } = self.0;
        let plain = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || i > 0 && c.is_ascii_digit();
        if !name.is_empty() && name.chars().enumerate().all(plain) {
            write!(f, "{name}{}{}", op.as_str(), go::quote(value))
        } else {
            write!(f, "{}{}{}", go::quote(name), op.as_str(), go::quote(value))
        }
    }
}

/// Writes a stream selector as Loki does.
#[must_use]
pub fn selector_text(matchers: &[Matcher]) -> String {
    let shown: Vec<String> = matchers.iter().map(|matcher| Shown(matcher).to_string()).collect();
    format!("{{{}}}", shown.join(", "))
}

impl fmt::Display for LogExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&selector_text(&self.matchers))?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineFilter(filter) => filter.fmt(f),
            Self::Json(extractions) => {
                f.write_str("| json")?;
                if !extractions.is_empty() {
                    f.write_str(" ")?;
                }
                joined(f, ",", extractions)
            }
            Self::Logfmt { strict, keep_empty, extractions } => {
                f.write_str("| logfmt")?;
                f.write_str(if *strict { " --strict" } else { "" })?;
                f.write_str(if *keep_empty { " --keep-empty" } else { "" })?;
                if !extractions.is_empty() {
                    f.write_str(" ")?;
                }
                joined(f, ",", extractions)
            }
            Self::Regexp(pattern) => write!(f, "| regexp {}", go::quote(pattern)),
            Self::Pattern(pattern) => write!(f, "| pattern {}", go::quote(pattern)),
            Self::Unpack => f.write_str("| unpack"),
            Self::LabelFilter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", go::quote(template)),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                joined(f, ",", formats)
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(names) => {
                f.write_str("| drop ")?;
                joined(f, ",", names)
            }
            Self::Keep(names) => {
                f.write_str("| keep ")?;
                joined(f, ",", names)
            }
        }
    }
}

impl fmt::Display for LineFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.op.as_str())?;
        joined(f, " or ", &self.alternatives)
    }
}

impl fmt::Display for LineNeedle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&go::quote(text)),
            Self::Ip(pattern) => write!(f, "ip({})", go::quote(pattern)),
        }
    }
}

impl fmt::Display for Extraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, go::quote(&self.expression))
    }
}

impl fmt::Display for LabelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rename {
            true => write!(f, "{}={}", self.name, self.value),
            false => write!(f, "{}={}", self.name, go::quote(&self.value)),
        }
    }
}

impl fmt::Display for NamedMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Matcher(matcher) => Shown(matcher).fmt(f),
        }
    }
}

impl fmt::Display for LabelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Loki shows a pattern in backquotes where it could not turn it into plain searches.
            Self::Text(matcher) if matcher.op == MatchOp::Regex && !simplify::is_simple(&matcher.value) => {
                let Matcher { name, value, .. } = matcher;
                match value.contains('`') {
                    true => write!(f, "{name}=~{}", go::quote(value)),
                    false => write!(f, "{name}=~`{value}`"),
                }
            }
            Self::Text(matcher) => Shown(matcher).fmt(f),
            Self::Number { name, compare, value, .. } => write!(f, "{name}{}{}", compare.as_str(), go::float_f(*value)),
            Self::Duration { name, compare, nanos } => {
                write!(f, "{name}{}{}", compare.as_str(), go::duration_text(*nanos))
            }
            Self::Bytes { name, compare, bytes } => write!(f, "{name}{}{}", compare.as_str(), go::bytes_text(*bytes)),
            Self::Ip { name, negative, pattern } => {
                write!(f, "{name}{}ip({})", if *negative { "!=" } else { "=" }, go::quote(pattern))
            }
            Self::And(left, right) => write!(f, "( {left} , {right} )"),
            Self::Or(left, right) => write!(f, "( {left} or {right} )"),
        }
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {} ({})", if self.without { "without" } else { "by" }, self.labels.join(","))
    }
}

impl Unwrap {
    /// Writes what is unwrapped, without the filters behind it.
    fn conversion_text(&self) -> String {
        let name = &self.name;
        match self.conversion {
            Conversion::Number => format!("| unwrap {name}"),
            Conversion::Bytes => format!("| unwrap bytes({name})"),
            Conversion::Duration => format!("| unwrap duration({name})"),
            Conversion::DurationSeconds => format!("| unwrap duration_seconds({name})"),
        }
    }
}

impl fmt::Display for Unwrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {}", self.conversion_text())?;
        self.filters.iter().try_for_each(|filter| write!(f, " | {filter}"))
    }
}

impl fmt::Display for RangeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(parameter) = self.parameter {
            write!(f, "{},", go::float_f(parameter))?;
        }
        write!(f, "{}", self.log)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, "{unwrap}")?;
        }
        write!(f, "[{}]", go::prometheus_duration_text(self.range_ns))?;
        if self.offset_ns != 0 {
            write!(f, " offset {}", go::duration_text(self.offset_ns))?;
        }
        f.write_str(")")?;
        self.grouping.iter().try_for_each(|grouping| grouping.fmt(f))
    }
}

impl fmt::Display for AggregateExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if let Some(grouping) =
            self.grouping.as_ref().filter(|grouping| grouping.without || !grouping.labels.is_empty())
        {
            grouping.fmt(f)?;
        }
        f.write_str("(")?;
        if let Some(parameter) = self.parameter {
            write!(f, "{parameter},")?;
        }
        write!(f, "{})", self.inner)
    }
}

impl fmt::Display for BinaryExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {}", self.left, self.op.as_str())?;
        if self.return_bool {
            f.write_str(" bool")?;
        }
        let matching = &self.matching;
        if let Some(labels) = matching.labels.as_ref().filter(|labels| matching.on || !labels.is_empty()) {
            write!(f, " {} ({}) ", if matching.on { "on" } else { "ignoring" }, labels.join(","))?;
            f.write_str(match matching.card {
                Cardinality::OneToOne => "",
                Cardinality::ManyToOne => "group_left",
                Cardinality::OneToMany => "group_right",
            })?;
            if let Some(include) = &matching.include {
                write!(f, " ({})", include.join(","))?;
            }
        }
        write!(f, " {})", self.right)
    }
}

impl fmt::Display for LabelReplaceExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "label_replace({},{},{},{},{})",
            self.inner,
            go::quote(&self.target),
            go::quote(&self.replacement),
            go::quote(&self.source),
            go::quote(&self.pattern)
        )
    }
}

impl fmt::Display for MetricExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(value) => f.write_str(&go::float_v(*value)),
            Self::Vector(value) => write!(f, "vector({value:.6})"),
            Self::Range(range) => range.fmt(f),
            Self::Aggregate(aggregate) => aggregate.fmt(f),
            Self::Binary(binary) => binary.fmt(f),
            Self::LabelReplace(replace) => replace.fmt(f),
        }
    }
}
