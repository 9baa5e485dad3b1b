//! Our own endpoints: export and context.

use super::*;

impl Server {
    async fn own(&self, path: &str, params: &[(&str, &str)], accept: &str) -> (StatusCode, String) {
        let uri = format!("/api/v1/logs/{path}?{}", encode(params));
        self.send(Request::get(uri).header("accept", accept).body(Body::empty()).unwrap()).await
    }

    async fn exported(&self, params: &[(&str, &str)]) -> Vec<Value> {
        let (status, body) = self.own("export", params, "*/*").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test]
async fn an_export_has_all_lines_in_order_and_goes_on_from_any_of_them() {
    let server = Server::new();
    let count = 80_000;
    for i in 0..count {
        // Lines of one nanosecond lie on both sides of a page's border.
        let at = NOW - 3600 * SECOND + i64::from(i / 7);
        server.push(&[("app", ["web", "db"][i as usize % 2])], at, &format!("line {i}"), &[]);
    }
    let all = server.exported(&[("query", "{app=~\".+\"}")]).await;
    assert_eq!(all.len(), count as usize);
    let place = |line: &Value| {
        let cursor = line["cursor"].as_str().unwrap();
        let (at, done) = cursor.split_once('.').unwrap();
        (at.parse::<i64>().unwrap(), done.parse::<u64>().unwrap())
    };
    assert!(all.is_sorted_by(|a, b| place(a) < place(b)));
    let backward = server.exported(&[("query", "{app=~\".+\"}"), ("direction", "backward")]).await;
    let text = |line: &Value| line["line"].as_str().unwrap().to_owned();
    assert!(backward.iter().rev().map(text).eq(all.iter().map(text)));
    for at in [0, 65_535, 65_536, 79_999] {
        let cursor = all[at]["cursor"].as_str().unwrap();
        let rest = server.exported(&[("query", "{app=~\".+\"}"), ("cursor", cursor)]).await;
        assert_eq!(rest[..], all[at + 1..], "behind {at}");
    }
    assert_eq!(server.exported(&[("query", "{}"), ("limit", "40000")]).await[..], all[..40_000]);
}

#[tokio::test]
async fn an_export_is_json_lines_or_csv() {
    let server = Server::new();
    server.push(&[("app", "web")], NOW - 2, "level=info a,\"b\"", &[("trace_id", "t1")]);
    server.push(&[("app", "web")], NOW - 2, "two\nlines", &[]);
    let (_, body) = server.own("export", &[("query", "{app=\"web\"} | logfmt | keep app, level, trace_id")], "").await;
    expect![[r#"
        {"timestamp":"2023-11-14T22:13:19.999999998Z","labels":{"app":"web","level":"info","trace_id":"t1"},"line":"level=info a,\"b\"","cursor":"1699999999999999998.1"}
        {"timestamp":"2023-11-14T22:13:19.999999998Z","labels":{"app":"web"},"line":"two\nlines","cursor":"1699999999999999998.2"}
    "#]]
    .assert_eq(&body);
    let (_, body) = server.own("export", &[("query", "{app=\"web\"}")], "text/csv").await;
    expect![[r#"
        timestamp,labels,line,cursor
        2023-11-14T22:13:19.999999998Z,"{app=""web"", trace_id=""t1""}","level=info a,""b""",1699999999999999998.1
        2023-11-14T22:13:19.999999998Z,"{app=""web""}","two
        lines",1699999999999999998.2
    "#]]
    .assert_eq(&body);
    let params = [("query", "{app=\"web\"}"), ("format", "csv"), ("cursor", "1699999999999999998.2")];
    assert_eq!(server.own("export", &params, "").await, (StatusCode::OK, String::new()), "no header again");
    for (name, value, error) in [
        ("query", "{app=", "parse error"),
        ("query", "rate({app=\"web\"}[1m])", ""),
        ("format", "xml", "format must be jsonl or csv"),
        ("cursor", "x", "is none of an export"),
        ("limit", "0", "limit must be a positive value"),
    ] {
        let (status, body) = server.own("export", &[(name, value), ("query", "{}")], "").await;
        assert!(status == StatusCode::BAD_REQUEST && body.contains(error), "{name}={value}: {status} {body}");
    }
}

#[tokio::test]
async fn a_small_budget_makes_pages_smaller_not_the_export() {
    let server = Server::with_limits(Limits { memory_bytes_max: 20_000, ..Limits::default() });
    for i in 0..500 {
        server.push(&[("app", "web")], NOW - 1000 + i, &format!("{i} {}", "x".repeat(100)), &[]);
    }
    assert_eq!(server.exported(&[("query", "{}")]).await.len(), 500);
    let (status, body) = server.get("query_range", &[("query", "{}"), ("limit", "500")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.contains("bytes of memory, the limit is 20000"), "{body}");
}

#[tokio::test]
async fn context_tells_the_lines_around_a_line() {
    let server = Server::filled();
    let at = (NOW - 6 * SECOND).to_string();
    let params = [("query", "{app=\"web\"} | json | n=4"), ("time", at.as_str()), ("before", "1"), ("after", "1")];
    let (status, body) = server.own("context", &params, "").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let data: Value = serde_json::from_str::<Value>(&body).unwrap()["data"].take();
    assert_eq!(data["stream"], serde_json::json!({"app": "web", "env": "prod"}));
    let times = |side: &str| -> Vec<String> {
        data[side].as_array().unwrap().iter().map(|line| line[0].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(times("before"), [(NOW - 8 * SECOND).to_string()]);
    assert_eq!(times("after"), [(NOW - 4 * SECOND).to_string()]);
    assert_eq!(data["line"][0], at);
    assert_eq!(data["line"][2], serde_json::json!({"structuredMetadata": {"trace_id": "t1"}}));
    for (name, value, error) in [
        ("time", "", "time must say when"),
        ("time", "5", "there is no such line"),
        ("before", "x", "before must be a number of lines"),
        ("after", "10001", "after must be a number of lines"),
    ] {
        let (status, body) = server.own("context", &[(name, value), ("query", "{}"), ("time", &at)], "").await;
        assert!(status == StatusCode::BAD_REQUEST && body.contains(error), "{name}={value}: {status} {body}");
    }
}
