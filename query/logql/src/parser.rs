//! Makes the tree of a query: recursive descent for everything but binary operators, which climb by precedence.

mod stages;

use model::{MatchOp, Matcher};

use crate::ast::{
    AggregateExpr, AggregateOp, BinaryExpr, BinaryOp, Cardinality, Conversion, Expr, Grouping, LabelReplaceExpr,
    LogExpr, Matching, MetricExpr, RangeExpr, RangeOp, Unwrap,
};
use crate::error::{ParseError, Position};
use crate::lexer::{self, Kind, Token};
use crate::{binary, go};

/// Deepest nesting, so that no query can exhaust the stack.
const DEPTH_MAX: usize = 100;

/// Most binary operators and label filters in a query, for the same reason: chains of them make deep trees.
const CHAIN_MAX: usize = 500;

type Parsed<T> = Result<T, ParseError>;

/// What Loki says of a selector that touches every stream.
const EMPTY_COMPATIBLE: &str = "queries require at least one regexp or equality matcher that does not have an \
    empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will";

/// Parses a query.
///
/// A selector whose matchers all accept an empty value is refused, as Loki does; `{}` selects all streams.
///
/// # Errors
/// Where the text stops being LogQL, what was found there and what was expected.
pub fn parse(text: &str) -> Parsed<Expr> {
    if text.is_empty() {
        return Err(ParseError::whole("syntax error: unexpected $end"));
    }
    let tokens = lexer::tokens(text)?;
    check_patterns(&tokens)?;
    let mut parser = Parser { tokens, i: 0, depth: 0, chained: 0, deferred: None };
    let expr = parser.expr(0)?;
    if *parser.peek() != Kind::End {
        return Err(parser.unexpected(&[]));
    }
    parser.deferred.map_or(Ok(expr), Err)
}

/// Parses a query that must select lines.
///
/// # Errors
/// As [`parse`], and for expressions of numbers.
pub fn parse_log(text: &str) -> Parsed<LogExpr> {
    match parse(text)? {
        Expr::Log(log) => Ok(log),
        Expr::Metric(_) => Err(ParseError::whole("only log selector is supported")),
    }
}

/// Checks that a query's regular expressions do not take too much memory together.
fn check_patterns(tokens: &[Token]) -> Parsed<()> {
    let (mut budget, mut follows) = (model::pattern::Budget::default(), false);
    for Token { kind, at } in tokens {
        match kind {
            Kind::Word("=~" | "!~" | "|~" | "regexp") => follows = true,
            Kind::Word("or") if follows => {}
            Kind::Str(text) if follows => {
                budget.take(text).map_err(|error| ParseError::new(*at, error.to_string()))?;
            }
            _ => follows = false,
        }
    }
    Ok(())
}

struct Parser {
    tokens: Vec<Token>,
    i: usize,
    depth: usize,
    chained: usize,
    /// A fault of what was read, told when the rest is well-formed.
    deferred: Option<ParseError>,
}

impl Parser {
    /// Notes a fault of an expression that has been read; `outside` says whether one was noted before it began. The
    /// outermost fault is told, and of several side by side the first.
    fn defer(&mut self, outside: bool, fault: impl Into<String>) {
        if !outside {
            self.deferred = Some(ParseError::whole(fault));
        }
    }

    fn peek(&self) -> &Kind {
        self.tokens.get(self.i).map_or(&Kind::End, |token| &token.kind)
    }

    fn peek_after(&self, n: usize) -> &Kind {
        self.tokens.get(self.i + n).map_or(&Kind::End, |token| &token.kind)
    }

    fn at(&self) -> Position {
        self.tokens.get(self.i).or(self.tokens.last()).map_or_else(Position::default, |token| token.at)
    }

    fn bump(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.i += 1;
        kind
    }

