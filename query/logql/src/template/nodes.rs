//! The tree of a template.

use std::fmt;

use super::value::Value;
use crate::go;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
    Call(Call),
}

/// `template` or `block`: another template takes its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    /// What is its dot; nothing without.
    pub(super) pipe: Option<Pipe>,
    /// Where the name is.
    pub(super) place: usize,
}

/// `if`, `with` or `range`, up to its `end`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each given the one before it as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipe {
    /// Variables that are set.
    pub(super) variables: Vec<String>,
    /// Whether they are there already (`=`, not `:=`).
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A function or value with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) args: Vec<Arg>,
    /// Where each argument is: an offset in the template.
    pub(super) places: Vec<usize>,
}

/// An argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Arg {
    Dot,
    Field(Vec<String>),
    Variable(String, Vec<String>),
    /// With its text.
    Constant(Value, String),
    Function(String),
    Pipe(Pipe, Vec<String>),
}

/// Adds the labels that nodes look at.
pub(super) fn fields(nodes: &[Node], names: &mut Vec<String>) {
    fn of_pipe(pipe: &Pipe, names: &mut Vec<String>) {
        for arg in pipe.commands.iter().flat_map(|command| &command.args) {
            match arg {
                Arg::Field(path) => names.extend(path.iter().cloned()),
                Arg::Variable(_, path) => names.extend(path.iter().cloned()),
                Arg::Pipe(pipe, path) => {
                    of_pipe(pipe, names);
                    names.extend(path.iter().cloned());
                }
                Arg::Dot | Arg::Constant(..) | Arg::Function(_) => {}
            }
        }
    }
    for node in nodes {
        match node {
            Node::Action(pipe) => of_pipe(pipe, names),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                of_pipe(&branch.pipe, names);
                fields(&branch.then, names);
                fields(&branch.otherwise, names);
            }
            Node::Call(call) => call.pipe.iter().for_each(|pipe| of_pipe(pipe, names)),
            Node::Text(_) | Node::Break | Node::Continue => {}
        }
    }
}

/// Says whether nodes write nothing but blanks.
pub(super) fn is_blank(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self {
            Self::Dot => return f.write_str("."),
            Self::Constant(_, text) => return f.write_str(text),
            Self::Function(name) => return f.write_str(name),
            Self::Field(path) => path,
            Self::Variable(name, path) => {
                f.write_str(name)?;
                path
            }
            Self::Pipe(pipe, path) => {
                write!(f, "({pipe})")?;
                path
            }
        };
        path.iter().try_for_each(|name| write!(f, ".{name}"))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", go::quote(&self.name))?;
        self.pipe.iter().try_for_each(|pipe| write!(f, " {pipe}"))?;
        f.write_str("}}")
    }
}
