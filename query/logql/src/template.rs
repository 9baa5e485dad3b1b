//! Templates of `line_format` and `label_format`: Go's `text/template` with Loki's functions.

mod decimal;
mod encode;
mod functions;
mod parse;
mod printf;
mod time;
mod value;

use std::collections::HashMap;
use std::sync::Mutex;

use model::Timestamp;

use crate::row::RowLabels;
use parse::{Arg, Branch, Command, Node, Pipe};
use value::Value;

/// Longest text that a template may make, in bytes.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// Most bytes that one execution may make on its way to its text: values of arguments and variables, items of loops. Each
/// step counts as [`STEP_BYTES`] at least, so that loops in loops end, too.
const WORK_BYTES_MAX: usize = 128 << 20;

/// What a step counts as.
const STEP_BYTES: usize = 64;

/// Most compiled patterns that a template keeps.
const PATTERNS_MAX: usize = 16;

/// A template, ready to run.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
    /// `{{.name}}` and nothing else, which is the commonest by far.
    simple: Option<String>,
    /// Patterns given to functions, compiled. Held for a look-up only.
    patterns: Mutex<HashMap<String, regex::Regex>>,
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

type Lookup<'l, 'v> = &'l dyn Fn(&str) -> Option<&'v str>;

impl Template {
    /// Reads a template; `name` is told in errors.
    pub(crate) fn new(name: &str, text: &str) -> Result<Self, String> {
        let nodes = parse::parse(text).map_err(|error| format!("template: {name}:{error}"))?;
        let simple = match nodes.as_slice() {
            [Node::Action(Pipe { variables, commands, .. })] if variables.is_empty() => match commands.as_slice() {
                [Command(args)] => match args.as_slice() {
                    [Arg::Field(path)] if path.len() == 1 => path.first().cloned(),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        Ok(Self { nodes, simple, patterns: Mutex::default() })
    }

    /// Adds the labels that the template looks at.
    pub(crate) fn fields(&self, names: &mut Vec<String>) {
        parse::fields(&self.nodes, names);
    }

    /// Writes the line anew.
    pub(crate) fn render(&self, at: Timestamp, line: &str, row: &RowLabels<'_>) -> Result<String, String> {
        if let Some(name) = &self.simple {
            return Ok(row.get(name).unwrap_or("").to_owned());
        }
        // Errors are labels too, but for `get`.
        let labels: Vec<(&str, &str)> = row.iter().collect();
        let lookup = |name: &str| labels.iter().rev().find(|(have, _)| *have == name).map(|(_, value)| *value);
        self.run(at, line, &lookup, &|| labels.clone())
    }

    /// Writes a text from these labels.
    pub(crate) fn render_with(&self, at: Timestamp, line: &str, labels: &[(String, String)]) -> Result<String, String> {
        let lookup = |name: &str| labels.iter().rev().find(|(have, _)| have == name).map(|(_, value)| value.as_str());
        self.run(at, line, &lookup, &|| labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect())
    }

    fn run<'v>(
        &self,
        at: Timestamp,
        line: &str,
        lookup: Lookup<'_, 'v>,
        all: &dyn Fn() -> Vec<(&'v str, &'v str)>,
    ) -> Result<String, String> {
        let mut run = Run { template: self, at, line, lookup, all, variables: Vec::new(), out: String::new(), work: 0 };
        run.nodes(&self.nodes, &Value::Labels)?;
        Ok(run.out)
    }
}

/// One execution.
struct Run<'r, 'v> {
    template: &'r Template,
    at: Timestamp,
    line: &'r str,
    lookup: Lookup<'r, 'v>,
    all: &'r dyn Fn() -> Vec<(&'v str, &'v str)>,
    variables: Vec<(String, Value)>,
    out: String,
    /// Bytes that were made so far.
    work: usize,
}

impl Run<'_, '_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            self.spend(0)?;
            let flow = match node {
                Node::Text(text) => {
                    self.write(text)?;
                    Flow::On
                }
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        let text = self.text(&value);
                        self.write(&text)?;
                    }
                    Flow::On
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// Counts a step, and the bytes that it made.
    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.work = self.work.saturating_add(bytes).saturating_add(STEP_BYTES);
        if self.work > WORK_BYTES_MAX {
            return Err(format!("the template takes more than the limit of {WORK_BYTES_MAX} bytes to run"));
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > OUTPUT_BYTES_MAX {
            return Err(format!("the text is over the limit of {OUTPUT_BYTES_MAX} bytes"));
        }
        self.out.push_str(text);
        Ok(())
    }

    /// Writes a value as `{{…}}` prints it.
    fn text(&self, value: &Value) -> String {
        match value {
            Value::Labels => {
                let mut labels = (self.all)();
                labels.sort_unstable();
                let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                format!("map[{}]", pairs.join(" "))
            }
            value => value.print(),
        }
    }

    fn is_true(&self, value: &Value) -> bool {
        match value {
            Value::Labels => !(self.all)().is_empty(),
            value => value.is_true(),
        }
    }

    fn branch(&mut self, branch: &Branch, dot: &Value, moves_dot: bool) -> Result<Flow, String> {
        let held = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = if self.is_true(&value) {
            self.nodes(&branch.then, if moves_dot { &value } else { dot })?
        } else {
            self.nodes(&branch.otherwise, dot)?
        };
        self.variables.truncate(held);
        Ok(flow)
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, String> {
        let held = self.variables.len();
        let over = Pipe { variables: Vec::new(), assigns: false, commands: branch.pipe.commands.clone() };
        let value = self.pipe(&over, dot)?;
        let items = match &value {
            Value::Labels => {
                let mut labels = (self.all)();
                labels.sort_unstable();
                labels.into_iter().map(|(name, value)| (Value::text(name), Value::text(value))).collect()
            }
            value => value.items()?,
        };
        self.spend(value.size_bytes())?;
        if items.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        for (key, item) in items {
            match branch.pipe.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one.clone(), item.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
            }
            let flow = self.nodes(&branch.then, &item)?;
            self.variables.truncate(held);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        let value = last.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            if pipe.assigns {
                match self.variables.iter_mut().rev().find(|(have, _)| have == name) {
                    Some((_, have)) => *have = value.clone(),
                    None => return Err(format!("undefined variable: {name}")),
                }
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &Command, dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let Some((first, rest)) = command.0.split_first() else { return Err("missing value for command".to_owned()) };
        if let Arg::Function(name) = first {
            // `and` and `or` look at no more arguments than they need.
            if matches!(name.as_str(), "and" | "or") {
                return self.short_circuit(name == "or", rest, dot, piped);
            }
            let mut args = Vec::with_capacity(rest.len() + 1);
            for arg in rest {
                args.push(self.arg(arg, dot)?);
            }
            args.extend(piped);
            let value = self.call(name, &args)?;
            self.spend(value.size_bytes())?;
            return Ok(value);
        }
        if !rest.is_empty() || piped.is_some() {
            return Err("can't give argument to non-function".to_owned());
        }
        if *first == Arg::Constant(Value::Nil) {
            return Err("nil is not a command".to_owned());
        }
        self.arg(first, dot)
    }

    fn short_circuit(&mut self, or: bool, args: &[Arg], dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let mut last = Value::Nil;
        for arg in args {
            last = self.arg(arg, dot)?;
            if self.is_true(&last) == or {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn arg(&mut self, arg: &Arg, dot: &Value) -> Result<Value, String> {
        // Of a variable's field, the whole variable is copied first.
        let copied = match arg {
            Arg::Variable(name, _) => self.variable(name).map_or(0, Value::size_bytes),
            Arg::Field(_) => dot.size_bytes(),
            _ => 0,
        };
        self.spend(copied)?;
        let value = self.value_of(arg, dot)?;
        self.spend(value.size_bytes())?;
        Ok(value)
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.iter().rev().find(|(have, _)| have == name).map(|(_, value)| value)
    }

    fn value_of(&mut self, arg: &Arg, dot: &Value) -> Result<Value, String> {
        match arg {
            Arg::Dot => Ok(dot.clone()),
            Arg::Field(path) => self.field(dot.clone(), path),
            Arg::Variable(name, path) => {
                let value = match name.as_str() {
                    "$" => Some(Value::Labels),
                    name => self.variable(name).cloned(),
                };
                let value = value.ok_or_else(|| format!("undefined variable: {name}"))?;
                self.field(value, path)
            }
            Arg::Constant(value) => Ok(value.clone()),
            Arg::Function(name) => self.call(name, &[]),
            Arg::Pipe(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                self.field(value, path)
            }
        }
    }

    fn field(&self, mut value: Value, path: &[String]) -> Result<Value, String> {
        for name in path {
            value = match value {
                Value::Labels => Value::text((self.lookup)(name).unwrap_or("")),
                value => value.field(name)?,
            };
        }
        Ok(value)
    }

    /// Returns a compiled pattern.
    fn pattern(&self, pattern: &str) -> Result<regex::Regex, String> {
        let mut patterns = self.template.patterns.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(regex) = patterns.get(pattern) {
            return Ok(regex.clone());
        }
        let regex = crate::regex::compile(pattern)?;
        if patterns.len() >= PATTERNS_MAX {
            patterns.clear();
        }
        patterns.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    }
}

#[cfg(test)]
mod tests;
