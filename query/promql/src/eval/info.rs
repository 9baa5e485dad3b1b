//! `info`: adds the labels of info metrics such as `target_info`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use model::{Labels, METRIC_NAME, MatchOp, Matcher};

use super::Evaluator;
use super::label::spell;
use super::select::Reach;
use crate::error::{Error, Result};
use crate::parse::ast::{Borders, Expr, ExprKind, Selector};
use crate::value::{Grid, Merger, Series};

/// The labels by which a series finds its info series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

impl Evaluator<'_> {
    /// Evaluates `info(base, selector)`.
    pub(super) fn info(&self, base: &Expr, selector: Option<&Expr>, grid: &Grid) -> Result<Vec<Series>> {
        let vector = self.vector(base, grid)?;
        let given: &[Matcher] = match selector.map(|expr| &expr.unparen().kind) {
            Some(ExprKind::Selector(selector)) => &selector.matchers,
            _ => &[],
        };
        let (names, data): (Vec<&Matcher>, Vec<&Matcher>) =
            given.iter().partition(|matcher| matcher.name == METRIC_NAME);
        let mut matchers: Vec<Matcher> = given.to_vec();
        let positive: Vec<&Matcher> =
            names.iter().copied().filter(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)).collect();
        if names.is_empty() {
            matchers.push(Matcher::equal(METRIC_NAME, "target_info"));
        } else if positive.is_empty() {
            // Only names to leave out were given: take the usual names of info metrics.
            let usual = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info");
            matchers.push(usual.map_err(|error| Error::evaluation(error.to_string()))?);
        }
        let named: Vec<Matcher> = matchers.iter().filter(|matcher| matcher.name == METRIC_NAME).cloned().collect();
        let is_info = |labels: &Labels| named.iter().all(|matcher| matcher.matches(labels.metric_name()));
        let needs_match = data.iter().any(|matcher| !matcher.matches_empty());
        let mut infos = self.info_series(base, matchers, grid)?;
        let enriched = vector.iter().filter(|series| !is_info(&series.labels));
        infos.retain(related(enriched.map(|series| &series.labels)));
        let mut by_identity: BTreeMap<Vec<String>, Vec<&Series>> = BTreeMap::new();
        for info in &infos {
            by_identity.entry(identity(&info.labels)).or_default().push(info);
        }
        for i in (0..grid.len()).filter(|i| vector.iter().any(|series| series.has(*i))) {
            by_identity.values().try_for_each(|infos| newest(infos, i).map(drop))?;
        }
        let mut merger = Merger::default();
        self.context.check()?;
        for series in vector {
            if is_info(&series.labels) {
                merger.push(series)?;
                continue;
            }
            let found = by_identity.get(&identity(&series.labels)).map_or(&[][..], Vec::as_slice);
            let parts = enrich(&series, found, &data, needs_match)?;
            self.charge(parts.len(), grid.len())?;
            self.charge_histograms(&parts)?;
            parts.iter().try_for_each(|part| self.charge_labels(&part.labels))?;
            self.release_columns(std::slice::from_ref(&series), grid.len());
            for part in parts {
                merger.push(part)?;
            }
        }
        Ok(merger.finish())
    }

    /// Selects the info series at the times that the base's selectors look at; gives the times of their samples.
    fn info_series(&self, base: &Expr, matchers: Vec<Matcher>, grid: &Grid) -> Result<Vec<Series>> {
        let reach = self.base_reach(base, Reach { grid: *grid, at_ms: None, offset_ms: 0 })?;
        let inner = match reach.at_ms {
            Some(at) => Grid::instant(at.saturating_sub(reach.offset_ms)),
            None => Grid {
                start_ms: grid.start_ms.saturating_sub(reach.offset_ms),
                end_ms: grid.end_ms.saturating_sub(reach.offset_ms),
                step_ms: grid.step_ms,
            },
        };
        let selector = Selector { name: None, matchers, offset: None, at: None, borders: Borders::Plain };
        let found = self.select_origins(&selector, &inner)?;
        if reach.at_ms.is_none() {
            return Ok(found);
        }
        let steps = grid.len();
        self.charge(found.len(), steps)?;
        Ok(found.into_iter().map(|one| Series { values: vec![one.values[0]; steps], ..one }).collect())
    }

    /// Returns the time and offset of the first selector in `expr`, subqueries around it included.
    fn base_reach(&self, expr: &Expr, outer: Reach) -> Result<Reach> {
        let with = |at: Option<i64>, offset_ms: i64| match at {
            Some(_) => Reach { grid: outer.grid, at_ms: at, offset_ms },
            None => Reach { offset_ms: outer.offset_ms.saturating_add(offset_ms), ..outer },
        };
        match &expr.kind {
            ExprKind::Selector(selector) | ExprKind::Range(selector, _) => {
                Ok(with(self.at_ms(selector.at), self.offset_ms(selector.offset.as_ref())?))
            }
            ExprKind::Subquery(subquery) => {
                let reach = with(self.at_ms(subquery.at), self.offset_ms(subquery.offset.as_ref())?);
                self.base_reach(&subquery.expr, reach)
            }
            ExprKind::Call(_, args) => {
                let deep = args.iter().find(|arg| has_selector(arg));
                deep.map_or(Ok(outer), |arg| self.base_reach(arg, outer))
            }
            ExprKind::Aggregate(one) => self.base_reach(&one.expr, outer),
            ExprKind::Binary(binary) => {
                let side = if has_selector(&binary.lhs) { &binary.lhs } else { &binary.rhs };
                self.base_reach(side, outer)
            }
            ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => self.base_reach(inner, outer),
            ExprKind::Number(_) | ExprKind::Text(_) => Ok(outer),
        }
    }
}

