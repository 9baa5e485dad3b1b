//! `delete`: taking requests to delete lines, telling of them, and taking them back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::{TimeRange, Timestamp};
use query_logql::Follower;
use query_wire::loki::DeleteRequest;
use storage_api::{Limits, LogAdmin, LogDelete, LogDeleteRequest, QueryContext, RowTest, Undelete};

use super::error::LokiError;
use super::params::Params;
use super::{Answer, State, json_answer, json_bytes};

const MILLI_NS: i64 = 1_000_000;

/// How long a delete may look for its lines. It is no query that somebody waits for at a screen.
const TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Runs `work` to its end, even if the client goes away meanwhile. It waits for the disk, not for a turn among queries.
async fn run<T: Send + 'static>(
    state: &State,
    work: impl FnOnce(&dyn LogAdmin) -> Result<T, LokiError> + Send + 'static,
) -> Result<T, LokiError> {
    let admin = state.services.log_admin.as_ref().map(Arc::clone);
    let admin = admin.ok_or_else(|| LokiError::not_found("deletion is not available: this server stores no logs"))?;
    let done = tokio::task::spawn_blocking(move || work(admin.as_ref())).await;
    done.unwrap_or_else(|_| Err(LokiError::internal("the request panicked")))
}

/// Takes a request. When it is answered, no query sees the lines any more.
pub(super) async fn create(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let query = params.get("query").to_owned();
    if query.is_empty() {
        return Err(LokiError::bad("query not set"));
    }
    let log = query_logql::parse_log(&query)?;
    let (start_ns, end_ns) = range(&params, state.services.clock.now_nanos())?;
    let follower = Follower::new(log.clone())?;
    let logs = Arc::clone(&state.services.logs);
    let work = move |admin: &dyn LogAdmin| {
        let limits = Limits {
            series_max: u64::MAX,
            samples_max: u64::MAX,
            bytes_max: u64::MAX,
            memory_bytes_max: u64::MAX,
            timeout: TIMEOUT,
        };
        let context = QueryContext::new(limits);
        let range = TimeRange::new(Timestamp(start_ns), Timestamp(end_ns.saturating_add(1)));
        let takes_all = follower.takes_all();
        let mut select = query_logql::log_select(&log, range, !takes_all, logs.as_ref(), &context)?;
        select.without_lines = takes_all;
        let test: Option<Arc<dyn RowTest>> = if takes_all { None } else { Some(Arc::new(follower)) };
        admin.delete(&LogDelete { query, select, test }, &context)?;
        let warnings = context.take_warnings();
        for warning in &warnings {
            tracing::warn!(warning, "a delete may be incomplete");
        }
        Ok(warnings)
    };
    let warnings = run(&state, work).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    super::export::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// Returns the first and the last nanosecond that are meant.
fn range(params: &Params, now_ns: i64) -> Result<(i64, i64), LokiError> {
    if params.get("start").is_empty() {
        return Err(LokiError::bad("start time not set"));
    }
    let invalid = |which: &str| {
        LokiError::bad(format!("invalid {which} time: require unix seconds or nanoseconds, or RFC3339 format"))
    };
    let start = params.time("start", 0).map_err(|_| invalid("start"))?;
    let end = params.time("end", now_ns).map_err(|_| invalid("end"))?;
    // Clients have their own clocks: within the same millisecond is no future.
    if end.div_euclid(MILLI_NS) > now_ns.div_euclid(MILLI_NS) {
        return Err(LokiError::bad("deletes in the future are not allowed"));
    }
    if start > end {
        return Err(LokiError::bad("start time can't be greater than end time"));
    }
    Ok((start, end))
}

/// Lists the requests, oldest first.
pub(super) async fn list(extract::State(state): extract::State<State>) -> Answer {
    let requests = run(&state, |admin| Ok(admin.deletes())).await?;
    let requests: Vec<DeleteRequest> = requests.into_iter().map(told).collect();
    Ok(json_answer(json_bytes(&requests)?))
}

fn told(request: LogDeleteRequest) -> DeleteRequest {
    let seconds = |at: Timestamp| {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date are below 2^53")]
        let millis = at.0.div_euclid(MILLI_NS) as f64;
        millis / 1000.0
    };
    let done = request.blocks.saturating_sub(request.blocks_left);
    let status = match (done, request.blocks_left) {
        (_, 0) => "processed".to_owned(),
        (0, _) => "received".to_owned(),
        (done, _) => format!("{}% Complete", done * 100 / request.blocks),
    };
    DeleteRequest {
        request_id: request.id,
        start_time: seconds(request.start),
        end_time: seconds(request.end),
        query: request.query,
        status,
        created_at: seconds(request.created),
        deleted_lines: request.records,
    }
}

/// Takes a request back, as long as its lines are still there.
pub(super) async fn cancel(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let (id, force) = (params.get("request_id").to_owned(), params.get("force") == "true");
    match run(&state, move |admin| Ok(admin.undelete(&id, force)?)).await? {
        Undelete::Done(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        Undelete::NotFound => Err(LokiError::not_found("could not find delete request with given id")),
        Undelete::Processed => {
            Err(LokiError::bad("deletion of request which is in process or already processed is not allowed"))
        }
        Undelete::PartlyProcessed => Err(LokiError::bad(
            "Unable to cancel partially completed delete request. To force, use the ?force query parameter",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(blocks: u64, blocks_left: u64) -> String {
        let time = Timestamp(1_700_000_000_500_000_000);
        let request = LogDeleteRequest {
            id: "0000abcd".to_owned(),
            query: "{a=\"b\"}".to_owned(),
            start: time,
            end: Timestamp(1_700_000_001_000_000_000),
            created: time,
            records: 3,
            blocks,
            blocks_left,
        };
        serde_json::to_string(&told(request)).unwrap()
    }

    #[test]
    fn a_request_is_told_as_loki_tells_it() {
        let expected = r#"{"request_id":"0000abcd","start_time":1700000000.5,"end_time":1700000001.0,"query":"{a=\"b\"}","status":"received","created_at":1700000000.5,"deleted_lines":3}"#;
        assert_eq!(request(3, 3), expected);
        for (left, status) in [(2, "33% Complete"), (1, "66% Complete"), (0, "processed")] {
            assert!(request(3, left).contains(&format!("\"status\":\"{status}\"")), "{left}");
        }
        assert!(request(0, 0).contains("processed"), "nothing was found");
    }

    #[test]
    fn times_are_checked() {
        let now = 1_700_000_000_000_000_000;
        let check =
            |query: &str| range(&Params::from_query(query, Default::default()), now).map_err(|error| error.to_string());
        assert_eq!(check("start=1600000000"), Ok((1_600_000_000_000_000_000, now)));
        assert_eq!(check("start=0&end=2023-11-14T22:13:20Z"), Ok((0, now)));
        for (query, error) in [
            ("", "start time not set"),
            ("start=x", "invalid start time: require unix seconds or nanoseconds, or RFC3339 format"),
            ("start=1&end=x", "invalid end time: require unix seconds or nanoseconds, or RFC3339 format"),
            ("start=1&end=1700000001", "deletes in the future are not allowed"),
            ("start=1699999999&end=1699999998", "start time can't be greater than end time"),
        ] {
            assert_eq!(check(query), Err(error.to_owned()), "{query}");
        }
    }
}
