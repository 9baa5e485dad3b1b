//! From text to syntax tree and back.

pub mod ast;
mod check;
mod duration;
mod error;
pub(crate) mod lexer;
mod parser;
mod pretty;
#[cfg(test)]
mod pretty_tests;
mod print;
mod selector;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub(crate) use duration::SECONDS_MAX;
pub use error::ParseError;

use ast::{Expr, Selector};
use lexer::Kind;

/// Reads an expression.
///
/// # Errors
/// [`ParseError`] with line, column and what was expected; also when the text or its nesting is over a limit.
pub fn parse(input: &str) -> Result<Expr, ParseError> {
    parse_inner(input).map_err(|error| error.locate(input))
}

fn parse_inner(input: &str) -> Result<Expr, ParseError> {
    let mut expr = read(input)?;
    check::check(&mut expr, input)?;
    Ok(expr)
}

/// Reads an expression that may mean nothing.
fn read(input: &str) -> Result<Expr, ParseError> {
    let (tokens, error) = lexer::tokens(input);
    let mut parser = parser::Parser::new(tokens, error);
    if parser.peek().kind == Kind::End {
        return Err(ParseError::new(ast::Span::new(0, 0), "no expression found in input"));
    }
    let expr = parser.expr(0)?;
    let next = parser.peek();
    if next.kind != Kind::End {
        return Err(parser.unexpected(next, "", ""));
    }
    Ok(expr)
}

/// Reads a selector such as the API's `match[]` takes: `up{job="node"}`, and nothing behind it.
///
/// # Errors
/// [`ParseError`] as [`parse`], and where the text goes on or is anything but a selector.
pub fn parse_selector(input: &str) -> Result<Selector, ParseError> {
    let mut expr = read_selector(input).map_err(|error| error.locate(input))?;
    check::check(&mut expr, input).map_err(|error| error.locate(input))?;
    selector_of(expr, input)
}

/// As [`parse_selector`], but takes selectors of everything, such as `{}`, as the API does where series are deleted.
///
/// # Errors
/// As [`parse_selector`].
pub fn parse_any_selector(input: &str) -> Result<Selector, ParseError> {
    selector_of(read_selector(input).map_err(|error| error.locate(input))?, input)
}

/// Reads a selector that may select everything.
fn read_selector(input: &str) -> Result<Expr, ParseError> {
    let (tokens, error) = lexer::tokens(input);
    let mut parser = parser::Parser::new(tokens, error);
    let expr = parser.lone_selector()?;
    let next = parser.peek();
    if next.kind == Kind::End { Ok(expr) } else { Err(parser.unexpected(next, "", "")) }
}

fn selector_of(expr: Expr, input: &str) -> Result<Selector, ParseError> {
    match expr.kind {
        ast::ExprKind::Selector(selector) => Ok(selector),
        _ => Err(ParseError::new(expr.span, "expected a series selector").locate(input)),
    }
}
