//! The pipeline behind a selector.

use model::MatchOp;

use super::{Parsed, Parser, matcher};
use crate::ast::{Compare, Extraction, LabelFilter, LabelFormat, LineFilter, LineNeedle, LineOp, NamedMatcher, Stage};
use crate::error::ParseError;
use crate::lexer::Kind;
use crate::{go, pattern, regex};

/// Most expressions of a `json` or `logfmt` stage: each goes through the whole line.
const EXTRACTIONS_MAX: usize = 1_000;

/// What joins two label filters; it decides how far the right one reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    And,
    Or,
    Comma,
    Nothing,
}

impl Parser {
    pub(super) fn pipeline(&mut self) -> Parsed<Vec<Stage>> {
        let mut stages = Vec::new();
        loop {
            let op = match self.peek() {
                Kind::Word("|=") => LineOp::Contains,
                Kind::Word("!=") => LineOp::NotContains,
                Kind::Word("|~") => LineOp::Regex,
                Kind::Word("!~") => LineOp::NotRegex,
                Kind::Word("|>") => LineOp::Pattern,
                Kind::Word("!>") => LineOp::NotPattern,
                Kind::Word("|") if matches!(self.peek_after(1), Kind::Word("unwrap")) => return Ok(stages),
                Kind::Word("|") => {
                    self.bump();
                    stages.push(self.stage()?);
                    continue;
                }
                _ => return Ok(stages),
            };
            // `{…} != rate(…)` compares; only a string or ip() makes a line filter of it.
            self.bump();
            self.line_filter(op, &mut stages)?;
        }
    }

    fn line_filter(&mut self, op: LineOp, stages: &mut Vec<Stage>) -> Parsed<()> {
        let mut alternatives = vec![self.line_needle()?];
        while self.is("or") && matches!(self.peek_after(1), Kind::Str(_) | Kind::Function("ip")) {
            self.chain()?;
            self.bump();
            alternatives.push(self.line_needle()?);
        }
        if op.is_negative() {
            let each = alternatives.into_iter().map(|needle| LineFilter { op, alternatives: vec![needle] });
            stages.extend(each.map(Stage::LineFilter));
        } else {
            stages.push(Stage::LineFilter(LineFilter { op, alternatives }));
        }
        Ok(())
    }

    fn line_needle(&mut self) -> Parsed<LineNeedle> {
        match self.peek() {
            Kind::Str(_) => self.string().map(LineNeedle::Text),
            Kind::Function("ip") => self.ip().map(LineNeedle::Ip),
            _ => Err(self.unexpected(&["STRING", "ip"])),
        }
    }

    fn ip(&mut self) -> Parsed<String> {
        self.bump();
        self.expect("(")?;
        let pattern = self.string()?;
        self.expect(")")?;
        Ok(pattern)
    }

    fn stage(&mut self) -> Parsed<Stage> {
        let Kind::Word(word) = *self.peek() else {
            return self.label_filter(None).map(Stage::LabelFilter);
        };
        match word {
            "json" => {
                self.bump();
                self.extractions().map(Stage::Json)
            }
            "logfmt" => {
                self.bump();
                let (mut strict, mut keep_empty) = (false, false);
                while let Kind::Flag(flag) = *self.peek() {
                    self.bump();
                    strict |= flag == "--strict";
                    keep_empty |= flag == "--keep-empty";
                }
                Ok(Stage::Logfmt { strict, keep_empty, extractions: self.extractions()? })
            }
            "regexp" => {
                self.bump();
                let pattern = self.string()?;
                regex::with_names(&pattern)
                    .map_err(|error| ParseError::whole(format!("invalid regexp parser: {error}")))?;
                Ok(Stage::Regexp(pattern))
            }
            "pattern" => {
                self.bump();
                let text = self.string()?;
                pattern::Pattern::new(&text)
                    .map_err(|error| ParseError::whole(format!("invalid pattern parser: {error}")))?;
                Ok(Stage::Pattern(text))
            }
            "unpack" => {
                self.bump();
                Ok(Stage::Unpack)
            }
            "decolorize" => {
                self.bump();
                Ok(Stage::Decolorize)
            }
            "line_format" => {
                self.bump();
                self.string().map(Stage::LineFormat)
            }
            "label_format" => {
                self.bump();
                self.label_formats().map(Stage::LabelFormat)
            }
            "drop" => {
                self.bump();
                self.named_matchers().map(Stage::Drop)
            }
            "keep" => {
                self.bump();
                self.named_matchers().map(Stage::Keep)
            }
            _ => self.label_filter(None).map(Stage::LabelFilter),
        }
    }

    fn extractions(&mut self) -> Parsed<Vec<Extraction>> {
        let mut out = Vec::new();
        if !matches!(self.peek(), Kind::Ident(_)) {
            return Ok(out);
        }
        loop {
            let name = self.ident()?;
            let expression = if self.eat("=") { self.string()? } else { name.clone() };
            if out.len() == EXTRACTIONS_MAX {
                let message = format!("a stage has more than {EXTRACTIONS_MAX} expressions");
                return Err(ParseError::new(self.at(), message));
            }
            out.push(Extraction { name, expression });
            if !self.eat(",") {
                return Ok(out);
            }
        }
    }

