//! Scrapes Prometheus targets.

mod convert;
pub mod text;

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use runtime::{Clock, Ledger, Shutdown, Signal};

use self::convert::{Builder, SeriesSet, TargetLabels};
use self::text::{Dialect, Family, ParseError, parse};
use super::MetricSink;
use crate::config::Target;
use crate::otlp::Pairs;
use crate::stats::Stats;

const PLACE: &str = "agent_scrape";
/// What we understand, best first.
const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
/// Time between two logged failures of one target.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// Longest wait for the first scrape.
const SPREAD_MAX: Duration = Duration::from_secs(2);

/// Makes the client that all targets share. No proxy: what the environment says of one is not meant for neighbours.
///
/// # Errors
/// When the system's resolver cannot be set up.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    let agent = concat!("daybook-agent/", env!("CARGO_PKG_VERSION"));
    reqwest::Client::builder().no_proxy().user_agent(agent).redirect(reqwest::redirect::Policy::limited(3)).build()
}

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("no answer")]
    Http(#[source] reqwest::Error),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is longer than {0} bytes")]
    TooLarge(u64),
    #[error("the answer is no UTF-8")]
    Utf8,
    #[error("the answer is malformed")]
    Malformed(#[source] ParseError),
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
}

impl ScrapeError {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Http(_) => "unreachable",
            Self::Status(_) => "status",
            Self::TooLarge(_) => "too_large",
            Self::Utf8 | Self::Malformed(_) => "malformed",
            Self::Timeout(_) => "timeout",
        }
    }
}

/// Scrapes one target.
#[derive(Debug)]
pub(crate) struct Scraper {
    pub(crate) target: Target,
    pub(crate) body_bytes_max: u64,
    pub(crate) client: reqwest::Client,
    pub(crate) sink: MetricSink,
    pub(crate) clock: Clock,
    pub(crate) stats: Stats,
    pub(crate) ledger: Ledger,
    pub(crate) extra: Pairs,
}

/// Returns the label `instance` of a URL: host and port.
fn instance(url: &str) -> String {
    let Ok(url) = reqwest::Url::parse(url) else { return url.to_owned() };
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

impl Scraper {
    /// Scrapes at each interval until shutdown.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let instance = self.target.instance.clone().unwrap_or_else(|| instance(&self.target.url));
        let labels = TargetLabels {
            owner: (self.target.job.clone(), instance),
            labels: self.target.labels.clone(),
            honor_labels: self.target.honor_labels,
            honor_timestamps: self.target.honor_timestamps,
        };
        // Spread, so that the targets are not all scraped at the same moment.
        let spread = self.target.interval.min(SPREAD_MAX).as_millis().max(1);
        let hash = u128::from(xxhash_rust::xxh3::xxh3_64(self.target.url.as_bytes()));
        let offset = Duration::from_millis(u64::try_from(hash % spread).unwrap_or(0));
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + offset, self.target.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut earlier = SeriesSet::new();
        let mut last_logged: Option<Instant> = None;
        loop {
            tokio::select! { _ = ticks.tick() => {}, () = shutdown.wait() => return }
            let now = self.clock.now_nanos();
            let began = Instant::now();
            let scraped = tokio::select! { scraped = self.scrape() => scraped, () = shutdown.wait() => return };
            let seconds = began.elapsed().as_secs_f64();
            let page = match scraped {
                Ok(page) => {
                    self.stats.scrapes.with(&["ok"]).inc();
                    if last_logged.take().is_some() {
                        tracing::info!(url = self.target.url, "the target answers again");
                    }
                    Some(page)
                }
                Err(error) => {
                    self.stats.scrapes.with(&[error.outcome()]).inc();
                    if last_logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, url = self.target.url, "a scrape failed");
                        last_logged = Some(Instant::now());
                    }
                    None
                }
            };
            self.report(page, &labels, &mut earlier, now, seconds).await;
        }
    }

    /// Hands on a page, or the end of all series when there is none, with the usual samples about the scrape.
    async fn report(
        &self,
        page: Option<Vec<Family>>,
        labels: &TargetLabels,
        earlier: &mut SeriesSet,
        now: i64,
        seconds: f64,
    ) {
        let up = page.is_some();
        let families = page.unwrap_or_default();
        let scraped: usize = families.iter().map(|family| family.samples.len()).sum();
        let mut builder = Builder::default();
        builder.add_page(families, labels, now);
        let added = builder.series.keys().filter(|hash| !earlier.contains_key(hash)).count();
        builder.end_missing(earlier, now);
        *earlier = std::mem::take(&mut builder.series);
        if builder.repeated > 0 {
            self.ledger.received(PLACE, Signal::Metrics, builder.repeated);
            self.ledger.dropped(PLACE, Signal::Metrics, "repeated", builder.repeated);
        }
        // Whatever labels the page gives itself, these are about the target.
        let own = TargetLabels { honor_labels: false, ..labels.clone() };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        for (name, help, value) in [
            ("up", "1 if the instance is healthy, i.e. reachable, or 0 if the scrape failed.", f64::from(u8::from(up))),
            ("scrape_duration_seconds", "Duration of the scrape.", seconds),
            ("scrape_samples_scraped", "The number of samples the target exposed.", scraped as f64),
            (
                "scrape_samples_post_metric_relabeling",
                "The number of samples remaining after metric relabeling was applied.",
                scraped as f64,
            ),
            ("scrape_series_added", "The approximate number of new series in this scrape.", added as f64),
        ] {
            builder.add_own(name, help, value, &own, now);
        }
        self.sink.push(PLACE, builder.finish(&self.target.url, &self.extra)).await;
    }

    async fn scrape(&self) -> Result<Vec<Family>, ScrapeError> {
        let timeout = self.target.timeout.min(self.target.interval);
        let whole = tokio::time::timeout(timeout, self.fetch(timeout));
        let (body, dialect) = whole.await.map_err(|_| ScrapeError::Timeout(timeout))??;
        // A page of megabytes takes longer to parse than an I/O worker should be held up.
        let parsed = tokio::task::spawn_blocking(move || {
            let page = std::str::from_utf8(&body).map_err(|_| ScrapeError::Utf8)?;
            parse(page, dialect).map_err(ScrapeError::Malformed)
        });
        parsed.await.unwrap_or(Err(ScrapeError::Utf8))
    }

    async fn fetch(&self, timeout: Duration) -> Result<(Vec<u8>, Dialect), ScrapeError> {
        let request = self.client.get(&self.target.url).header(ACCEPT, ACCEPTED);
        let request = request.header("X-Prometheus-Scrape-Timeout-Seconds", timeout.as_secs_f64().to_string());
        let mut answer = request.send().await.map_err(ScrapeError::Http)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(ScrapeError::Status(answer.status().as_u16()));
        }
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let dialect = match content_type.split(';').next().map(str::trim) {
            Some("application/openmetrics-text") => Dialect::OpenMetrics,
            _ => Dialect::Text,
        };
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(ScrapeError::Http)? {
            if (body.len() + chunk.len()) as u64 > self.body_bytes_max {
                return Err(ScrapeError::TooLarge(self.body_bytes_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, dialect))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
