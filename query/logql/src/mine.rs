//! Mines the templates of lines: what stays the same is kept, what varies becomes `<_>`.
//!
//! In the manner of Drain (He et al., 2017): a line is cut into words at blanks and punctuation, words with a digit vary from
//! the start, and lines with the same punctuation and mostly the same words share a template. One pass, bounded memory.

use std::collections::{BTreeMap, HashMap};

use model::TimeRange;
use rayon::prelude::*;
use storage_api::{LogPart, LogQuerier, LogRows, QueryContext};

use crate::ast::LogExpr;
use crate::error::Result;
use crate::eval::log_select;
use crate::row::RowLabels;
use crate::stage::Pipeline;

/// Most templates kept; further lines count for the template of everything.
const TEMPLATES_MAX: usize = 1_000;

/// Most words of a line that are looked at; the rest is one that varies.
const WORDS_MAX: usize = 100;

/// Most lines that are looked at, the newest first.
const LINES_MAX: u64 = 500_000;

/// Parts that are read at a time.
const BATCH_PARTS: usize = 64;

const VARIABLE: &str = "<_>";

/// A template of lines and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinePattern {
    /// The template, with `<_>` for what varies.
    pub pattern: String,
    /// (nanoseconds, count) by step, oldest first.
    pub samples: Vec<(i64, u64)>,
}

impl LinePattern {
    /// Returns how often it was seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.samples.iter().map(|(_, count)| count).sum()
    }
}

/// Returns the templates of the lines that pass, the commonest first. Of very many lines only the newest are looked at.
///
/// # Errors
/// The store's, patterns that do not compile.
pub fn mine_patterns(
    log: &LogExpr,
    range: TimeRange,
    step_ns: i64,
    logs: &dyn LogQuerier,
    context: &QueryContext,
) -> Result<Vec<LinePattern>> {
    let pipeline = Pipeline::new(log)?;
    let select = log_select(log, range, true, logs, context)?;
    let mut parts = logs.select(&select, context)?;
    parts.sort_by(|a, b| {
        let key = |part: &dyn LogPart| (part.range().end, part.range().start);
        key(b.as_ref()).cmp(&key(a.as_ref())).then_with(|| a.stream().cmp(b.stream()))
    });
    let mut miner = Miner::default();
    let mut seen: u64 = 0;
    for batch in parts.chunks(BATCH_PARTS) {
        context.check()?;
        if seen >= LINES_MAX {
            context.warn(format!("templates are those of the newest {seen} lines"));
            break;
        }
        let read: Vec<LogRows> = batch.par_iter().map(|part| part.read(context)).collect::<Result<_, _>>()?;
        for (part, rows) in batch.iter().zip(&read) {
            let mut labels = RowLabels::new(part.stream());
            for (row, at) in rows.timestamps.iter().copied().enumerate() {
                let line = rows.lines.get(row);
                if !range.contains(at) || !pipeline.passes(line) {
                    continue;
                }
                labels.reset_row(rows, row, true);
                if let Some(line) = pipeline.process(at, line, &mut labels) {
                    seen += 1;
                    miner.add(&line, at.0.div_euclid(step_ns.max(1)) * step_ns.max(1));
                }
            }
        }
    }
    Ok(miner.finish())
}

#[derive(Debug)]
struct Template {
    /// Blanks and punctuation: before each word, and behind the last.
    gaps: Vec<Box<str>>,
    /// `None` varies.
    words: Vec<Option<Box<str>>>,
    counts: BTreeMap<i64, u64>,
}

#[derive(Debug, Default)]
struct Miner {
    templates: Vec<Template>,
    /// Templates by their gaps.
    index: HashMap<String, Vec<usize>>,
}

fn is_gap(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ';' | '=' | ':' | '"' | '\'' | '{' | '}' | '(' | ')' | '[' | ']' | '|')
}

/// Cuts a line into (gaps, words); there is one gap more than words.
fn cut(line: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut gaps, mut words) = (Vec::new(), Vec::new());
    let mut rest = line;
    loop {
        let (gap, tail) = rest.split_at(rest.find(|c| !is_gap(c)).unwrap_or(rest.len()));
        gaps.push(gap);
        if tail.is_empty() {
            return (gaps, words);
        }
        if words.len() == WORDS_MAX {
            words.push("0");
            gaps.push("");
            return (gaps, words);
        }
        let (word, tail) = tail.split_at(tail.find(is_gap).unwrap_or(tail.len()));
        words.push(word);
        rest = tail;
    }
}

fn varies(word: &str) -> bool {
    word.bytes().any(|c| c.is_ascii_digit())
}

