//! `/federate`: the newest sample of each selected series, for another Prometheus to scrape.

mod accept;
mod proto;
mod text;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse;
use model::histogram::ResetHint;
use model::{Histogram, Labels, Matcher, is_stale};
use query_promql::Options;
use storage_api::{MetricQuerier, MillisRange, QueryContext, SeriesSamples, histogram_cost};

use super::params::Params;
use super::plain::{PlainResult, held_body};
use crate::Services;
use crate::error::{Error, Result};
use accept::Accepted;

/// The newest sample of a series.
#[derive(Debug)]
struct Newest {
    labels: Labels,
    timestamp_ms: i64,
    value: f64,
    histogram: Option<Arc<Histogram>>,
}

impl Newest {
    fn size_bytes(&self) -> usize {
        let histogram = self.histogram.as_ref().map_or(0, |histogram| histogram_cost(histogram) * 16);
        self.labels.size_bytes() + size_of::<Self>() + usize::try_from(histogram).unwrap_or(usize::MAX)
    }
}

/// What a family is declared as. Another kind under the same name begins another family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Newest {
    fn kind(&self) -> Kind {
        match self.histogram.as_ref().map(|histogram| histogram.hint) {
            None => Kind::Untyped,
            Some(ResetHint::Gauge) => Kind::GaugeHistogram,
            Some(_) => Kind::Histogram,
        }
    }

    /// Returns the labels as they are sent: without the name; and with an empty `instance` where there is none, so that
    /// the scraper does not put its own in.
    fn sent_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let has_instance = self.labels.get("instance").is_some();
        let own = self.labels.iter().filter(|(name, _)| *name != model::METRIC_NAME);
        own.chain((!has_instance).then_some(("instance", "")))
    }
}

pub(super) async fn federate(State(services): State<Services>, headers: HeaderMap, params: Params) -> PlainResult {
    let selectors = params
        .all("match[]")
        .map(|text| query_promql::parse::parse_selector(text).map(|selector| selector.matchers))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::BadData(error.to_string()))?;
    let accepted = accept::negotiate(&headers);
    let metrics = Arc::clone(&services.metrics);
    let now = services.clock.now_millis();
    let work = move |context: &QueryContext| -> Result<Vec<u8>> {
        let all = newest(&*metrics, &selectors, now, context)?;
        Ok(encode(&all, accepted))
    };
    let body = services.run(services.context(), work).await??;
    let held = services.hold_answer(body.len() as u64)?;
    let kind = HeaderValue::from_static(accepted.content_type());
    Ok(([(header::CONTENT_TYPE, kind)], held_body(body, held)).into_response())
}

/// Returns the newest samples by name, and by labels within a name. Stale series are left out: the formats have no word
/// for them, and a scraper ends a series that is not there any more.
fn newest(
    metrics: &dyn MetricQuerier,
    selectors: &[Vec<Matcher>],
    now: i64,
    context: &QueryContext,
) -> Result<Vec<Newest>> {
    let range = MillisRange { min_ms: now.saturating_sub(Options::default().lookback_ms), max_ms: now };
    let mut all: Vec<Newest> = Vec::new();
    for matchers in selectors {
        for part in metrics.select(matchers, range, context)?.parts {
            let read = part.read(context)?;
            let cost: u64 = read.iter().map(SeriesSamples::cost).sum();
            let before = all.len();
            all.extend(read.iter().filter_map(last));
            let size: usize = all.iter().skip(before).map(Newest::size_bytes).sum();
            context.charge_memory(size as u64)?;
            context.release_samples(cost);
        }
    }
    all.sort_by(|a, b| a.labels.metric_name().cmp(b.labels.metric_name()).then_with(|| a.labels.cmp(&b.labels)));
    all.dedup_by(|a, b| a.labels == b.labels);
    Ok(all)
}

fn last(series: &SeriesSamples) -> Option<Newest> {
    let i = series.timestamps_ms.len().checked_sub(1)?;
    let histogram = series.histograms.as_ref().and_then(|column| column.get(i)?.clone());
    let stale = histogram.as_ref().map_or_else(|| is_stale(series.values[i]), |histogram| histogram.is_stale());
    let has_name = !series.labels.metric_name().is_empty();
    (has_name && !stale).then(|| Newest {
        labels: series.labels.clone(),
        timestamp_ms: series.timestamps_ms[i],
        value: series.values[i],
        histogram,
    })
}

fn encode(all: &[Newest], accepted: Accepted) -> Vec<u8> {
    let escape = accepted.escape();
    let mut out = Vec::new();
    let same = |a: &Newest, b: &Newest| a.labels.metric_name() == b.labels.metric_name() && a.kind() == b.kind();
    match accepted.is_protobuf() {
        true => all.chunk_by(same).for_each(|family| proto::push_family(&mut out, family, escape)),
        false => {
            // Text has classic histograms only.
            let shown: Vec<&Newest> =
                all.iter().filter(|one| one.histogram.as_ref().is_none_or(|histogram| histogram.is_custom())).collect();
            let mut text = String::new();
            shown.chunk_by(|a, b| same(a, b)).for_each(|family| text::push_family(&mut text, family, escape));
            out = text.into_bytes();
        }
    }
    out
}

/// Returns (upper bound, observations up to it) of the bounds of a histogram with custom buckets.
fn cumulative(histogram: &Histogram) -> impl Iterator<Item = (f64, f64)> + '_ {
    let mut buckets = histogram.positive.iter().peekable();
    let mut sum = 0.0;
    (0..).zip(histogram.custom.iter()).map(move |(i, bound)| {
        while let Some((_, count)) = buckets.next_if(|(index, _)| *index <= i) {
            sum += count;
        }
        (*bound, sum)
    })
}

#[cfg(test)]
mod tests;
