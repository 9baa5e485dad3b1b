//! The arguments of a call, and what may be wrong with them.

use std::cell::Cell;

use super::decimal::{self, Operator};
use super::value::Value;

/// Says what is wrong with this many arguments of a function.
pub(super) fn count_fault(name: &str, count: usize) -> Option<String> {
    let (least, most) = match name {
        "__line__" | "__timestamp__" | "now" => (0, Some(0)),
        "print" | "println" | "html" | "js" | "urlquery" | "add" | "addf" => (0, None),
        "printf" | "index" | "slice" | "eq" | "and" | "or" | "default" | "mul" | "subf" | "mulf" | "divf" | "max"
        | "min" | "maxf" | "minf" => (1, None),
        "round" => (2, None),
        "ne" | "lt" | "le" | "gt" | "ge" | "sub" | "div" | "mod" | "Trim" | "TrimLeft" | "TrimRight" | "TrimPrefix"
        | "TrimSuffix" | "count" | "alignLeft" | "alignRight" | "trunc" | "contains" | "hasPrefix" | "hasSuffix"
        | "indent" | "nindent" | "repeat" | "trimAll" | "trimPrefix" | "trimSuffix" | "date" | "toDate" => (2, Some(2)),
        "regexReplaceAll" | "regexReplaceAllLiteral" | "toDateInZone" | "substr" | "replace" => (3, Some(3)),
        "Replace" => (4, Some(4)),
        _ => (1, Some(1)),
    };
    match most {
        Some(wanted) if count != wanted => Some(format!("wrong number of args for {name}: want {wanted} got {count}")),
        None if count < least => Some(format!("wrong number of args for {name}: want at least {least} got {count}")),
        _ => None,
    }
}

/// What an error of a call is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blamed {
    /// The whole call.
    Call,
    /// How many arguments there are.
    Count,
    /// The type of one.
    Arg(usize),
}

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) blamed: Blamed,
    /// The type that the argument should have.
    pub(super) wanted: Option<&'static str>,
    pub(super) text: String,
}

/// The arguments of a call.
pub(super) struct Args<'a> {
    pub(super) name: &'a str,
    pub(super) values: &'a [Value],
    /// What is wrong, where it is not the call, and the type that is wanted.
    pub(super) blamed: Cell<(Blamed, Option<&'static str>)>,
}

impl Args<'_> {
    pub(super) fn value(&self, i: usize) -> Result<&Value, String> {
        self.values.get(i).ok_or_else(|| {
            self.blamed.set((Blamed::Count, None));
            format!("wrong number of args for {}: want at least {} got {}", self.name, i + 1, self.values.len())
        })
    }

    fn wrong_type(&self, i: usize, wanted: &'static str, value: &Value) -> String {
        self.blamed.set((Blamed::Arg(i), Some(wanted)));
        format!("wrong type for value; expected {wanted}; got {}", value.kind())
    }

    pub(super) fn text(&self, i: usize) -> Result<&str, String> {
        match self.value(i)? {
            Value::Text(text) => Ok(text),
            other => Err(self.wrong_type(i, "string", other)),
        }
    }

    pub(super) fn int(&self, i: usize) -> Result<i64, String> {
        match self.value(i)? {
            Value::Int(value) => Ok(*value),
            other => Err(self.wrong_type(i, "int", other)),
        }
    }

    pub(super) fn time(&self, i: usize) -> Result<i64, String> {
        match self.value(i)? {
            Value::Time(nanos) => Ok(*nanos),
            other => Err(self.wrong_type(i, "time.Time", other)),
        }
    }

    pub(super) fn exactly(&self, count: usize) -> Result<(), String> {
        if self.values.len() == count {
            return Ok(());
        }
        self.blamed.set((Blamed::Count, None));
        Err(format!("wrong number of args for {}: want {count} got {}", self.name, self.values.len()))
    }

    fn no_values(&self) -> String {
        self.blamed.set((Blamed::Count, None));
        format!("wrong number of args for {}: want at least 1 got 0", self.name)
    }

    pub(super) fn fold_int(&self, start: Option<i64>, step: impl Fn(i64, i64) -> i64) -> Result<Value, String> {
        let mut rest = self.values.iter().map(Value::to_int);
        let start = match start {
            Some(start) => start,
            None => rest.next().ok_or_else(|| self.no_values())?,
        };
        Ok(Value::Int(rest.fold(start, step)))
    }

    pub(super) fn fold_float(&self, step: impl Fn(f64, f64) -> f64) -> Result<Value, String> {
        let rest = self.values.iter().map(Value::to_float);
        let folded = rest.reduce(step);
        folded.map(Value::Float).ok_or_else(|| self.no_values())
    }

    pub(super) fn fold_decimal(&self, operator: Operator) -> Result<Value, String> {
        let first = self.value(0)?.to_float();
        let rest = self.values.iter().skip(1).map(Value::to_float);
        let folded = rest.into_iter().try_fold(first, |sum, value| decimal::compute(operator, sum, value));
        folded.map(Value::Float)
    }
}
