//! Reads templates.

use std::collections::HashMap;

use super::functions;
use super::nodes::{Arg, Branch, Call, Command, Node, Pipe, is_blank};
use super::value::Value;
use crate::go;

/// Deepest nesting of blocks and parentheses.
const DEPTH_MAX: usize = 50;

/// A piece between delimiters, or the text around them.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    /// The line it starts in, its tokens, and where each is.
    Action(usize, Vec<Token>, Vec<usize>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A name: a keyword, a function, `true`, `false`, `nil`.
    Word(String),
    /// `.a.b`, or a lone dot when empty.
    Field(Vec<String>),
    Variable(String, Vec<String>),
    /// With its text.
    Constant(Value, String),
    Open,
    /// `)` with the fields behind it.
    Close(Vec<String>),
    Pipe,
    Declare,
    Assign,
    Comma,
}

/// Templates by name.
pub(super) type Named = HashMap<String, Vec<Node>>;

/// Reads a template of this name; returns it with those that it defines.
///
/// # Errors
/// `line: what is wrong`.
pub(super) fn parse(name: &str, text: &str) -> Result<(Vec<Node>, Named), String> {
    let pieces = split(text)?;
    let mut parser =
        Parser { pieces, i: 0, variables: Vec::new(), loops: 0, places: Vec::new(), named: HashMap::new() };
    let (nodes, end) = parser.block(0)?;
    if let Some((line, word)) = end {
        return Err(format!("{line}: unexpected {{{{{word}}}}}"));
    }
    parser.define(1 + text.matches('\n').count(), name, nodes)?;
    let nodes = parser.named.remove(name).unwrap_or_default();
    Ok((nodes, parser.named))
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
        let (tokens, tail, closes_trimmed, places) =
            tokens(after, text.len()).map_err(|error| format!("{line}: {error}"))?;
        line += after.split_at(after.len() - tail.len()).0.matches('\n').count();
        pieces.push(Piece::Action(start, tokens, places));
        trims = closes_trimmed;
        rest = tail;
    }
}

/// Tokens, what follows them, whether blanks there are dropped, and where each token is.
type Action<'t> = (Vec<Token>, &'t str, bool, Vec<usize>);

/// Cuts an action into tokens; the whole template has `total` bytes.
fn tokens(text: &str, total: usize) -> Result<Action<'_>, String> {
    let mut out = Vec::new();
    let mut places = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let blank = trimmed.len() < rest.len();
        rest = trimmed;
        if let Some(tail) = rest.strip_prefix("}}") {
            return Ok((out, tail, false, places));
        }
        if blank && let Some(tail) = rest.strip_prefix("-}}") {
            return Ok((out, tail, true, places));
        }
        let Some(c) = rest.chars().next() else { return Err("unclosed action".to_owned()) };
        let one = |rest: &'_ str| rest.split_at(c.len_utf8()).1.len();
        let (mut token, left) = match c {
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
                    "true" => Token::Constant(Value::Bool(true), String::new()),
                    "false" => Token::Constant(Value::Bool(false), String::new()),
                    "nil" => Token::Constant(Value::Nil, String::new()),
                    word => Token::Word(word.to_owned()),
                };
                (token, tail.len())
            }
            c => return Err(format!("unexpected {c:?} in command")),
        };
        // A chain of names is where its second link is.
        places.push(
            total - rest.len()
                + match &mut token {
                    Token::Field(path) if path.len() > 1 => 1 + path.first().map_or(0, String::len),
                    Token::Variable(name, path) if !path.is_empty() => name.len(),
                    Token::Constant(_, written) => {
                        rest.split_at(rest.len() - left).0.clone_into(written);
                        0
                    }
                    _ => 0,
                },
        );
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
                return Ok((Token::Constant(value, String::new()), tail.len()));
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
    Ok((Token::Constant(value, String::new()), tail.len()))
}

struct Parser {
    pieces: Vec<Piece>,
    i: usize,
    variables: Vec<String>,
    loops: usize,
    /// Where the tokens of the action at hand are.
    places: Vec<usize>,
    named: Named,
}

/// The keyword that closed a block: its line and name.
type End = Option<(usize, String)>;

