//! Reads templates.

use super::functions;
use super::value::Value;
use crate::go;

/// Deepest nesting of blocks and parentheses.
const DEPTH_MAX: usize = 50;

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
pub(super) struct Command(pub(super) Vec<Arg>);

/// An argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Arg {
    Dot,
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Constant(Value),
    Function(String),
    Pipe(Pipe, Vec<String>),
}

/// Adds the labels that nodes look at.
pub(super) fn fields(nodes: &[Node], names: &mut Vec<String>) {
    fn of_pipe(pipe: &Pipe, names: &mut Vec<String>) {
        for arg in pipe.commands.iter().flat_map(|command| &command.0) {
            match arg {
                Arg::Field(path) => names.extend(path.iter().cloned()),
                Arg::Variable(_, path) => names.extend(path.iter().cloned()),
                Arg::Pipe(pipe, path) => {
                    of_pipe(pipe, names);
                    names.extend(path.iter().cloned());
                }
                Arg::Dot | Arg::Constant(_) | Arg::Function(_) => {}
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
            Node::Text(_) | Node::Break | Node::Continue => {}
        }
    }
}

/// A piece between delimiters, or the text around them.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    /// The line it starts in, and its tokens.
    Action(usize, Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A name: a keyword, a function, `true`, `false`, `nil`.
    Word(String),
    /// `.a.b`, or a lone dot when empty.
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Constant(Value),
    Open,
    /// `)` with the fields behind it.
    Close(Vec<String>),
    Pipe,
    Declare,
    Assign,
    Comma,
}

/// Reads a template.
///
/// # Errors
/// `line: what is wrong`.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let pieces = split(text)?;
    let mut parser = Parser { pieces, i: 0, variables: Vec::new(), loops: 0 };
    let (nodes, end) = parser.block(0)?;
    match end {
        None => Ok(nodes),
        Some((line, word)) => Err(format!("{line}: unexpected {{{{{word}}}}}")),
    }
}

fn split(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut line = 1;
    let mut trims = false;
    loop {
        let Some((before, after)) = rest.split_once("{{") else {
            pieces.push(Piece::Text(if trims { rest.trim_start() } else { rest }.to_owned()));
            return Ok(pieces);
        };
        line += before.matches('\n').count();
        let (trims_before, mut after) = match after.strip_prefix('-') {
            Some(tail) if tail.starts_with(char::is_whitespace) => (true, tail),
            _ => (false, after),
        };
        let mut before = before;
        if trims {
            before = before.trim_start();
        }
        if trims_before {
            before = before.trim_end();
        }
        pieces.push(Piece::Text(before.to_owned()));
        let start = line;
        if let Some(comment) = after.trim_start().strip_prefix("/*") {
            let (inside, tail) = comment.split_once("*/").ok_or_else(|| format!("{line}: unclosed comment"))?;
            line += inside.matches('\n').count();
            let tail_trimmed = tail.trim_start();
            (trims, after) = match tail_trimmed.strip_prefix("-}}") {
                Some(tail) => (true, tail),
                None => (
                    false,
                    tail_trimmed
                        .strip_prefix("}}")
                        .ok_or_else(|| format!("{line}: comment ends before closing delimiter"))?,
                ),
            };
            rest = after;
            continue;
        }
        let (tokens, tail, closes_trimmed) = tokens(after).map_err(|error| format!("{line}: {error}"))?;
        line += after.split_at(after.len() - tail.len()).0.matches('\n').count();
        pieces.push(Piece::Action(start, tokens));
        trims = closes_trimmed;
        rest = tail;
    }
}

