//! The syntax tree, each node with its place in the text.

use model::Matcher;

use crate::functions::Function;

/// Where a node lies in the expression's text: bytes from `start` up to, and without, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end) }
    }

    pub(crate) fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }

    /// Returns line and column, both from 1, the column in bytes.
    #[must_use]
    pub fn line_column(self, input: &str) -> (usize, usize) {
        let before = input.as_bytes().get(..self.start as usize).unwrap_or(input.as_bytes());
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        (before.iter().filter(|b| **b == b'\n').count() + 1, before.len() - line_start + 1)
    }
}

/// A node of the tree.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it is.
    pub span: Span,
    /// How many levels of nodes there are from here down.
    pub(crate) depth: u16,
}

/// Two expressions are equal when they mean the same; places do not count.
impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A number, also one written as a duration.
    Number(Number),
    /// A text.
    Text(String),
    /// A selector of the newest sample at each step.
    Selector(Selector),
    /// A selector of the samples in a window before each step.
    Range(Selector, Duration),
    /// A window over an expression that is evaluated at points of its own.
    Subquery(Box<Subquery>),
    /// A function call.
    Call(&'static Function, Vec<Expr>),
    /// An aggregation over labels.
    Aggregate(Box<Aggregate>),
    /// An operator with two sides.
    Binary(Box<Binary>),
    /// `-expr` or `+expr`.
    Unary(bool, Box<Expr>),
    /// `(expr)`.
    Paren(Box<Expr>),
}

/// A number as it was written.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// The value; seconds for a duration.
    pub value: f64,
    /// Whether it was written as a duration.
    pub is_duration: bool,
}

/// Equal when the values' bits are, so that NaN equals itself.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.value.to_bits() == other.value.to_bits() || (self.value.is_nan() && other.value.is_nan())
    }
}

/// `name{matchers} @ at offset duration`.
#[derive(Debug, Clone)]
pub struct Selector {
    /// The metric's name where it stands before the braces.
    pub name: Option<String>,
    /// All matchers, that of the name included.
    pub matchers: Vec<Matcher>,
    /// How far to look back from each step.
    pub offset: Option<Duration>,
    /// The time that stands for every step.
    pub at: Option<At>,
    /// What happens at the window's borders.
    pub borders: Borders,
}

/// Equal whatever the order of the matchers, which does not change what is selected.
impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |selector: &Self| {
            let mut all: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
            all.sort();
            all
        };
        self.name == other.name
            && self.offset == other.offset
            && self.at == other.at
            && self.borders == other.borders
            && sorted(self) == sorted(other)
    }
}

/// What a range selector takes in at its window's borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Borders {
    /// Only what is inside.
    #[default]
    Plain,
    /// The last sample before the window, too.
    Anchored,
    /// Values interpolated at both borders.
    Smoothed,
}

/// The time of an `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the epoch.
    Time(i64),
    /// `start()`: the first step of the query.
    Start,
    /// `end()`: the last step of the query.
    End,
}

/// `expr[range:step] @ at offset duration`.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// The window.
    pub range: Duration,
    /// The distance of the points; the default interval where not given.
    pub step: Option<Duration>,
    /// How far to look back from each step.
    pub offset: Option<Duration>,
    /// The time that stands for every step.
    pub at: Option<At>,
}

/// A duration, which may be computed.
#[derive(Debug, Clone)]
pub struct Duration {
    /// How it is made.
    pub kind: DurationKind,
    /// Where it is.
    pub span: Span,
}

impl PartialEq for Duration {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// How a duration is made.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationKind {
    /// Seconds.
    Seconds(Number),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `min_of(a, b)`
    MinOf(Box<Duration>, Box<Duration>),
    /// `max_of(a, b)`
    MaxOf(Box<Duration>, Box<Duration>),
    /// `-a`
    Neg(Box<Duration>),
    /// `(a)`
    Paren(Box<Duration>),
    /// One of `+ - * / % ^` between two.
    Binary(DurationOp, Box<Duration>, Box<Duration>),
}

/// An operator between durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurationOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
}

/// `op by (labels) (param, expr)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which one.
    pub op: AggregateOp,
    /// The parameter of `topk`, `quantile`, `count_values`, …
    pub param: Option<Expr>,
    /// What is aggregated.
    pub expr: Expr,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether `grouping` is left out instead of kept.
    pub without: bool,
}

