//! `admin/tsdb/{delete_series,clean_tombstones,snapshot}`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use query_wire::prometheus::Snapshot;
use storage_api::{MetricAdmin, MillisRange};

use super::answer;
use super::params::{Params, invalid};
use crate::Services;
use crate::error::{Error, Result};

/// Runs `work` to its end, even if the client goes away meanwhile. It waits for the disk, not for a turn among queries.
async fn run<T: Send + 'static>(
    services: &Services,
    work: impl FnOnce(&dyn MetricAdmin) -> storage_api::Result<T> + Send + 'static,
) -> Result<T> {
    let admin = services.admin.as_ref().map(Arc::clone);
    let admin = admin.ok_or_else(|| Error::Unavailable("admin APIs disabled".to_owned()))?;
    let done = tokio::task::spawn_blocking(move || work(admin.as_ref())).await;
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(%error, "an admin request failed");
            Err(error.into())
        }
        Err(_) => Err(Error::Internal("the admin request panicked".to_owned())),
    }
}

pub(super) async fn delete_series(State(services): State<Services>, params: Params) -> Result<Response> {
    if params.all("match[]").next().is_none() {
        return Err(Error::BadData("no match[] parameter provided".to_owned()));
    }
    let range = MillisRange { min_ms: params.time_or("start", i64::MIN)?, max_ms: params.time_or("end", i64::MAX)? };
    let selectors = params.any_selectors().map_err(|error| invalid("match[]", error))?;
    tracing::info!(selectors = ?params.all("match[]").collect::<Vec<_>>(), ?range, "series are deleted");
    run(&services, move |admin| admin.delete_series(&selectors, range)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn clean_tombstones(State(services): State<Services>) -> Result<Response> {
    run(&services, |admin| admin.clean_tombstones()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn snapshot(State(services): State<Services>, params: Params) -> Result<Response> {
    let skip_head = match params.get("skip_head") {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        text => {
            let reason = format!("unable to parse boolean: strconv.ParseBool: parsing {text:?}: invalid syntax");
            return Err(invalid("skip_head", reason));
        }
    };
    let name = run(&services, move |admin| admin.snapshot(skip_head)).await?;
    answer::success(Snapshot { name }, Vec::new())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use model::Labels;
    use runtime::{Clock, CpuPool, Telemetry};
    use storage_api::fake::{FakeLogs, FakeMetrics};
    use storage_api::{Limits, MetricQuerier, QueryContext};
    use tower::ServiceExt;

    use super::*;

    struct Site {
        metrics: Arc<FakeMetrics>,
        services: Services,
    }

    impl Site {
        fn new() -> Self {
            let metrics = Arc::new(FakeMetrics::default());
            for metric in ["a", "b", "c"] {
                let labels = Labels::from_pairs([("__name__", metric)]);
                (0..4).for_each(|i| metrics.push(&labels, i * 1000, 1.0));
            }
            let (querier, cpu) = (Arc::clone(&metrics) as _, CpuPool::new(1).unwrap());
            let (logs, clock) = (Arc::new(FakeLogs::default()), Clock::fixed(0));
            let services = Services::new(querier, logs, cpu, clock, Limits::default(), 1, &Telemetry::new());
            Self { services: services.with_admin(Arc::clone(&metrics) as _), metrics }
        }

        async fn ask(&self, method: &str, path: &str, form: &'static str) -> String {
            let mut request = Request::builder().method(method).uri(format!("/api/v1/admin/tsdb/{path}"));
            if !form.is_empty() {
                request = request.header("content-type", "application/x-www-form-urlencoded");
            }
            let request = request.body(Body::from(form)).unwrap();
            let response = crate::prometheus::router(self.services.clone()).oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            format!("{status} {}", String::from_utf8_lossy(&body))
        }

        fn left(&self, metric: &str) -> Vec<i64> {
            let matchers = [model::Matcher::equal("__name__", metric)];
            let context = QueryContext::default();
            let selection = self.metrics.select(&matchers, MillisRange::ALL, &context).unwrap();
            let read = selection.parts.iter().flat_map(|part| part.read(&context).unwrap());
            read.flat_map(|series| series.timestamps_ms).collect()
        }
    }

    #[tokio::test]
    async fn series_are_deleted_by_post_and_put() {
        let site = Site::new();
        assert_eq!(site.ask("POST", "delete_series?match[]=a&match[]=b&start=1&end=2", "").await, "204 ");
        assert_eq!((site.left("a"), site.left("b"), site.left("c").len()), (vec![0, 3000], vec![0, 3000], 4));
        assert_eq!(site.ask("PUT", "delete_series", "match%5B%5D=c&end=1").await, "204 ");
        assert_eq!(site.left("c"), [2000, 3000]);
        assert_eq!(site.ask("POST", "delete_series?match[]=c", "").await, "204 ");
        assert_eq!(site.left("c"), Vec::<i64>::new());
        assert!(site.ask("GET", "delete_series?match[]=a", "").await.starts_with("405"));
    }

    #[tokio::test]
    async fn everything_may_be_deleted() {
        for form in ["match%5B%5D=%7B%7D&end=2", "match%5B%5D=%7Bx%3D~%22.*%22%7D&end=2"] {
            let site = Site::new();
            assert_eq!(site.ask("POST", "delete_series", form).await, "204 ");
            assert_eq!((site.left("a"), site.left("c")), (vec![3000], vec![3000]));
        }
    }

    #[tokio::test]
    async fn faults_are_named_as_prometheus_names_them() {
        let site = Site::new();
        for (path, error) in [
            ("delete_series", "no match[] parameter provided"),
            ("delete_series?start=x", "no match[] parameter provided"),
            (
                "delete_series?match[]=a%7B&start=x",
                r#"invalid parameter \"start\": Invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#,
            ),
            (
                "snapshot?skip_head=x",
                r#"invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"x\": invalid syntax"#,
            ),
        ] {
            let expected = format!(r#"400 {{"status":"error","errorType":"bad_data","error":"{error}"}}"#);
            assert_eq!(site.ask("POST", path, "").await, expected, "{path}");
        }
        let got = site.ask("POST", "delete_series?match[]=a%7B", "").await;
        assert!(
            got.starts_with(r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"match[]\": "#),
            "{got}"
        );
        assert_eq!(site.left("a").len(), 4);
    }

    #[tokio::test]
    async fn a_snapshot_has_a_name() {
        let site = Site::new();
        let expected = r#"200 {"status":"success","data":{"name":"19700101T000000Z-0000000000000000"}}"#;
        assert_eq!(site.ask("POST", "snapshot", "").await, expected);
        assert_eq!(site.ask("PUT", "snapshot?skip_head=true", "").await, expected);
        assert_eq!(site.ask("POST", "clean_tombstones", "").await, "204 ");
    }

    #[tokio::test]
    async fn without_a_store_to_change_the_requests_are_refused() {
        let mut site = Site::new();
        site.services.admin = None;
        let expected = r#"503 {"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#;
        assert_eq!(site.ask("POST", "clean_tombstones", "").await, expected);
    }
}