/// Cuts an action into tokens; returns what follows it, and whether blanks there are dropped.
fn tokens(text: &str) -> Result<(Vec<Token>, &str, bool), String> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let blank = trimmed.len() < rest.len();
        rest = trimmed;
        if let Some(tail) = rest.strip_prefix("}}") {
            return Ok((out, tail, false));
        }
        if blank && let Some(tail) = rest.strip_prefix("-}}") {
            return Ok((out, tail, true));
        }
        let Some(c) = rest.chars().next() else { return Err("unclosed action".to_owned()) };
        let one = |rest: &'_ str| rest.split_at(c.len_utf8()).1.len();
        let (token, left) = match c {
            '"' | '`' | '\'' => quoted(rest, c)?,
            '.' if !rest.split_at(1).1.starts_with(|c: char| c.is_ascii_digit()) => {
                let (path, tail) = path(rest);
                (Token::Field(path), tail.len())
            }
            '$' => {
                let name_end = rest.char_indices().skip(1).find(|(_, c)| !is_name(*c)).map_or(rest.len(), |(i, _)| i);
                let (name, tail) = rest.split_at(name_end);
                let (path, tail) = path(tail);
                (Token::Variable(name.to_owned(), path), tail.len())
            }
            '(' => (Token::Open, one(rest)),
            ')' => {
                let (path, tail) = path(rest.split_at(1).1);
                (Token::Close(path), tail.len())
            }
            '|' => (Token::Pipe, one(rest)),
            ',' => (Token::Comma, one(rest)),
            '=' => (Token::Assign, one(rest)),
            ':' if rest.starts_with(":=") => (Token::Declare, rest.len() - 2),
            c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => number(rest)?,
            c if is_name(c) => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                let (word, tail) = rest.split_at(end);
                let token = match word {
                    "true" => Token::Constant(Value::Bool(true)),
                    "false" => Token::Constant(Value::Bool(false)),
                    "nil" => Token::Constant(Value::Nil),
                    word => Token::Word(word.to_owned()),
                };
                (token, tail.len())
            }
            c => return Err(format!("unexpected {c:?} in command")),
        };
        out.push(token);
        rest = rest.split_at(rest.len() - left).1;
    }
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Reads `.a.b` off the front.
fn path(text: &str) -> (Vec<String>, &str) {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(tail) = rest.strip_prefix('.') {
        let end = tail.find(|c| !is_name(c)).unwrap_or(tail.len());
        let (name, after) = tail.split_at(end);
        if name.is_empty() {
            // A lone dot.
            return (out, tail);
        }
        out.push(name.to_owned());
        rest = after;
    }
    (out, rest)
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), String> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            '\n' if quote != '`' => break,
            c if c == quote => {
                let (inside, tail) = text.split_at(i + 1);
                let value = go::unquote(inside).ok_or_else(|| format!("invalid syntax: {inside}"))?;
                let value = match quote {
                    '\'' => {
                        let c = value.chars().next().filter(|_| value.chars().count() == 1);
                        Value::Int(i64::from(u32::from(c.ok_or("malformed character constant")?)))
                    }
                    _ => Value::Text(value),
                };
                return Ok((Token::Constant(value), tail.len()));
            }
            _ => {}
        }
    }
    Err(match quote {
        '`' => "unterminated raw quoted string".to_owned(),
        '\'' => "unterminated character constant".to_owned(),
        _ => "unterminated quoted string".to_owned(),
    })
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let exponent = |i: usize| matches!(text.as_bytes().get(i.wrapping_sub(1)), Some(b'e' | b'E'));
    let end = text
        .char_indices()
        .find(|(i, c)| {
            !(c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_')
                || matches!(c, '+' | '-') && (*i == 0 || exponent(*i)))
        })
        .map_or(text.len(), |(i, _)| i);
    let (number, tail) = text.split_at(end);
    let plain: String = number.chars().filter(|c| *c != '_').collect();
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    let prefixed = radix.iter().find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)));
    let whole = match prefixed {
        Some((digits, radix)) => i64::from_str_radix(digits, radix).ok(),
        None => digits.parse().ok(),
    };
    let value = match whole {
        Some(whole) => Value::Int(sign * whole),
        None => {
            Value::Float(go::parse_float(&plain).ok_or_else(|| format!("bad number syntax: {}", go::quote(number)))?)
        }
    };
    Ok((Token::Constant(value), tail.len()))
}

