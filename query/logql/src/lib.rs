//! LogQL: lexer, parser, pipeline stages, evaluation.

mod ast;
mod binary;
mod error;
mod go;
mod lexer;
mod parser;
mod pattern;
mod regex;
mod simplify;

pub use ast::*;
pub use error::{Error, ParseError, Position, Result};
pub use parser::{parse, parse_log, parse_selector};