fn has_selector(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Selector(_) | ExprKind::Range(..) | ExprKind::Subquery(_) => true,
        ExprKind::Call(_, args) => args.iter().any(has_selector),
        ExprKind::Aggregate(one) => has_selector(&one.expr),
        ExprKind::Binary(binary) => has_selector(&binary.lhs) || has_selector(&binary.rhs),
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => has_selector(inner),
        ExprKind::Number(_) | ExprKind::Text(_) => false,
    }
}

fn identity(labels: &Labels) -> Vec<String> {
    IDENTIFYING.iter().map(|name| labels.get(name).unwrap_or("").to_owned()).collect()
}

/// Returns what says of info series whether they may belong to any of `labels`: each label by which they are found that
/// any of these has must have one of their values.
fn related<'a>(labels: impl Iterator<Item = &'a Labels>) -> impl Fn(&Series) -> bool {
    let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for labels in labels {
        for name in IDENTIFYING {
            if let Some(value) = labels.get(name).filter(|value| !value.is_empty()) {
                values.entry(name).or_default().insert(value.to_owned());
            }
        }
    }
    move |info| {
        let has = |(name, values): (&&str, &BTreeSet<String>)| values.contains(info.labels.get(name).unwrap_or(""));
        !values.is_empty() && values.iter().all(has)
    }
}

/// Returns of each info metric the series whose sample at step `i` is the newest.
fn newest<'a>(infos: &[&'a Series], i: usize) -> Result<BTreeMap<&'a str, &'a Series>> {
    let mut by_metric: BTreeMap<&str, &Series> = BTreeMap::new();
    for info in infos.iter().copied().filter(|info| info.has(i)) {
        match by_metric.entry(info.labels.metric_name()) {
            Entry::Vacant(entry) => drop(entry.insert(info)),
            Entry::Occupied(mut entry) => {
                let (have, at) = (*entry.get(), info.values[i]);
                if have.values[i] == at {
                    let (have, new) = (spell(&have.labels), spell(&info.labels));
                    let text =
                        format!("found duplicate series for info metric: existing {have} @ {at}, new {new} @ {at}");
                    return Err(Error::evaluation(text));
                }
                if have.values[i] < at {
                    entry.insert(info);
                }
            }
        }
    }
    Ok(by_metric)
}

/// Returns the series once for each set of labels that the info series add over the steps.
fn enrich(series: &Series, infos: &[&Series], data: &[&Matcher], needs_match: bool) -> Result<Vec<Series>> {
    let mut parts: Vec<(Labels, Series)> = Vec::new();
    for i in (0..series.values.len()).filter(|i| series.has(*i)) {
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        let by_metric = newest(infos, i)?;
        for info in by_metric.values() {
            for (name, value) in info.labels.iter() {
                let wanted = data.is_empty() || data.iter().any(|matcher| matcher.name == name);
                if name == METRIC_NAME || IDENTIFYING.contains(&name) || !wanted || series.labels.get(name).is_some() {
                    continue;
                }
                if added.insert(name, value).is_some_and(|other| other != value) {
                    return Err(Error::evaluation(format!("conflicting label: {name}")));
                }
            }
        }
        if by_metric.is_empty() && needs_match {
            continue;
        }
        let mut builder = series.labels.to_builder();
        for (name, value) in added {
            builder.set(name, value);
        }
        let labels = builder.build();
        let place = parts.iter().position(|(have, _)| *have == labels).unwrap_or_else(|| {
            let part = Series::absent(labels.clone(), series.drop_name, series.values.len());
            parts.push((labels, part));
            parts.len() - 1
        });
        parts[place].1.set(i, series.get(i));
    }
    Ok(parts.into_iter().map(|(_, part)| part).collect())
}