struct Parser {
    pieces: Vec<Piece>,
    i: usize,
    variables: Vec<String>,
    loops: usize,
}

/// The keyword that closed a block: its line and name.
type End = Option<(usize, String)>;

impl Parser {
    fn block(&mut self, depth: usize) -> Result<(Vec<Node>, End), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.i).cloned() {
            self.i += 1;
            let (line, tokens) = match piece {
                Piece::Text(text) => {
                    if !text.is_empty() {
                        nodes.push(Node::Text(text));
                    }
                    continue;
                }
                Piece::Action(line, tokens) => (line, tokens),
            };
            if depth > DEPTH_MAX {
                return Err(format!("{line}: blocks are nested more than {DEPTH_MAX} levels deep"));
            }
            let fail = |error: String| format!("{line}: {error}");
            let Some((first, rest)) = tokens.split_first() else {
                return Err(fail("missing value for command".to_owned()));
            };
            match first {
                Token::Word(word) if matches!(word.as_str(), "if" | "with" | "range") => {
                    let held = self.variables.len();
                    let branch = self.branch(word, rest, line, depth)?;
                    self.variables.truncate(held);
                    nodes.push(match word.as_str() {
                        "if" => Node::If(branch),
                        "with" => Node::With(branch),
                        _ => Node::Range(branch),
                    });
                }
                Token::Word(word) if word == "end" && rest.is_empty() => {
                    return Ok((nodes, Some((line, word.clone()))));
                }
                Token::Word(word) if word == "else" => {
                    // `else if x` is `else`, then `if x` with an end of its own.
                    if !rest.is_empty() {
                        self.i -= 1;
                        if let Some(piece) = self.pieces.get_mut(self.i) {
                            *piece = Piece::Action(line, rest.to_vec());
                        }
                        return Ok((nodes, Some((line, "else if".to_owned()))));
                    }
                    return Ok((nodes, Some((line, word.clone()))));
                }
                Token::Word(word) if matches!(word.as_str(), "break" | "continue") && rest.is_empty() => {
                    if self.loops == 0 {
                        return Err(fail(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                    }
                    nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                }
                Token::Word(word) if matches!(word.as_str(), "define" | "template" | "block") => {
                    return Err(fail(format!("{{{{{word}}}}} is not supported")));
                }
                _ => nodes.push(Node::Action(self.whole_pipe(&tokens).map_err(fail)?)),
            }
        }
        Ok((nodes, None))
    }

    fn branch(&mut self, word: &str, tokens: &[Token], line: usize, depth: usize) -> Result<Branch, String> {
        let pipe = self.whole_pipe(tokens).map_err(|error| format!("{line}: {error}"))?;
        let loops = usize::from(word == "range");
        self.loops += loops;
        let (then, end) = self.block(depth + 1)?;
        let (otherwise, end) = match end {
            Some((_, end)) if end == "else" => self.block(depth + 1)?,
            Some((_, end)) if end == "else if" => self.chained(depth)?,
            end => (Vec::new(), end),
        };
        self.loops -= loops;
        match end {
            Some((_, end)) if end == "end" => Ok(Branch { pipe, then, otherwise }),
            Some((line, end)) => Err(format!("{line}: expected end; found {{{{{end}}}}}")),
            None => Err(format!("{line}: unexpected EOF")),
        }
    }

    /// Reads the `if` behind an `else`; its end is that of the whole.
    fn chained(&mut self, depth: usize) -> Result<(Vec<Node>, End), String> {
        let Some(Piece::Action(line, tokens)) = self.pieces.get(self.i).cloned() else {
            return Err("1: unexpected EOF".to_owned());
        };
        self.i += 1;
        match tokens.split_first() {
            Some((Token::Word(word), rest)) if matches!(word.as_str(), "if" | "with") && depth < DEPTH_MAX => {
                let branch = self.branch(word, rest, line, depth + 1)?;
                let node = if word == "if" { Node::If(branch) } else { Node::With(branch) };
                Ok((vec![node], Some((line, "end".to_owned()))))
            }
            _ => Err(format!("{line}: unexpected command in else")),
        }
    }

    fn whole_pipe(&mut self, tokens: &[Token]) -> Result<Pipe, String> {
        let (pipe, rest) = self.pipe(tokens, 0)?;
        if rest.is_empty() { Ok(pipe) } else { Err("unexpected right paren".to_owned()) }
    }

    /// Reads a pipeline up to a closing parenthesis or the end.
    fn pipe<'t>(&mut self, tokens: &'t [Token], depth: usize) -> Result<(Pipe, &'t [Token]), String> {
        if depth > DEPTH_MAX {
            return Err(format!("parentheses are nested more than {DEPTH_MAX} levels deep"));
        }
        let (variables, assigns, mut rest) = self.declarations(tokens)?;
        let mut commands = Vec::new();
        loop {
            let mut args = Vec::new();
            while let Some((token, tail)) = rest.split_first() {
                match token {
                    Token::Pipe | Token::Close(_) => break,
                    Token::Word(name) => {
                        if !functions::exists(name) {
                            return Err(format!("function {} not defined", go::quote(name)));
                        }
                        args.push(Arg::Function(name.clone()));
                    }
                    Token::Field(path) if path.is_empty() => args.push(Arg::Dot),
                    Token::Field(path) => args.push(Arg::Field(path.clone())),
                    Token::Variable(name, path) => {
                        if name != "$" && !self.variables.contains(name) {
                            return Err(format!("undefined variable {}", go::quote(name)));
                        }
                        args.push(Arg::Variable(name.clone(), path.clone()));
                    }
                    Token::Constant(value) => args.push(Arg::Constant(value.clone())),
                    Token::Open => {
                        let (inner, after) = self.pipe(tail, depth + 1)?;
                        let Some((Token::Close(path), after)) = after.split_first() else {
                            return Err("unclosed left paren".to_owned());
                        };
                        args.push(Arg::Pipe(inner, path.clone()));
                        rest = after;
                        continue;
                    }
                    Token::Declare | Token::Assign | Token::Comma => {
                        return Err("unexpected operand in command".to_owned());
                    }
                }
                rest = tail;
            }
            if args.is_empty() {
                return Err("missing value for command".to_owned());
            }
            // Behind a pipe only a function can take what comes.
            if !commands.is_empty() && !matches!(args.first(), Some(Arg::Function(_))) {
                return Err("non executable command in pipeline".to_owned());
            }
            commands.push(Command(args));
            match rest.split_first() {
                Some((Token::Pipe, tail)) => rest = tail,
                _ => return Ok((Pipe { variables, assigns, commands }, rest)),
            }
        }
    }

    fn declarations<'t>(&mut self, tokens: &'t [Token]) -> Result<(Vec<String>, bool, &'t [Token]), String> {
        let bare = |token: &Token| match token {
            Token::Variable(name, path) if path.is_empty() => Some(name.clone()),
            _ => None,
        };
        let (names, operator, rest) = match tokens {
            [a, operator @ (Token::Declare | Token::Assign), rest @ ..] => (vec![bare(a)], operator, rest),
            [a, Token::Comma, b, operator @ (Token::Declare | Token::Assign), rest @ ..] => {
                (vec![bare(a), bare(b)], operator, rest)
            }
            _ => return Ok((Vec::new(), false, tokens)),
        };
        let names: Option<Vec<String>> = names.into_iter().collect();
        let names = names.ok_or("unexpected operand in declaration")?;
        let assigns = *operator == Token::Assign;
        for name in &names {
            if assigns && !self.variables.contains(name) {
                return Err(format!("undefined variable {}", go::quote(name)));
            }
            self.variables.push(name.clone());
        }
        Ok((names, assigns, rest))
    }
}
