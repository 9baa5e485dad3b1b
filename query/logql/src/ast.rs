//! The tree of a query. Its canonical text is in `print`.

use model::Matcher;

use crate::error::Position;

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// It selects lines.
    Log(LogExpr),
    /// It computes numbers.
    Metric(MetricExpr),
}

/// A stream selector with the stages behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct LogExpr {
    /// Tests on the stream's labels; none selects all streams.
    pub matchers: Vec<Matcher>,
    /// What is done with each line, in order.
    pub stages: Vec<Stage>,
    /// Where the selector starts.
    pub at: Position,
}

/// One step of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Keeps lines by their text.
    LineFilter(LineFilter),
    /// Makes labels of a JSON line: all, or those that expressions name.
    Json(Vec<Extraction>),
    /// Makes labels of a logfmt line.
    Logfmt {
        /// Stop at the first malformed pair and say so in `__error__`.
        strict: bool,
        /// Keep keys without value.
        keep_empty: bool,
        /// Which keys; all when empty.
        extractions: Vec<Extraction>,
    },
    /// Makes labels of a regular expression's named groups.
    Regexp(String),
    /// Makes labels of a pattern's named captures.
    Pattern(String),
    /// Takes apart a JSON line that an agent packed.
    Unpack,
    /// Keeps lines by their labels.
    LabelFilter(LabelFilter),
    /// Writes the line anew.
    LineFormat(String),
    /// Writes labels anew.
    LabelFormat(Vec<LabelFormat>),
    /// Removes ANSI colour sequences.
    Decolorize,
    /// Removes labels.
    Drop(Vec<NamedMatcher>),
    /// Removes all other labels.
    Keep(Vec<NamedMatcher>),
}

/// How a line filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Regex,
    /// `!~`
    NotRegex,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineOp {
    /// Says whether lines are kept that do not match.
    #[must_use]
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotContains | Self::NotRegex | Self::NotPattern)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Regex => "|~",
            Self::NotRegex => "!~",
            Self::Pattern => "|>",
            Self::NotPattern => "!>",
        }
    }
}

/// A test on a line: one of the alternatives must match. Negative ones have one alternative.
#[derive(Debug, Clone, PartialEq)]
pub struct LineFilter {
    /// How they compare.
    pub op: LineOp,
    /// What is looked for.
    pub alternatives: Vec<LineNeedle>,
}

/// What a line filter looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineNeedle {
    /// Text, a regular expression or a pattern.
    Text(String),
    /// `ip("…")`: an address, a range or a network.
    Ip(String),
}

/// `name="expression"` behind `json` or `logfmt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The label to make.
    pub name: String,
    /// Where its value is.
    pub expression: String,
}

/// How a label filter compares numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
}

impl Compare {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Less => "<",
            Self::LessEqual => "<=",
        }
    }
}

/// A test on labels.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelFilter {
    /// Compares text.
    Text(Matcher),
    /// Compares the label's value as a number.
    Number {
        /// The label.
        name: String,
        /// How.
        compare: Compare,
        /// With what.
        value: f64,
        /// The number as written where it cannot be read; such a query parses, but does not run.
        unread: Option<String>,
    },
    /// Compares the label's value as a duration.
    Duration {
        /// The label.
        name: String,
        /// How.
        compare: Compare,
        /// With how many nanoseconds.
        nanos: i64,
    },
    /// Compares the label's value as a size.
    Bytes {
        /// The label.
        name: String,
        /// How.
        compare: Compare,
        /// With how many bytes.
        bytes: u64,
    },
    /// Looks for an address in the label's value.
    Ip {
        /// The label.
        name: String,
        /// Whether labels pass that hold no such address.
        negative: bool,
        /// An address, a range or a network.
        pattern: String,
    },
    /// Both must pass.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// One must pass.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// One assignment of `label_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFormat {
    /// The label that is set.
    pub name: String,
    /// The template, or the label whose value and name are taken.
    pub value: String,
    /// Whether `value` is a label's name.
    pub rename: bool,
}

/// A label of `drop` or `keep`: by name, or only when a test passes.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedMatcher {
    /// In any case.
    Name(String),
    /// When it passes.
    Matcher(Matcher),
}

/// An expression of numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricExpr {
    /// A number.
    Literal(f64),
    /// A series without labels that has this value at every step.
    Vector(f64),
    /// A function over the lines in a window.
    Range(Box<RangeExpr>),
    /// A function over series.
    Aggregate(Box<AggregateExpr>),
    /// An operator between two expressions.
    Binary(Box<BinaryExpr>),
    /// Sets a label from another.
    LabelReplace(Box<LabelReplaceExpr>),
}

/// A function over the lines in a window.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeExpr {
    /// Which function.
    pub op: RangeOp,
    /// The quantile of `quantile_over_time`.
    pub parameter: Option<f64>,
    /// The lines.
    pub log: LogExpr,
    /// How long the window is, in nanoseconds.
    pub range_ns: i64,
    /// How far back it is moved, in nanoseconds.
    pub offset_ns: i64,
    /// Which label is the value, instead of the line itself.
    pub unwrap: Option<Unwrap>,
    /// Which labels the series keep.
    pub grouping: Option<Grouping>,
    /// Where it starts.
    pub at: Position,
}