impl Parser {
    fn block(&mut self, depth: usize) -> Result<(Vec<Node>, End), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.i).cloned() {
            self.i += 1;
            let (line, tokens, places) = match piece {
                Piece::Text(text) => {
                    if !text.is_empty() {
                        nodes.push(Node::Text(text));
                    }
                    continue;
                }
                Piece::Action(line, tokens, places) => (line, tokens, places),
            };
            self.places = places;
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
                            *piece = Piece::Action(line, rest.to_vec(), self.places.split_off(1));
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
                Token::Word(word) if word == "define" && depth == 0 => self.defines(rest, line)?,
                Token::Word(word) if word == "define" => {
                    return Err(fail("unexpected <define> in command".to_owned()));
                }
                Token::Word(word) if matches!(word.as_str(), "template" | "block") => {
                    nodes.push(Node::Call(self.calls(word, rest, line, depth)?));
                }
                _ => nodes.push(Node::Action(self.whole_pipe(&tokens, false).map_err(fail)?)),
            }
        }
        Ok((nodes, None))
    }

    fn branch(&mut self, word: &str, tokens: &[Token], line: usize, depth: usize) -> Result<Branch, String> {
        let pipe = self.whole_pipe(tokens, word == "range").map_err(|error| format!("{line}: {error}"))?;
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
        let Some(Piece::Action(line, tokens, places)) = self.pieces.get(self.i).cloned() else {
            return Err("1: unexpected EOF".to_owned());
        };
        self.places = places;
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

    /// Reads a template up to its end and takes it in; it knows no variables and loops from outside.
    fn body(&mut self, word: &str, name: &str, line: usize, depth: usize) -> Result<(), String> {
        let (variables, loops) = (std::mem::take(&mut self.variables), std::mem::take(&mut self.loops));
        let (nodes, end) = self.block(depth + 1)?;
        (self.variables, self.loops) = (variables, loops);
        match end {
            Some((_, end)) if end == "end" => self.define(line, name, nodes),
            Some((line, end)) => Err(format!("{line}: unexpected {{{{{end}}}}} in {word} clause")),
            None => Err(format!("{line}: unexpected EOF")),
        }
    }

    /// Takes a template in. One that writes nothing gives way to another of its name.
    fn define(&mut self, line: usize, name: &str, nodes: Vec<Node>) -> Result<(), String> {
        match self.named.get(name) {
            Some(have) if !is_blank(have) && is_blank(&nodes) => Ok(()),
            Some(have) if !is_blank(have) => {
                Err(format!("{line}: template: multiple definition of template {}", go::quote(name)))
            }
            _ => {
                self.named.insert(name.to_owned(), nodes);
                Ok(())
            }
        }
    }

    fn defines(&mut self, tokens: &[Token], line: usize) -> Result<(), String> {
        let (name, rest) = name(tokens, "define").map_err(|error| format!("{line}: {error}"))?;
        match rest.first() {
            None => self.body("define", &name, line, 0),
            Some(token) => Err(format!("{line}: unexpected {} in define clause", shown(token))),
        }
    }

    fn calls(&mut self, word: &str, tokens: &[Token], line: usize, depth: usize) -> Result<Call, String> {
        let fail = |error: String| format!("{line}: {error}");
        let place = self.place(tokens);
        let (name, rest) = name(tokens, word).map_err(fail)?;
        if rest.is_empty() && word == "block" {
            return Err(fail("missing value for block clause".to_owned()));
        }
        let pipe = if rest.is_empty() { None } else { Some(self.whole_pipe(rest, false).map_err(fail)?) };
        if word == "block" {
            self.body(word, &name, line, depth)?;
        }
        Ok(Call { name, pipe, place })
    }

    /// Returns where the first of the last tokens of the action at hand is.
    fn place(&self, tokens: &[Token]) -> usize {
        let i = self.places.len().saturating_sub(tokens.len());
        self.places.get(i).copied().unwrap_or_default()
    }

    fn whole_pipe(&mut self, tokens: &[Token], ranges: bool) -> Result<Pipe, String> {
        let (pipe, rest) = self.pipe(tokens, 0)?;
        if pipe.variables.len() > 1 && !ranges {
            return Err("too many declarations in command".to_owned());
        }
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
            let mut places = Vec::new();
            while let Some((token, tail)) = rest.split_first() {
                if matches!(token, Token::Pipe | Token::Close(_)) {
                    break;
                }
                places.push(self.place(rest));
                match token {
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
                    Token::Constant(value, text) => args.push(Arg::Constant(value.clone(), text.clone())),
                    Token::Open => {
                        let (inner, after) = self.pipe(tail, depth + 1)?;
                        let Some((Token::Close(path), after)) = after.split_first() else {
                            return Err("unclosed left paren".to_owned());
                        };
                        args.push(Arg::Pipe(inner, path.clone()));
                        rest = after;
                        continue;
                    }
                    Token::Declare | Token::Assign | Token::Comma | Token::Pipe | Token::Close(_) => {
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
            commands.push(Command { args, places });
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

/// Reads the name of a template.
fn name<'t>(tokens: &'t [Token], word: &str) -> Result<(String, &'t [Token]), String> {
    match tokens.split_first() {
        Some((Token::Constant(Value::Text(name), _), rest)) => Ok((name.clone(), rest)),
        Some((token, _)) => Err(format!("unexpected {} in {word} clause", shown(token))),
        None => Err(format!("unexpected \"}}}}\" in {word} clause")),
    }
}

/// Writes a token as errors tell it.
fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => go::quote(word),
        Token::Field(path) if path.is_empty() => "<.>".to_owned(),
        Token::Field(path) => go::quote(&format!(".{}", path.join("."))),
        Token::Variable(name, _) => go::quote(name),
        Token::Constant(_, text) => go::quote(text),
        Token::Open => "\"(\"".to_owned(),
        Token::Close(_) => "\")\"".to_owned(),
        Token::Pipe => "\"|\"".to_owned(),
        Token::Declare => "\":=\"".to_owned(),
        Token::Assign => "\"=\"".to_owned(),
        Token::Comma => "\",\"".to_owned(),
    }
}
