//! The texts that every line holds which passes a filter.

use regex_syntax::hir::{Hir, HirKind};
use storage_api::Needle;

use crate::ast::{LineNeedle, LineOp};
use crate::pattern::LinePattern;

/// Returns what every line holds in which `needle` is found; nothing for what a filter leaves out.
pub(crate) fn of(needle: &LineNeedle, op: LineOp) -> Vec<Needle> {
    match (needle, op) {
        (LineNeedle::Text(text), LineOp::Contains) => text_needle(text).into_iter().collect(),
        (LineNeedle::Text(text), LineOp::Regex) => regex_needles(text),
        (LineNeedle::Text(text), LineOp::Pattern) => match LinePattern::new(text) {
            Ok(pattern) => pattern.texts().filter_map(text_needle).collect(),
            Err(_) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Returns texts of which every line holds one in which `needle` is found; `None` when there are no such texts, case as
/// given.
pub(crate) fn any_of(needle: &LineNeedle, op: LineOp) -> Option<Vec<String>> {
    let texts = |needle: Needle| match needle {
        Needle::Line(text) => Some(vec![text]),
        Needle::Any(any) => {
            any.into_iter().map(|one| if let Needle::Line(text) = one { Some(text) } else { None }).collect()
        }
        Needle::LineFold(_) | Needle::Field { .. } => None,
    };
    let shortest = |texts: &Vec<String>| texts.iter().map(String::len).min().unwrap_or(0);
    of(needle, op).into_iter().filter_map(texts).max_by_key(shortest)
}

fn text_needle(text: &str) -> Option<Needle> {
    (!text.is_empty()).then(|| Needle::Line(text.to_owned()))
}

fn length(needle: &Needle) -> usize {
    match needle {
        Needle::Line(text) | Needle::LineFold(text) => text.len(),
        Needle::Field { value, .. } => value.len(),
        Needle::Any(any) => any.iter().map(length).min().unwrap_or(0),
    }
}

pub(crate) fn longest(needles: Vec<Needle>) -> Option<Needle> {
    needles.into_iter().max_by_key(length)
}

/// Returns what every match of the pattern holds.
fn regex_needles(pattern: &str) -> Vec<Needle> {
    // Without its leading flag, the pattern's literals are those of the folded text.
    let (fold, rest) = match pattern.strip_prefix("(?i)") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let Ok(translated) = crate::regex::translate(rest) else { return Vec::new() };
    let Ok(hir) = regex_syntax::parse(&translated) else { return Vec::new() };
    let mut out = Vec::new();
    collect(&hir, fold, &mut out);
    out
}

fn collect(hir: &Hir, fold: bool, out: &mut Vec<Needle>) {
    match hir.kind() {
        HirKind::Literal(literal) => {
            if let Ok(text) = std::str::from_utf8(&literal.0) {
                let text = text.to_owned();
                out.push(if fold { Needle::LineFold(text) } else { Needle::Line(text) });
            }
        }
        HirKind::Capture(capture) => collect(&capture.sub, fold, out),
        HirKind::Repetition(repetition) if repetition.min > 0 => collect(&repetition.sub, fold, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| collect(part, fold, out)),
        HirKind::Alternation(parts) => {
            let of_each = |part: &Hir| {
                let mut inner = Vec::new();
                collect(part, fold, &mut inner);
                longest(inner)
            };
            let any: Option<Vec<Needle>> = parts.iter().map(of_each).collect();
            out.extend(any.filter(|any| !any.is_empty()).map(Needle::Any));
        }
        HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => {}
    }
}