/// `| unwrap …` with the label filters behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrap {
    /// The label.
    pub name: String,
    /// How its value becomes a number.
    pub conversion: Conversion,
    /// Tests after the conversion.
    pub filters: Vec<LabelFilter>,
}

/// How an unwrapped value becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// It is one.
    Number,
    /// `bytes(x)`
    Bytes,
    /// `duration(x)`: seconds.
    Duration,
    /// `duration_seconds(x)`: seconds.
    DurationSeconds,
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant,)* }

        impl $type {
            /// Returns the name as a query writes it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(crate) fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

names! {
    /// A function over the lines in a window.
    RangeOp {
        /// Lines.
        Count = "count_over_time",
        /// Lines per second, or with `unwrap` the sum per second.
        Rate = "rate",
        /// The increase of a counter per second.
        RateCounter = "rate_counter",
        /// Bytes of lines.
        Bytes = "bytes_over_time",
        /// Bytes of lines per second.
        BytesRate = "bytes_rate",
        /// The mean.
        Avg = "avg_over_time",
        /// The sum.
        Sum = "sum_over_time",
        /// The least.
        Min = "min_over_time",
        /// The greatest.
        Max = "max_over_time",
        /// The variance.
        Stdvar = "stdvar_over_time",
        /// The standard deviation.
        Stddev = "stddev_over_time",
        /// A quantile.
        Quantile = "quantile_over_time",
        /// The oldest value.
        First = "first_over_time",
        /// The newest value.
        Last = "last_over_time",
        /// 1 where nothing is.
        Absent = "absent_over_time",
    }
}

names! {
    /// A function over series.
    AggregateOp {
        /// The sum.
        Sum = "sum",
        /// The mean.
        Avg = "avg",
        /// How many series.
        Count = "count",
        /// The greatest.
        Max = "max",
        /// The least.
        Min = "min",
        /// The standard deviation.
        Stddev = "stddev",
        /// The variance.
        Stdvar = "stdvar",
        /// The series with the least values.
        BottomK = "bottomk",
        /// The series with the greatest values.
        TopK = "topk",
        /// The same, which Loki may estimate; exact here.
        ApproxTopK = "approx_topk",
        /// All series, least first.
        Sort = "sort",
        /// All series, greatest first.
        SortDesc = "sort_desc",
    }
}

names! {
    /// An operator between two expressions.
    BinaryOp {
        /// Either.
        Or = "or",
        /// Left where right is.
        And = "and",
        /// Left where right is not.
        Unless = "unless",
        /// Sum.
        Add = "+",
        /// Difference.
        Sub = "-",
        /// Product.
        Mul = "*",
        /// Quotient.
        Div = "/",
        /// Remainder.
        Mod = "%",
        /// Power.
        Pow = "^",
        /// Equal.
        Equal = "==",
        /// Not equal.
        NotEqual = "!=",
        /// Greater.
        Greater = ">",
        /// Greater or equal.
        GreaterEqual = ">=",
        /// Less.
        Less = "<",
        /// Less or equal.
        LessEqual = "<=",
    }
}

impl BinaryOp {
    /// Says whether it works on sets of series.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    /// Says whether it compares.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Greater | GreaterEqual | Less | LessEqual)
    }
}

/// `by (…)` or `without (…)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// Whether the named labels are left out instead of kept.
    pub without: bool,
    /// The labels as written.
    pub labels: Vec<String>,
}

/// A function over series.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateExpr {
    /// Which function.
    pub op: AggregateOp,
    /// How many series `topk` and its like keep.
    pub parameter: Option<u64>,
    /// Which labels make a group; none makes one group.
    pub grouping: Option<Grouping>,
    /// The series.
    pub inner: MetricExpr,
}

/// How series of the two sides find each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matching {
    /// Whether only `labels` count, instead of all others.
    pub on: bool,
    /// The labels of `on` or `ignoring`; `None` when neither was written.
    pub labels: Option<Vec<String>>,
    /// Whether one side may have several series for one of the other.
    pub card: Cardinality,
    /// The labels taken over from the one side.
    pub include: Option<Vec<String>>,
}

/// Which side may have several series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    /// Neither.
    #[default]
    OneToOne,
    /// The left one: `group_left`.
    ManyToOne,
    /// The right one: `group_right`.
    OneToMany,
}

/// An operator between two expressions.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryExpr {
    /// Which operator.
    pub op: BinaryOp,
    /// Whether a comparison gives 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// How series find each other.
    pub matching: Matching,
    /// The left side.
    pub left: MetricExpr,
    /// The right side.
    pub right: MetricExpr,
}

/// `label_replace(…)`.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelReplaceExpr {
    /// The series.
    pub inner: MetricExpr,
    /// The label that is set.
    pub target: String,
    /// What it is set to, with `$1` for groups.
    pub replacement: String,
    /// The label that is looked at.
    pub source: String,
    /// The pattern its value must match, anchored.
    pub pattern: String,
}