/// An aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the language's")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    const ALL: [(&'static str, Self); 14] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("count_values", Self::CountValues),
        ("quantile", Self::Quantile),
        ("limitk", Self::Limitk),
        ("limit_ratio", Self::LimitRatio),
    ];

    /// Returns the aggregation called `word`, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        find_word(&Self::ALL, word)
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        word_of(&Self::ALL, self)
    }

    /// Says whether it takes a parameter before the expression.
    #[must_use]
    pub fn has_param(self) -> bool {
        matches!(
            self,
            Self::Topk | Self::Bottomk | Self::CountValues | Self::Quantile | Self::Limitk | Self::LimitRatio
        )
    }
}

/// `lhs op matching rhs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Which one.
    pub op: BinaryOp,
    /// The left side.
    pub lhs: Expr,
    /// The right side.
    pub rhs: Expr,
    /// Whether a comparison gives 0 and 1 instead of filtering.
    pub returns_bool: bool,
    /// How series of the two sides find each other.
    pub matching: Matching,
}

/// How series of two sides find each other.
#[derive(Debug, Clone, Default)]
pub struct Matching {
    /// Whether `labels` are those to compare (`on`) or those not to (`ignoring`).
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// Which side may have more than one series for a match.
    pub cardinality: Cardinality,
    /// Labels taken from the "one" side.
    pub include: Vec<String>,
    /// What stands for a missing sample on the left.
    pub fill_left: Option<f64>,
    /// What stands for a missing sample on the right.
    pub fill_right: Option<f64>,
}

/// Equal when all parts are; NaN equals NaN.
impl PartialEq for Matching {
    fn eq(&self, other: &Self) -> bool {
        let bits =
            |fill: Option<f64>| fill.map(|value| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() });
        self.on == other.on
            && self.labels == other.labels
            && self.cardinality == other.cardinality
            && self.include == other.include
            && bits(self.fill_left) == bits(other.fill_left)
            && bits(self.fill_right) == bits(other.fill_right)
    }
}

/// Which side may have more than one series for a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    /// Neither.
    #[default]
    OneToOne,
    /// The left one: `group_left`.
    ManyToOne,
    /// The right one: `group_right`.
    OneToMany,
    /// Both, for `and`, `or`, `unless`.
    ManyToMany,
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the language's")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    const ALL: [(&'static str, Self); 18] = [
        ("+", Self::Add),
        ("-", Self::Sub),
        ("*", Self::Mul),
        ("/", Self::Div),
        ("%", Self::Mod),
        ("^", Self::Pow),
        ("atan2", Self::Atan2),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        (">", Self::Greater),
        ("<", Self::Less),
        (">=", Self::GreaterEqual),
        ("<=", Self::LessEqual),
        ("</", Self::TrimUpper),
        (">/", Self::TrimLower),
        ("and", Self::And),
        ("or", Self::Or),
        ("unless", Self::Unless),
    ];

    /// Returns the operator written as `word`, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        find_word(&Self::ALL, word)
    }

    /// Returns the operator as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        word_of(&Self::ALL, self)
    }

    /// Says whether it compares.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Greater | Self::Less | Self::GreaterEqual | Self::LessEqual)
    }

    /// Says whether it is one of `and`, `or`, `unless`.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Returns how strongly it binds: higher is stronger.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
            _ => 3,
        }
    }
}

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// One number per step.
    Scalar,
    /// One sample per series and step.
    Vector,
    /// A window of samples per series and step.
    Matrix,
    /// A text.
    Text,
}

impl ValueType {
    /// Returns the type's name in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Text => "string",
        }
    }
}

impl Expr {
    /// Returns the type of the value.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::Text(_) => ValueType::Text,
            ExprKind::Selector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
            ExprKind::Range(..) | ExprKind::Subquery(_) => ValueType::Matrix,
            ExprKind::Call(function, _) => function.returns,
            ExprKind::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => inner.value_type(),
        }
    }

    /// Returns the expression inside any parentheses.
    #[must_use]
    pub fn unparen(&self) -> &Self {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }
}

/// Finds what `word` stands for in a table of the language's words, in any case.
fn find_word<T: Copy>(table: &[(&'static str, T)], word: &str) -> Option<T> {
    table.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, meaning)| *meaning)
}

/// Finds the word for `meaning` in a table of the language's words.
fn word_of<T: Copy + PartialEq>(table: &[(&'static str, T)], meaning: T) -> &'static str {
    table.iter().find(|(_, other)| *other == meaning).map_or("", |(word, _)| word)
}
