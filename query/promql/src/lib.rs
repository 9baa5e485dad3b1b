//! PromQL: lexer, parser, functions, evaluation over all steps at once.
//!
//! [`parse`] reads an expression into a tree with a place on every node; printing the tree gives the canonical form.
//! [`evaluate`] computes it over all steps at once: series are read part by part from a [`Source`], in parallel on the
//! `rayon` pool of the calling thread, and become columns with one value per step. It never walks step by step, and it
//! stops when the [`QueryContext`](storage_api::QueryContext) is cancelled or a limit is met.
//!
//! Other languages can use the pieces: [`Grid`], [`Series`] and [`Value`] hold columns over steps,
//! [`eval::aggregate::aggregate`] aggregates them by labels, [`eval::binary::binary`] computes operators with vector
//! matching, [`eval::elementwise`] has functions of single samples, and [`Merger`] unites series.
//!
//! ```
//! use query_promql::{Grid, Options, Query, Stored, Value, evaluate, parse};
//! use storage_api::{QueryContext, fake::FakeMetrics};
//!
//! let metrics = FakeMetrics::default();
//! metrics.push(&model::Labels::from_pairs([("__name__", "up")]), 60_000, 1.0);
//! let text = "sum(up) + 1";
//! let expr = parse::parse(text).expect("a valid expression");
//! let query = Query { expr: &expr, text, grid: Grid::instant(60_000), is_range: false, options: Options::default() };
//! let answer = evaluate(&query, &Stored(&metrics), &QueryContext::default()).expect("an answer");
//! let Value::Vector(series) = answer.value else { panic!("a vector") };
//! assert_eq!(series[0].values, vec![2.0]);
//! ```

mod error;
pub mod eval;
pub mod functions;
mod notes;
mod number;
pub mod parse;
mod source;
mod value;

pub use error::{Error, Result};
pub use eval::{Answer, Options, Query, StepTally, evaluate, evaluate_counted};
pub use model::histogram;
pub use source::{Part, Source, Stored};
pub use value::{ABSENT, Grid, HistogramColumn, Merger, Point, Samples, Series, Value, is_absent, without_metadata};
