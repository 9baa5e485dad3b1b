//! Where the evaluator's samples come from.

use model::Matcher;
use storage_api::{MetricQuerier, MillisRange, QueryContext, SeriesPart};

use crate::value::Samples;

/// Finds series. Stores implement [`MetricQuerier`]; see [`Stored`].
pub trait Source: Send + Sync {
    /// Finds the series with samples in `range` that pass all `matchers`, in groups that can be read in parallel.
    /// Groups and the series in them are in label order.
    ///
    /// # Errors
    /// Corruption, I/O, limits, cancellation.
    fn select(
        &self,
        matchers: &[Matcher],
        range: MillisRange,
        context: &QueryContext,
    ) -> storage_api::Result<Vec<Box<dyn Part>>>;
}

/// Series that are read together.
pub trait Part: Send + Sync {
    /// Reads them; the context is charged for the samples.
    ///
    /// # Errors
    /// Corruption, I/O, limits, cancellation.
    fn read(&self, context: &QueryContext) -> storage_api::Result<Vec<Samples>>;
}

/// A store as a source.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a>(pub &'a dyn MetricQuerier);

impl Source for Stored<'_> {
    fn select(
        &self,
        matchers: &[Matcher],
        range: MillisRange,
        context: &QueryContext,
    ) -> storage_api::Result<Vec<Box<dyn Part>>> {
        let selection = self.0.select(matchers, range, context)?;
        Ok(selection.parts.into_iter().map(|part| Box::new(StoredPart(part)) as Box<dyn Part>).collect())
    }
}

struct StoredPart(Box<dyn SeriesPart>);

impl Part for StoredPart {
    fn read(&self, context: &QueryContext) -> storage_api::Result<Vec<Samples>> {
        let read = self.0.read(context)?;
        Ok(read
            .into_iter()
            .map(|series| Samples {
                labels: series.labels,
                timestamps_ms: series.timestamps_ms,
                values: series.values,
                histograms: series.histograms,
                starts_ms: series.starts_ms,
                drop_name: false,
            })
            .collect())
    }
}