    fn is(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(have) if *have == word)
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.i += usize::from(found);
        found
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.eat(word) { Ok(()) } else { Err(self.unexpected(&[word])) }
    }

    fn unexpected(&self, expected: &[&str]) -> ParseError {
        let at = self.tokens.get(self.i).or(self.tokens.last()).map_or_else(Position::default, Token::told_at);
        if let Kind::Bad(message) = self.peek() {
            return ParseError::new(at, message.clone());
        }
        let mut message = format!("syntax error: unexpected {}", self.peek().name());
        if !expected.is_empty() {
            message.push_str(", expecting ");
            message.push_str(&expected.join(" or "));
        }
        ParseError::new(at, message)
    }

    /// Reads the bracket that closes an expression: operators might go on there, so nothing is said to be expected.
    fn close(&mut self) -> Parsed<()> {
        if self.eat(")") { Ok(()) } else { Err(self.unexpected(&[])) }
    }

    fn string(&mut self) -> Parsed<String> {
        match self.peek() {
            Kind::Str(_) => {}
            _ => return Err(self.unexpected(&["STRING"])),
        }
        let Kind::Str(text) = self.bump() else { return Err(self.unexpected(&["STRING"])) };
        Ok(text)
    }

    fn ident(&mut self) -> Parsed<String> {
        match self.peek() {
            Kind::Ident(_) => {}
            _ => return Err(self.unexpected(&["IDENTIFIER"])),
        }
        let Kind::Ident(text) = self.bump() else { return Err(self.unexpected(&["IDENTIFIER"])) };
        Ok(text)
    }

    fn number(&mut self) -> Parsed<String> {
        match self.peek() {
            Kind::Number(_) => {}
            _ => return Err(self.unexpected(&["NUMBER"])),
        }
        let Kind::Number(text) = self.bump() else { return Err(self.unexpected(&["NUMBER"])) };
        Ok(text)
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ParseError::new(self.at(), format!("the query is nested more than {DEPTH_MAX} levels deep")));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn chain(&mut self) -> Parsed<()> {
        self.chained += 1;
        if self.chained > CHAIN_MAX {
            let message = format!("the query has more than {CHAIN_MAX} operators and label filters");
            return Err(ParseError::new(self.at(), message));
        }
        Ok(())
    }

    fn expr(&mut self, precedence_min: u8) -> Parsed<Expr> {
        let mut left = self.deeper(Self::primary)?;
        loop {
            let Kind::Word(word) = *self.peek() else { return Ok(left) };
            let Some(op) = BinaryOp::from_name(word) else { return Ok(left) };
            let precedence = precedence(op);
            if precedence < precedence_min {
                return Ok(left);
            }
            self.bump();
            self.chain()?;
            let (return_bool, matching) = self.modifier()?;
            let right_min = if op == BinaryOp::Pow { precedence } else { precedence + 1 };
            let right = self.deeper(|parser| parser.expr(right_min))?;
            left = Expr::Metric(binary_expr(op, return_bool, matching, left, right)?);
        }
    }

    fn metric(&mut self) -> Parsed<MetricExpr> {
        match self.expr(0)? {
            Expr::Metric(metric) => Ok(metric),
            Expr::Log(_) => Err(self.unexpected(&[])),
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.peek().clone() {
            Kind::Word("{") => self.log_expr().map(Expr::Log),
            Kind::Word("(") => {
                self.bump();
                let inner = self.expr(0)?;
                self.close()?;
                Ok(inner)
            }
            Kind::Word(sign @ ("+" | "-")) => {
                self.bump();
                let value = self.literal()?;
                Ok(Expr::Metric(MetricExpr::Literal(if sign == "-" { -value } else { value })))
            }
            Kind::Number(_) => self.literal().map(|value| Expr::Metric(MetricExpr::Literal(value))),
            Kind::Function("vector") => self.vector().map(Expr::Metric),
            Kind::Function("label_replace") => self.label_replace().map(Expr::Metric),
            Kind::Function(name) => {
                if let Some(op) = RangeOp::from_name(name) {
                    return self.range_aggregation(op).map(Expr::Metric);
                }
                match AggregateOp::from_name(name) {
                    Some(op) => self.aggregation(op).map(Expr::Metric),
                    None => Err(self.unexpected(&[])),
                }
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    fn literal(&mut self) -> Parsed<f64> {
        let text = self.number()?;
        go::parse_float(&text)
            .ok_or_else(|| ParseError::whole(format!("unable to parse literal as a float: {}", go::float_error(&text))))
    }

    fn vector(&mut self) -> Parsed<MetricExpr> {
        self.bump();
        self.expect("(")?;
        let text = self.number()?;
        self.expect(")")?;
        let invalid = || ParseError::whole(format!("unable to parse vectorExpr as a float: {}", go::quote(&text)));
        go::parse_float(&text).map(MetricExpr::Vector).ok_or_else(invalid)
    }

    fn label_replace(&mut self) -> Parsed<MetricExpr> {
        let outside = self.deferred.is_some();
        self.bump();
        self.expect("(")?;
        let inner = self.metric()?;
        let mut texts = Vec::with_capacity(4);
        for _ in 0..4 {
            self.expect(",")?;
            texts.push(self.string()?);
        }
        self.expect(")")?;
        let Ok([target, replacement, source, pattern]) = <[String; 4]>::try_from(texts) else {
            return Err(self.unexpected(&["STRING"]));
        };
        if let Err(error) = crate::regex::anchored(&pattern) {
            self.defer(outside, format!("invalid regex in label_replace: {}", error_of_anchored(&error, &pattern)));
        }
        Ok(MetricExpr::LabelReplace(Box::new(LabelReplaceExpr { inner, target, replacement, source, pattern })))
    }

    fn aggregation(&mut self, op: AggregateOp) -> Parsed<MetricExpr> {
        let outside = self.deferred.is_some();
        self.bump();
        let before = self.grouping()?;
        self.expect("(")?;
        let mut parameter = None;
        if let (Kind::Number(text), Kind::Word(",")) = (self.peek().clone(), self.peek_after(1)) {
            parameter = Some(text);
            self.i += 2;
        }
        let inner = self.metric()?;
        self.close()?;
        let grouping = if before.is_some() { before } else { self.grouping()? };
        let parameter = match aggregate_parameter(op, parameter, grouping.as_ref()) {
            Ok(parameter) => parameter,
            Err(fault) => {
                self.defer(outside, fault);
                None
            }
        };
        Ok(MetricExpr::Aggregate(Box::new(AggregateExpr { op, parameter, grouping, inner })))
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let without = self.is("without");
        if !without && !self.is("by") {
            return Ok(None);
        }
        self.bump();
        let labels = self.label_list()?;
        Ok(Some(Grouping { without, labels }))
    }

    fn label_list(&mut self) -> Parsed<Vec<String>> {
        self.expect("(")?;
        let mut labels = Vec::new();
        if self.eat(")") {
            return Ok(labels);
        }
        loop {
            match self.peek() {
                Kind::Ident(_) => labels.push(self.ident()?),
                _ if labels.is_empty() => return Err(self.unexpected(&["IDENTIFIER", ")"])),
                _ => return Err(self.unexpected(&["IDENTIFIER"])),
            }
            if self.eat(")") {
                return Ok(labels);
            }
            if !self.eat(",") {
                return Err(self.unexpected(&[",", ")"]));
            }
        }
    }

    fn modifier(&mut self) -> Parsed<(bool, Matching)> {
        let return_bool = self.eat("bool");
        let mut matching = Matching::default();
        let on = self.is("on");
        if !on && !self.is("ignoring") {
            return Ok((return_bool, matching));
        }
        self.bump();
        matching.on = on;
        matching.labels = Some(self.label_list()?);
        matching.card = match self.peek() {
            Kind::Word("group_left") => Cardinality::ManyToOne,
            Kind::Word("group_right") => Cardinality::OneToMany,
            _ => return Ok((return_bool, matching)),
        };
        self.bump();
        // `group_left (a)` names labels; `group_left (rate(...))` starts the right side.
        if self.is("(") && matches!(self.peek_after(1), Kind::Ident(_) | Kind::Word(")")) {
            let labels = self.label_list()?;
            matching.include = Some(labels).filter(|labels| !labels.is_empty());
        }
        Ok((return_bool, matching))
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Parsed<MetricExpr> {
        let at = self.at();
        let outside = self.deferred.is_some();
        self.bump();
        self.expect("(")?;
        let parameter = match self.peek() {
            Kind::Number(_) => {
                let text = self.number()?;
                self.expect(",")?;
                Some(text)
            }
            Kind::Word("{" | "(") => None,
            _ => return Err(self.unexpected(&["NUMBER", "{", "("])),
        };
        if !matches!(self.peek(), Kind::Word("{" | "(")) {
            return Err(self.unexpected(&["{", "("]));
        }
        let range = self.deeper(Self::log_range)?;
        self.expect(")")?;
        let grouping = self.grouping()?;
        let (parameter, mut fault) = match range_parameter(op, parameter) {
            Ok(parameter) => (parameter, None),
            Err(fault) => (None, Some(fault)),
        };
        let Range { log, range_ns, offset_ns, unwrap } = range;
        let expr = RangeExpr { op, parameter, log, range_ns, offset_ns, unwrap, grouping, at };
        fault = fault.or_else(|| check_range(&expr).err());
        if let Some(fault) = fault {
            self.defer(outside, fault);
        }
        Ok(MetricExpr::Range(Box::new(expr)))
    }

    fn log_range(&mut self) -> Parsed<Range> {
        if !self.eat("(") {
            return self.bare_range();
        }
        if self.is("(") {
            let inner = self.deeper(Self::log_range)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let mut log = self.selector()?;
        if let Kind::Range(_) = self.peek() {
            let range = self.range_end(log)?;
            self.expect(")")?;
            return Ok(range);
        }
        log.stages = self.pipeline()?;
        let unwrap = self.unwrap()?;
        if let Kind::Range(_) = self.peek() {
            let range = self.window(log, unwrap)?;
            self.expect(")")?;
            return Ok(range);
        }
        self.expect(")")?;
        let closed = !log.stages.is_empty() || unwrap.is_some();
        let mut range = self.window(log, unwrap)?;
        if !closed {
            range.unwrap = self.unwrap()?;
        }
        Ok(range)
    }

    fn bare_range(&mut self) -> Parsed<Range> {
        let mut log = self.selector()?;
        if let Kind::Range(_) = self.peek() {
            return self.range_end(log);
        }
        log.stages = self.pipeline()?;
        let unwrap = self.unwrap()?;
        self.window(log, unwrap)
    }

    /// A range directly behind the selector; the pipeline may come after it.
    fn range_end(&mut self, log: LogExpr) -> Parsed<Range> {
        let mut range = self.window(log, None)?;
        range.log.stages = self.pipeline()?;
        range.unwrap = self.unwrap()?;
        Ok(range)
    }

    fn window(&mut self, log: LogExpr, unwrap: Option<Unwrap>) -> Parsed<Range> {
        let Kind::Range(range_ns) = *self.peek() else { return Err(self.unexpected(&[])) };
        self.bump();
        let mut offset_ns = 0;
        if self.eat("offset") {
            let Kind::Duration(nanos) = *self.peek() else { return Err(self.unexpected(&["DURATION"])) };
            self.bump();
            offset_ns = nanos;
        }
        Ok(Range { log, range_ns, offset_ns, unwrap })
    }

    fn unwrap(&mut self) -> Parsed<Option<Unwrap>> {
        if !(self.is("|") && matches!(self.peek_after(1), Kind::Word("unwrap"))) {
            return Ok(None);
        }
        self.i += 2;
        let conversion = match self.peek() {
            Kind::Function("bytes") => Conversion::Bytes,
            Kind::Function("duration") => Conversion::Duration,
            Kind::Function("duration_seconds") => Conversion::DurationSeconds,
            _ => Conversion::Number,
        };
        let name = if conversion == Conversion::Number {
            if !matches!(self.peek(), Kind::Ident(_)) {
                let conversions = ["IDENTIFIER", "BYTES_CONV", "DURATION_CONV", "DURATION_SECONDS_CONV"];
                return Err(self.unexpected(&conversions));
            }
            self.ident()?
        } else {
            self.bump();
            self.expect("(")?;
            let name = self.ident()?;
            self.expect(")")?;
            name
        };
        let mut filters = Vec::new();
        while self.eat("|") {
            filters.push(self.label_filter(None)?);
        }
        if filters.is_empty() && !matches!(self.peek(), Kind::Range(_) | Kind::Word(")")) {
            return Err(self.unexpected(&["RANGE", "|"]));
        }
        Ok(Some(Unwrap { name, conversion, filters }))
    }

    fn log_expr(&mut self) -> Parsed<LogExpr> {
        let mut log = self.selector()?;
        log.stages = self.pipeline()?;
        // Only a window may follow what is unwrapped.
        if self.is("|") {
            self.bump();
            return Err(self.unexpected(&[]));
        }
        Ok(log)
    }

    fn selector(&mut self) -> Parsed<LogExpr> {
        let at = self.at();
        self.expect("{")?;
        let mut matchers = Vec::new();
        if self.eat("}") {
            return Ok(LogExpr { matchers, stages: Vec::new(), at });
        }
        loop {
            match self.peek() {
                Kind::Ident(_) => matchers.push(self.matcher()?),
                _ if matchers.is_empty() => return Err(self.unexpected(&["IDENTIFIER", "}"])),
                _ => return Err(self.unexpected(&["IDENTIFIER"])),
            }
            if self.eat("}") {
                break;
            }
            if !self.eat(",") {
                return Err(self.unexpected(&["}", ","]));
            }
        }
        if matchers.iter().all(Matcher::matches_empty) && self.deferred.is_none() {
            self.deferred = Some(ParseError::whole(EMPTY_COMPATIBLE));
        }
        Ok(LogExpr { matchers, stages: Vec::new(), at })
    }

    fn matcher(&mut self) -> Parsed<Matcher> {
        let name = self.ident()?;
        let op = match self.peek() {
            Kind::Word("=") => MatchOp::Equal,
            Kind::Word("!=") => MatchOp::NotEqual,
            Kind::Word("=~") => MatchOp::Regex,
            Kind::Word("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected(&["=", "=~", "!~", "!="])),
        };
        self.bump();
        let value = self.string()?;
        matcher(name, op, value)
    }
}

fn matcher(name: String, op: MatchOp, value: String) -> Parsed<Matcher> {
    Matcher::new(name, op, value).map_err(|error| ParseError::whole(error.to_string()))
}

/// Tells what is wrong with a pattern as when its anchors are part of it.
fn error_of_anchored(error: &str, pattern: &str) -> String {
    if error.contains(": missing closing ]: `") {
        format!("{})$`", error.strip_suffix('`').unwrap_or(error))
    } else if error.contains(": missing closing ): `") || error.contains(": unexpected ): `") {
        let what = error.split_once(": `").map_or(error, |(what, _)| what);
        format!("{what}: `^(?:{pattern})$`")
    } else {
        error.to_owned()
    }
}

struct Range {
    log: LogExpr,
    range_ns: i64,
    offset_ns: i64,
    unwrap: Option<Unwrap>,
}

/// Checks what is given to a function over series.
fn aggregate_parameter(
    op: AggregateOp,
    parameter: Option<String>,
    grouping: Option<&Grouping>,
) -> Result<Option<u64>, String> {
    let name = op.as_str();
    let is_grouped = grouping.is_some_and(|grouping| !grouping.labels.is_empty());
    match (op, parameter) {
        (AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::ApproxTopK, None) => {
            Err(format!("parameter required for operation {name}"))
        }
        (AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::ApproxTopK, Some(text)) => {
            let value: u64 = text.parse().map_err(|_| format!("invalid parameter {name}({text},"))?;
            if value == 0 {
                return Err(format!("invalid parameter (must be greater than 0) {name}({text}"));
            }
            if op == AggregateOp::ApproxTopK && grouping.is_some() {
                return Err(format!("grouping not allowed for {name} aggregation"));
            }
            Ok(Some(value))
        }
        (_, Some(text)) => Err(format!("unsupported parameter for operation {name}({text},")),
        (AggregateOp::Sort | AggregateOp::SortDesc, None) if is_grouped => {
            Err("sort and sort_desc doesn't allow grouping by ".to_owned())
        }
        (_, None) => Ok(None),
    }
}

/// Checks what is given to a function over lines.
fn range_parameter(op: RangeOp, parameter: Option<String>) -> Result<Option<f64>, String> {
    let name = op.as_str();
    match (op, parameter) {
        (RangeOp::Quantile, None) => Err(format!("parameter required for operation {name}")),
        (RangeOp::Quantile, Some(text)) => {
            let invalid = || format!("invalid parameter for operation {name}: {text}");
            go::parse_float(&text).map(Some).ok_or_else(invalid)
        }
        (_, Some(text)) => Err(format!("parameter {text} not supported for operation {name}")),
        (_, None) => Ok(None),
    }
}

fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 5,
        BinaryOp::Pow => 6,
        _ => 3,
    }
}

fn binary_expr(op: BinaryOp, return_bool: bool, matching: Matching, left: Expr, right: Expr) -> Parsed<MetricExpr> {
    let side = |expr, side| match expr {
        Expr::Metric(metric) => Ok(metric),
        Expr::Log(_) => Err(ParseError::whole(format!(
            "unexpected type for {side} leg of binary operation ({}): a log query",
            op.as_str()
        ))),
    };
    let left = side(left, "left")?;
    let right = side(right, "right")?;
    if op.is_set() {
        for (expr, side) in [(&left, "left"), (&right, "right")] {
            if let MetricExpr::Literal(value) = expr {
                return Err(ParseError::whole(format!(
                    "unexpected literal for {side} leg of logical/set binary operation ({}): {value:.6}",
                    op.as_str()
                )));
            }
        }
    }
    if let (MetricExpr::Literal(left), MetricExpr::Literal(right)) = (&left, &right) {
        return Ok(MetricExpr::Literal(binary::apply(op, *left, *right)));
    }
    Ok(MetricExpr::Binary(Box::new(BinaryExpr { op, return_bool, matching, left, right })))
}

/// Checks what functions allow: `unwrap`, grouping.
fn check_range(expr: &RangeExpr) -> Result<(), String> {
    use RangeOp::{Absent, Avg, Bytes, BytesRate, Count, First, Last, Max, Min, Quantile, Rate, Stddev, Stdvar};
    let RangeExpr { op, grouping, unwrap, .. } = expr;
    let name = op.as_str();
    if grouping.is_some() && !matches!(op, Avg | Stddev | Stdvar | Quantile | Max | Min | First | Last) {
        return Err(format!("grouping not allowed for {name} aggregation"));
    }
    let (bad, how) = match unwrap {
        Some(_) => (matches!(op, Count | Bytes | BytesRate), "with"),
        None => (!matches!(op, Count | Rate | Bytes | BytesRate | Absent), "without"),
    };
    if bad {
        return Err(format!("invalid aggregation {name} {how} unwrap"));
    }
    Ok(())
}