impl Template {
    /// Returns how many words are the same, and how many are fixed at all.
    fn likeness(&self, words: &[&str]) -> (usize, usize) {
        let mut same = 0;
        let mut fixed = 0;
        for (have, word) in self.words.iter().zip(words) {
            if let Some(have) = have {
                fixed += 1;
                same += usize::from(have.as_ref() == *word);
            }
        }
        (same, fixed)
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for (i, gap) in self.gaps.iter().enumerate() {
            out.push_str(gap);
            match self.words.get(i) {
                Some(Some(word)) => out.push_str(word),
                Some(None) => out.push_str(VARIABLE),
                None => {}
            }
        }
        out
    }
}

impl Miner {
    fn add(&mut self, line: &str, at: i64) {
        let (gaps, words) = cut(line);
        let key = gaps.join("\u{0}");
        let found = self.index.get(&key).into_iter().flatten().copied().find(|i| {
            let (same, fixed) = self.templates.get(*i).map_or((0, 0), |template| template.likeness(&words));
            // Two thirds of what is fixed must be the same; where nothing is, anything fits.
            same * 3 >= fixed * 2
        });
        let i = match found {
            Some(i) => i,
            None if self.templates.len() < TEMPLATES_MAX => {
                self.templates.push(Template {
                    gaps: gaps.iter().map(|gap| Box::from(*gap)).collect(),
                    words: words.iter().map(|word| (!varies(word)).then(|| Box::from(*word))).collect(),
                    counts: BTreeMap::new(),
                });
                self.index.entry(key).or_default().push(self.templates.len() - 1);
                self.templates.len() - 1
            }
            None => {
                if self.templates.len() == TEMPLATES_MAX {
                    let gaps = vec![Box::from(""), Box::from("")];
                    self.templates.push(Template { gaps, words: vec![None], counts: BTreeMap::new() });
                }
                TEMPLATES_MAX
            }
        };
        let Some(template) = self.templates.get_mut(i) else { return };
        if i < TEMPLATES_MAX {
            for (have, word) in template.words.iter_mut().zip(&words) {
                if have.as_deref().is_some_and(|have| have != *word) {
                    *have = None;
                }
            }
        }
        *template.counts.entry(at).or_default() += 1;
    }

    fn finish(self) -> Vec<LinePattern> {
        // Templates that became alike are one.
        let mut all: BTreeMap<String, BTreeMap<i64, u64>> = BTreeMap::new();
        for template in self.templates {
            let counts = all.entry(template.text()).or_default();
            for (at, count) in template.counts {
                *counts.entry(at).or_default() += count;
            }
        }
        let pattern = |(pattern, counts): (String, BTreeMap<i64, u64>)| LinePattern {
            pattern,
            samples: counts.into_iter().collect(),
        };
        let mut out: Vec<LinePattern> = all.into_iter().map(pattern).collect();
        out.sort_by_key(|pattern| std::cmp::Reverse(pattern.count()));
        out
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: Expect) {
        let mut miner = Miner::default();
        for line in lines {
            miner.add(line, 0);
        }
        let shown: Vec<String> = miner.finish().iter().map(|one| format!("{} {}", one.count(), one.pattern)).collect();
        expected.assert_eq(&shown.join("\n"));
    }

    #[test]
    fn what_varies_becomes_a_gap() {
        check(
            &[
                "user alice logged in from 10.0.0.1",
                "user bob logged in from 10.0.0.2",
                "user carol logged in from 10.0.0.3",
                "connection reset by peer",
                r#"level=info msg="took 5ms" id=a1"#,
                r#"level=info msg="took 7ms" id=b2"#,
                r#"{"n":1,"path":"/a"}"#,
                r#"{"n":2,"path":"/a"}"#,
            ],
            expect![[r#"
                3 user <_> logged in from <_>
                2 level=info msg="took <_>" id=<_>
                2 {"n":<_>,"path":"/a"}
                1 connection reset by peer"#]],
        );
    }

    #[test]
    fn memory_is_bounded_and_every_line_is_counted() {
        let mut miner = Miner::default();
        for i in 0..5_000usize {
            let word: String = format!("{i:b}").replace('0', "a").replace('1', "b");
            miner.add(&format!("{word} {word}x {}", "=".repeat(i % 50)), 0);
        }
        assert!(miner.templates.len() <= TEMPLATES_MAX + 1);
        miner.add(&"word ".repeat(10_000), 0);
        miner.add("", 0);
        assert_eq!(miner.finish().iter().map(LinePattern::count).sum::<u64>(), 5_002);
    }
}
