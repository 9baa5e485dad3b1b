//! LogQL: lexer, parser, pipeline stages, evaluation.
//!
//! [`parse`] makes an [`Expr`] of a query's text; printing it gives Loki's canonical text. [`select_logs`] and [`evaluate`]
//! run it on a [`LogQuerier`](storage_api::LogQuerier), on the threads of the `rayon` pool they are called in. Nothing here
//! knows HTTP, files or indexes: the store is told what every wanted row must hold (see [`log_select`]) and each row it gives
//! is tested again, so an answer never depends on an index.
//!
//! ```
//! let expr = query_logql::parse(r#"sum by (app) (rate({env="prod"} |= "error" [5m]))"#).expect("LogQL");
//! assert_eq!(expr.to_string(), r#"sum by (app)(rate({env="prod"} |= "error"[5m]))"#);
//! ```

mod ast;
mod binary;
mod context;
mod error;
mod eval;
mod fields;
mod follow;
mod go;
mod level;
mod lexer;
mod literals;
mod mine;
mod pages;
mod parser;
mod pattern;
mod print;
mod regex;
mod row;
mod simplify;
mod stage;
mod template;
mod written;

pub use ast::*;
pub use context::{ContextQuery, LineContext, line_context};
pub use error::{Error, ParseError, Position, Result};
pub use eval::{Direction, LogEntry, LogQuery, MetricResult, Series, Steps, evaluate, log_select, select_logs};
pub use fields::{Field, fields};
pub use follow::Follower;
pub use go::{is_size, parse_any_duration as parse_duration};
pub use mine::{LinePattern, mine_patterns};
pub use pages::{Pager, Place};
pub use parser::{parse, parse_log};
pub use print::{layout, selector_text};
pub use row::CategorizedLabels;
pub use written::{LineWriter, PassedLine, SortedPairs, WrittenLine};