    fn label_formats(&mut self) -> Parsed<Vec<LabelFormat>> {
        let mut out = Vec::new();
        loop {
            let name = self.ident()?;
            self.expect("=")?;
            out.push(match self.peek() {
                Kind::Ident(_) => LabelFormat { name, value: self.ident()?, rename: true },
                Kind::Str(_) => LabelFormat { name, value: self.string()?, rename: false },
                _ => return Err(self.unexpected(&["IDENTIFIER", "STRING"])),
            });
            if !self.eat(",") {
                return Ok(out);
            }
        }
    }

    fn named_matchers(&mut self) -> Parsed<Vec<NamedMatcher>> {
        let mut out = Vec::new();
        loop {
            let tests = matches!(self.peek_after(1), Kind::Word("=" | "!=" | "=~" | "!~"))
                // `drop a != "x"` tests, too; Loki's grammar shifts.
                && matches!(self.peek(), Kind::Ident(_));
            out.push(match tests {
                true => NamedMatcher::Matcher(self.matcher()?),
                false => NamedMatcher::Name(self.ident()?),
            });
            if !self.eat(",") {
                return Ok(out);
            }
        }
    }

    /// Parses label filters behind `joint`. `and` binds closer than `or`; a comma or nothing between two filters means
    /// `and` and takes all that follows as its right side, as Loki's grammar does.
    pub(super) fn label_filter(&mut self, joint: Option<Joint>) -> Parsed<LabelFilter> {
        let mut left = self.deeper(Self::one_label_filter)?;
        loop {
            let next = match self.peek() {
                Kind::Word("or") => Joint::Or,
                Kind::Word("and") => Joint::And,
                Kind::Word(",") => Joint::Comma,
                Kind::Word("(") | Kind::Ident(_) => Joint::Nothing,
                _ => return Ok(left),
            };
            let closes = match next {
                Joint::Or => matches!(joint, Some(Joint::And | Joint::Or)),
                Joint::And => matches!(joint, Some(Joint::And)),
                Joint::Comma | Joint::Nothing => false,
            };
            if closes {
                return Ok(left);
            }
            if next != Joint::Nothing {
                self.bump();
            }
            self.chain()?;
            let right = self.deeper(|parser| parser.label_filter(Some(next)))?;
            left = match next {
                Joint::Or => LabelFilter::Or(Box::new(left), Box::new(right)),
                Joint::And | Joint::Comma | Joint::Nothing => LabelFilter::And(Box::new(left), Box::new(right)),
            };
        }
    }

    fn one_label_filter(&mut self) -> Parsed<LabelFilter> {
        if self.eat("(") {
            let inner = self.label_filter(None)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if !matches!(self.peek(), Kind::Ident(_)) {
            let joined = self.i.checked_sub(1).and_then(|i| self.tokens.get(i)).map(|token| &token.kind);
            let is_joined = matches!(joined, Some(Kind::Word("or" | "and" | ",")));
            return Err(self.unexpected(if is_joined { &["IDENTIFIER", "("] } else { &[] }));
        }
        let name = self.ident()?;
        let Kind::Word(word) = *self.peek() else { return Err(self.unexpected(&[])) };
        let text_op = match word {
            "=" => Some(MatchOp::Equal),
            "!=" => Some(MatchOp::NotEqual),
            "=~" => Some(MatchOp::Regex),
            "!~" => Some(MatchOp::NotRegex),
            _ => None,
        };
        let compare = match word {
            "=" | "==" => Some(Compare::Equal),
            "!=" => Some(Compare::NotEqual),
            ">" => Some(Compare::Greater),
            ">=" => Some(Compare::GreaterEqual),
            "<" => Some(Compare::Less),
            "<=" => Some(Compare::LessEqual),
            _ => None,
        };
        if text_op.is_none() && compare.is_none() {
            return Err(self.unexpected(&[]));
        }
        self.bump();
        if let Kind::Str(_) = self.peek() {
            let Some(op) = text_op else { return Err(self.unexpected(&[])) };
            return Ok(LabelFilter::Text(matcher(name, op, self.string()?)?));
        }
        let Some(compare) = compare else { return Err(self.unexpected(&["STRING"])) };
        self.quantity(name, word, compare)
    }

    fn quantity(&mut self, name: String, word: &str, compare: Compare) -> Parsed<LabelFilter> {
        match *self.peek() {
            Kind::Function("ip") if matches!(word, "=" | "!=") => {
                let pattern = self.ip()?;
                Ok(LabelFilter::Ip { name, negative: word == "!=", pattern })
            }
            Kind::Duration(nanos) => {
                self.bump();
                Ok(LabelFilter::Duration { name, compare, nanos })
            }
            Kind::Bytes(bytes) => {
                self.bump();
                Ok(LabelFilter::Bytes { name, compare, bytes })
            }
            Kind::Number(_) | Kind::Word("+" | "-") => {
                let negative = self.is("-");
                if !matches!(self.peek(), Kind::Number(_)) {
                    self.bump();
                }
                let text = self.number()?;
                // Loki parses what Go cannot read, as zero, and refuses to run it.
                let (value, unread) = match go::parse_float(&text) {
                    Some(value) => (if negative { -value } else { value }, None),
                    None => (0.0, Some(text)),
                };
                Ok(LabelFilter::Number { name, compare, value, unread })
            }
            _ => Err(self.unexpected(&[])),
        }
    }
}
