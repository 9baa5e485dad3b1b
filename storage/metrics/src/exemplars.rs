//! Finds exemplars over the heads and blocks.

use std::collections::BTreeMap;

use model::{Exemplar, Labels, Matcher};
use storage_api::{MillisRange, QueryContext, Result, SeriesExemplars};

use crate::block::exemplar_order;
use crate::block::extras::exemplars;
use crate::head::same_exemplar;
use crate::store::MetricStore;
use crate::view::Source;

/// What an exemplar counts as against the limit of samples, beside its text: label set, time and value.
const COST: u64 = 4;

fn cost(exemplar: &Exemplar) -> u64 {
    COST + exemplar.labels.size_bytes() as u64 / 16
}

pub(crate) fn passes_any(labels: &Labels, selectors: &[Vec<Matcher>]) -> bool {
    let passes = |matcher: &Matcher| matcher.matches(labels.get(&matcher.name).unwrap_or(""));
    selectors.is_empty() || selectors.iter().any(|matchers| matchers.iter().all(passes))
}

impl MetricStore {
    /// Returns the exemplars in `range` of the series that pass one of the selectors, by series, oldest first.
    pub(crate) fn find_exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
    ) -> Result<Vec<SeriesExemplars>> {
        let Some(range) = self.visible(range) else { return Ok(Vec::new()) };
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let view = self.snapshot();
        self.each_source(&view, range, context, &mut |_, source| {
            let mut of_source: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
            let mut keep = |labels: &Labels, exemplar: Exemplar| {
                context.charge_samples(cost(&exemplar))?;
                match of_source.get_mut(labels) {
                    Some(have) => have.push(exemplar),
                    None => drop(of_source.insert(labels.clone(), vec![exemplar])),
                }
                Ok(())
            };
            match source {
                Source::Head(head) => head.each_exemplars(selectors, range, &mut |labels, exemplars| {
                    exemplars.into_iter().try_for_each(|exemplar| keep(labels, exemplar))
                })?,
                Source::Block(block) => {
                    if let Some(table) = block.extras.exemplars.as_ref().filter(|_| block.meta.range().overlaps(&range))
                    {
                        let is_wanted = |labels: &Labels| passes_any(labels, selectors);
                        let deleted = view.tombstones.of(block.name());
                        let mut keep = |labels: &Labels, exemplar: Exemplar| {
                            let is_hidden = deleted.is_some_and(|deleted| deleted.hides_exemplar(labels, &exemplar));
                            if is_hidden { Ok(()) } else { keep(labels, exemplar) }
                        };
                        exemplars::each(table, range, &is_wanted, &mut || context.check(), &mut keep)?;
                    }
                }
            }
            for (labels, exemplars) in of_source {
                found.entry(labels).or_default().extend(exemplars);
            }
            Ok(())
        })?;
        let found = found.into_iter().map(|(labels, mut exemplars)| {
            exemplars.sort_by(exemplar_order);
            exemplars.dedup_by(|a, b| same_exemplar(a, b));
            SeriesExemplars { labels, exemplars }
        });
        Ok(found.collect())
    }
}
