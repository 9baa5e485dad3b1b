//! Templates of `line_format` and `label_format`: Go's `text/template` with Loki's functions.

mod args;
mod decimal;
mod encode;
mod functions;
mod nodes;
mod parse;
mod printf;
mod time;
mod value;

use std::collections::HashMap;
use std::sync::Mutex;

use model::Timestamp;

use crate::go;
use crate::row::RowLabels;
use args::Blamed;
use nodes::{Arg, Branch, Call, Command, Node, Pipe};
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

/// Deepest nesting of templates in templates and blocks while they run.
const DEPTH_MAX: usize = 150;

/// A template, ready to run.
#[derive(Debug)]
pub(crate) struct Template {
    name: String,
    text: String,
    nodes: Vec<Node>,
    /// Those that it defines.
    named: parse::Named,
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
        let (nodes, named) = parse::parse(name, text).map_err(|error| format!("template: {name}:{error}"))?;
        let simple = match nodes.as_slice() {
            [Node::Action(Pipe { variables, commands, .. })] if variables.is_empty() => match commands.as_slice() {
                [Command { args, .. }] => match args.as_slice() {
                    [Arg::Field(path)] if path.len() == 1 => path.first().cloned(),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        Ok(Self { name: name.to_owned(), text: text.to_owned(), nodes, named, simple, patterns: Mutex::default() })
    }

    /// Adds the labels that the template looks at.
    pub(crate) fn fields(&self, names: &mut Vec<String>) {
        nodes::fields(&self.nodes, names);
        self.named.values().for_each(|nodes| nodes::fields(nodes, names));
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
        let mut run = Run {
            template: self,
            at,
            line,
            lookup,
            all,
            name: &self.name,
            data: Value::Labels,
            place: None,
            depth: 0,
            variables: Vec::new(),
            out: String::new(),
            work: 0,
        };
        match run.nodes(&self.nodes, &Value::Labels) {
            Ok(_) => Ok(run.out),
            Err(error) => Err(run.fault(&error)),
        }
    }
}

/// What an execution looked at last.
#[derive(Debug, Clone, Copy)]
enum Place<'r> {
    Arg(&'r Arg, usize),
    Command(&'r Command),
    Call(&'r Call),
}

/// One execution.
struct Run<'r, 'v> {
    template: &'r Template,
    at: Timestamp,
    line: &'r str,
    lookup: Lookup<'r, 'v>,
    all: &'r dyn Fn() -> Vec<(&'v str, &'v str)>,
    /// The name of the template at work.
    name: &'r str,
    /// What it was given: `$`.
    data: Value,
    place: Option<Place<'r>>,
    /// How many lists of nodes are at work, each in one of the one before it.
    depth: usize,
    variables: Vec<(String, Value)>,
    out: String,
    /// Bytes that were made so far.
    work: usize,
}

impl<'r> Run<'r, '_> {
    /// Tells an error with its place: line and column, and what stands there.
    fn fault(&self, error: &str) -> String {
        let name = &self.template.name;
        let (place, shown) = match self.place {
            None => return format!("template: {name}: {error}"),
            Some(Place::Arg(arg, place)) => (place, arg.to_string()),
            Some(Place::Command(command)) => (command.places.first().copied().unwrap_or_default(), command.to_string()),
            Some(Place::Call(call)) => (call.place, call.to_string()),
        };
        let before = self.template.text.get(..place).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, str::len);
        format!("template: {name}:{line}:{column}: executing {} at <{shown}>: {error}", go::quote(self.name))
    }

    fn nodes(&mut self, nodes: &'r [Node], dot: &Value) -> Result<Flow, String> {
        if self.depth >= DEPTH_MAX {
            return Err(format!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        self.depth += 1;
        let flow = self.each(nodes, dot);
        self.depth -= 1;
        flow
    }

    fn each(&mut self, nodes: &'r [Node], dot: &Value) -> Result<Flow, String> {
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
                Node::Call(call) => self.template_call(call, dot)?,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn template_call(&mut self, call: &'r Call, dot: &Value) -> Result<Flow, String> {
        self.place = Some(Place::Call(call));
        let template = self.template;
        let nodes = match template.named.get(&call.name) {
            Some(nodes) => nodes,
            None if call.name == template.name => &template.nodes,
            None => return Err(format!("template {} not defined", go::quote(&call.name))),
        };
        let data = match &call.pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        self.place = Some(Place::Call(call));
        let outside = (
            std::mem::replace(&mut self.name, &call.name),
            std::mem::replace(&mut self.data, data.clone()),
            std::mem::take(&mut self.variables),
        );
        // An error is told of the template that it is in.
        self.nodes(nodes, &data)?;
        (self.name, self.data, self.variables) = outside;
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

    fn branch(&mut self, branch: &'r Branch, dot: &Value, moves_dot: bool) -> Result<Flow, String> {
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

    fn range(&mut self, branch: &'r Branch, dot: &Value) -> Result<Flow, String> {
        let held = self.variables.len();
        let value = self.commands(&branch.pipe, dot)?;
        let items = match &value {
            Value::Labels => {
                let mut labels = (self.all)();
                labels.sort_unstable();
                labels.into_iter().map(|(name, value)| (Value::text(name), Value::text(value))).collect()
            }
            Value::Int(count) => {
                if branch.pipe.variables.len() > 1 {
                    return Err(format!("can't use {count} to iterate over more than one variable"));
                }
                let size = usize::try_from(*count).unwrap_or_default().saturating_mul(2 * size_of::<Value>());
                self.spend(size)?;
                (0..*count).map(|i| (Value::Int(i), Value::Int(i))).collect()
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

    fn commands(&mut self, pipe: &'r Pipe, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn pipe(&mut self, pipe: &'r Pipe, dot: &Value) -> Result<Value, String> {
        let value = self.commands(pipe, dot)?;
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

    fn command(&mut self, command: &'r Command, dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let mut args = command.args.iter().zip(command.places.iter().copied());
        let Some((first, place)) = args.next() else { return Err("missing value for command".to_owned()) };
        if let Arg::Function(name) = first {
            self.place = Some(Place::Arg(first, place));
            if let Some(error) = args::count_fault(name, command.args.len() - 1 + usize::from(piped.is_some())) {
                return Err(error);
            }
            // `and` and `or` look at no more arguments than they need.
            if matches!(name.as_str(), "and" | "or") {
                return self.short_circuit(name == "or", args, dot, piped);
            }
            let mut values = Vec::with_capacity(command.args.len());
            let mut places = Vec::with_capacity(command.args.len());
            for (arg, place) in args {
                values.push(self.arg(arg, place, dot)?);
                places.push((arg, self.place));
            }
            values.extend(piped);
            let value = match self.call(name, &values) {
                Ok(value) => value,
                Err(fault) => {
                    self.place = match fault.blamed {
                        Blamed::Call => Some(Place::Command(command)),
                        Blamed::Count => Some(Place::Arg(first, place)),
                        Blamed::Arg(i) => places.get(i).map_or(self.place, |(_, place)| *place),
                    };
                    return Err(match (fault.blamed, fault.wanted) {
                        (Blamed::Arg(i), Some(wanted)) => match places.get(i) {
                            Some((Arg::Constant(Value::Nil, _), _)) => format!("cannot assign nil to {wanted}"),
                            Some((Arg::Constant(_, text), _)) if wanted == "int" => {
                                format!("expected integer; found {text}")
                            }
                            Some((Arg::Constant(_, text), _)) if wanted == "string" => {
                                format!("expected string; found {text}")
                            }
                            Some((Arg::Constant(_, text), _)) => {
                                format!("can't handle {text} for arg of type {wanted}")
                            }
                            _ => fault.text,
                        },
                        _ => fault.text,
                    });
                }
            };
            self.spend(value.size_bytes())?;
            return Ok(value);
        }
        if command.args.len() > 1 || piped.is_some() {
            self.place = Some(Place::Arg(first, place));
            return Err(match first {
                Arg::Field(path) => {
                    format!("{} is not a method but has arguments", path.last().map_or("", String::as_str))
                }
                Arg::Pipe(pipe, _) => {
                    self.place = Some(Place::Command(command));
                    format!("can't give argument to non-function {pipe}")
                }
                other => format!("can't give argument to non-function {other}"),
            });
        }
        if matches!(first, Arg::Constant(Value::Nil, _)) {
            self.place = Some(Place::Arg(first, place));
            return Err("nil is not a command".to_owned());
        }
        self.arg(first, place, dot)
    }

    fn short_circuit(
        &mut self,
        or: bool,
        args: impl Iterator<Item = (&'r Arg, usize)>,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, String> {
        let mut last = Value::Nil;
        for (arg, place) in args {
            last = self.arg(arg, place, dot)?;
            if self.is_true(&last) == or {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn arg(&mut self, arg: &'r Arg, place: usize, dot: &Value) -> Result<Value, String> {
        self.place = Some(Place::Arg(arg, place));
        // Of a variable's field, the whole variable is copied first.
        let copied = match arg {
            Arg::Variable(name, _) if name == "$" => self.data.size_bytes(),
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

    fn value_of(&mut self, arg: &'r Arg, dot: &Value) -> Result<Value, String> {
        match arg {
            Arg::Dot => Ok(dot.clone()),
            Arg::Field(path) => self.field(dot.clone(), path),
            Arg::Variable(name, path) => {
                let value = match name.as_str() {
                    "$" => Some(self.data.clone()),
                    name => self.variable(name).cloned(),
                };
                let value = value.ok_or_else(|| format!("undefined variable: {name}"))?;
                self.field(value, path)
            }
            Arg::Constant(value, _) => Ok(value.clone()),
            Arg::Function(name) => self.call(name, &[]).map_err(|fault| fault.text),
            Arg::Pipe(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                self.field(value, path)
            }
        }
    }

    fn field(&self, mut value: Value, path: &[String]) -> Result<Value, String> {
        let mut within = false;
        // Without data there are no fields, and no faults.
        if value == Value::Nil && self.data == Value::Nil {
            return Ok(Value::Nil);
        }
        for name in path {
            value = match value {
                Value::Labels => Value::text((self.lookup)(name).unwrap_or("")),
                // What JSON holds has no type of its own.
                value if within => value.field(name).map_err(|error| match error.rsplit_once(" in type ") {
                    Some((error, _)) => format!("{error} in type interface {{}}"),
                    None => error,
                })?,
                value => {
                    within = true;
                    value.field(name)?
                }
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
