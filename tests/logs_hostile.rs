//! Requests about logs that are made to hurt: each is refused in words, or answered within its time and memory, and the server
//! lives on.

use serde_json::{Value, json};

use super::harness::{Builder, DEADLINE, Server, now_ms};

/// Most memory of all of them together: the server's own, that of the queries, and what a regular expression may take.
const MEMORY_MAX: u64 = 700 << 20;

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// It is answered.
    Answer,
    /// It is refused with status 400, and the text says this.
    Refusal(&'static str),
    /// Either, as it depends on details of a limit.
    Either,
}
use Wanted::{Answer, Either, Refusal};

fn form(params: &[(&str, &str)]) -> Vec<u8> {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let pairs: Vec<String> = params.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    pairs.join("&").into_bytes()
}

async fn ask(server: &mut Server, path: &str, params: &[(&str, &str)], wanted: Wanted) -> String {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let url = server.url(path);
    let asked = server.post(&url, &headers, form(params));
    let shown: String = format!("{path} {params:?}").chars().take(300).collect();
    let answer = tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("no answer in time: {shown}"));
    let text = answer.text();
    let told: String = text.chars().take(400).collect();
    assert!(server.is_alive(), "{shown}");
    match wanted {
        Answer => assert_eq!(answer.status, 200, "{shown}: {told}"),
        Refusal(words) => {
            assert_eq!(answer.status, 400, "{shown}: {told}");
            assert!(text.contains(words), "{shown}: {told}");
            assert!(!text.trim_start().starts_with('{'), "errors of Loki are plain text: {told}");
        }
        Either => assert!(matches!(answer.status, 200 | 400), "{shown}: {} {told}", answer.status),
    }
    text
}

/// Returns a server with lines that are long, deep and many, and the time of the first one.
async fn with_lines() -> (Server, i64) {
    let server = Builder::new().flag("query-max-memory-bytes", "128MiB").flag("query-timeout", "20s").start().await;
    let at = now_ms() * 1_000_000 - 60_000_000_000;
    let long: Vec<(i64, String)> = (0..200).map(|i| (at + i, format!("{i}{}", "a".repeat(20_000)))).collect();
    server.loki_push(&json!({"app": "a"}), &long).await.ok();
    let deep = [
        "[".repeat(100_000),
        "{\"a\":".repeat(30_000),
        format!("{}1{}", "{\"a\":".repeat(30_000), "}".repeat(30_000)),
        format!("{}{}", "[".repeat(30_000), "]".repeat(30_000)),
        format!("{{{}\"z\":1}}", (0..50_000).map(|i| format!("\"k{i}\":{i},")).collect::<String>()),
        (0..50_000).map(|i| format!("k{i}={i} ")).collect(),
    ];
    let deep: Vec<(i64, String)> = (at..).zip(deep).collect();
    server.loki_push(&json!({"app": "deep"}), &deep).await.ok();
    (server, at)
}

fn repeated(count: usize, piece: impl Fn(usize) -> String) -> String {
    (0..count).map(piece).collect()
}

/// Queries of lines.
fn lines() -> Vec<(String, Wanted)> {
    let a = |rest: &str| format!("{{app=\"a\"}} {rest}");
    let deep = |rest: &str| format!("{{app=\"deep\"}} {rest}");
    let ranges = "{{ range fromJson \"[1,2,3,4,5,6,7,8,9,10]\" }}";
    vec![
        (a(r#"|~ "(a+)+$""#), Answer),
        (a(r#"|~ "(.{1000}){1000}""#), Refusal("regular expression")),
        (a(r#"|~ "((a{100}){100}){100}""#), Refusal("regular expression")),
        (a(&format!("|~ \"{}x\"", repeated(2_000, |i| format!("w{i}|")))), Either),
        (format!("{{app=\"a\"{}}}", repeated(10_000, |i| format!(",l{i}!=\"\""))), Either),
        (format!("{{app=\"a\"{}}}", repeated(9_000, |i| format!(",l{i}!=\"x\""))), Answer),
        (format!("{{app=\"a\"{}}}", repeated(9_000, |i| format!(",l{i}!~\"x\""))), Refusal("regular expressions")),
        (a(&repeated(300, |_| r#"|~ "\\pL{60}" "#.to_owned())), Refusal("regular expressions")),
        (a(&repeated(10_000, |i| format!("|= \"{i}\" "))), Either),
        (a(&format!("| {}a=\"b\"{}", "(".repeat(5_000), ")".repeat(5_000))), Refusal("levels deep")),
        (a(&format!("| a=\"b\"{}", " or a=\"b\"".repeat(5_000))), Refusal("more than 500")),
        (a(r#"| line_format "{{ repeat 4000000 \"x\" }}""#), Refusal("--query-max-memory-bytes")),
        (a(r#"| label_format x="{{ repeat 4000000 \"x\" }}""#), Refusal("--query-max-memory-bytes")),
        (a(r#"| line_format "{{ printf \"%1000000000d\" 1 }}""#), Answer),
        (a(r#"| line_format "{{ printf \"%.1000000000f\" 1.0 }}""#), Answer),
        (a(r#"| line_format "{{ repeat 1000000000000 __line__ }}""#), Answer),
        (a(r#"| line_format "{{ regexReplaceAll \"\" __line__ (repeat 100000 \"y\") }}""#), Answer),
        (a(&format!("|= \"10a\" | line_format `{}x{}`", ranges.repeat(12), "{{ end }}".repeat(12))), Answer),
        (a(&format!("|= \"10a\" | line_format `{}`", "{{ if true }}".repeat(1_000))), Refusal("nested")),
        (a(&format!("|= \"10a\" | line_format `{{{{ {}1{} }}}}`", "(".repeat(5_000), ")".repeat(5_000))), Either),
        (a(&format!("| regexp \"{}\"", repeated(1_000, |i| format!("(?P<g{i}>a)")))), Either),
        (a(&format!("| regexp \"{}.*{}\"", repeated(240, |i| format!("(?P<g{i}>")), ")".repeat(240))), Either),
        (a(&format!("| regexp \"{}.*{}\"", repeated(1_000, |i| format!("(?P<g{i}>")), ")".repeat(1_000))), Refusal("")),
        (a(&format!("| pattern \"{}\"", repeated(1_000, |i| format!("<c{i}>a")))), Either),
        (a(&format!("| logfmt {}x=\"x\"", repeated(999, |i| format!("a{i}=\"b\",")))), Either),
        (deep("| json"), Answer),
        (deep(&format!("| json {}x=\"a\"", repeated(50, |i| format!("a{i}=\"a\",")))), Answer),
        (deep(&format!("| json {}x=\"a\"", repeated(6_000, |i| format!("a{i}=\"a\",")))), Refusal("expressions")),
        (deep(&format!("| json x=\"{}a\"", "a.".repeat(20_000))), Refusal("levels deep")),
        (deep(&format!("| json x=\"a{}\"", "[0]".repeat(20_000))), Refusal("levels deep")),
        (deep("| unpack"), Answer),
        (deep("| logfmt"), Answer),
        (deep("| line_format \"{{ fromJson __line__ }}\""), Answer),
        (a(&format!("| drop {}x", repeated(9_000, |i| format!("d{i},")))), Answer),
        (a(&format!("|= ip(\"{}\")", "1".repeat(10_000))), Either),
        ("{app=\"a\"".repeat(10_000), Refusal("")),
        ("\u{0}\u{7f}\u{feff}{app=\"\u{d7ff}\"}".to_owned(), Refusal("parse error")),
    ]
}

/// Queries of numbers.
fn numbers() -> Vec<(String, Wanted)> {
    let count = "count_over_time({app=\"a\"}[5m])";
    let nested = |times: usize, with: &str| {
        let mut query = count.to_owned();
        for _ in 0..times {
            query = format!("label_replace({query},\"app\",\"{with}\",\"app\",\"(.*)\")");
        }
        query
    };
    vec![
        (format!("{}{count}{}", "(".repeat(20_000), ")".repeat(20_000)), Refusal("levels deep")),
        (format!("{}{count}{}", "sum(".repeat(20_000), ")".repeat(20_000)), Refusal("levels deep")),
        (format!("{}{count}", format!("{count}+").repeat(3_000)), Refusal("more than 500")),
        (format!("{}1", "1^".repeat(20_000)), Refusal("")),
        (format!("{}1", "1 > bool ".repeat(10_000)), Refusal("")),
        (nested(1, "$1$1"), Answer),
        (nested(8, &"$1".repeat(100)), Refusal("--query-max-memory-bytes")),
        (nested(1, &"$1".repeat(40_000)), Answer),
        (nested(150, "$1"), Refusal("levels deep")),
        (
            r#"sum by (x) (count_over_time({app="a"} | label_format x="{{ __line__ }}{{ repeat 3000000 \"x\" }}" [5m]))"#
                .to_owned(),
            Refusal("--query-max-memory-bytes"),
        ),
        (r#"sum by (x) (count_over_time({app="a"} | label_format x="{{ __line__ }}" [5m]))"#.to_owned(), Answer),
        (format!("topk(18446744073709551615, {count})"), Answer),
        (format!("topk(1{}, {count})", "0".repeat(40)), Refusal("invalid parameter")),
        ("count_over_time({app=\"a\"}[99999999y])".to_owned(), Refusal("")),
        ("count_over_time({app=\"a\"}[290y] offset 290y)".to_owned(), Answer),
        ("rate({app=\"a\"}[1ns])".to_owned(), Either),
        ("quantile_over_time(1e308, {app=\"a\"} | unwrap x [5m])".to_owned(), Answer),
        (vec![count; 400].join(" or "), Answer),
        ("sum(count_over_time({app=~\".+\"} | json | logfmt | unpack [5m]))".to_owned(), Either),
    ]
}

#[tokio::test]
async fn no_query_takes_the_server_down_or_its_memory() {
    let (mut server, at) = with_lines().await;
    let (start, end) = (at.to_string(), (at + 60_000_000_000).to_string());
    // Lines in memory, then in a block.
    for (query, wanted) in numbers() {
        let params = [("query", query.as_str()), ("time", &end)];
        ask(&mut server, "/loki/api/v1/query", &params, wanted).await;
    }
    server.flush().await;
    for (query, wanted) in lines() {
        let params = [("query", query.as_str()), ("start", &start), ("end", &end), ("limit", "5000")];
        ask(&mut server, "/loki/api/v1/query_range", &params, wanted).await;
    }
    let memory = server.memory_bytes("VmHWM");
    println!("{memory} bytes of memory at most");
    assert!(memory < MEMORY_MAX, "{memory} bytes at most");
    assert_eq!(server.lines("{app=\"a\"}", (at, at + 200), 1_000).await.len(), 200);
}

#[tokio::test]
async fn parameters_beyond_all_bounds_are_told_or_mean_what_they_say() {
    let (mut server, at) = with_lines().await;
    let (start, end) = (at.to_string(), (at + 1_000_000_000).to_string());
    let (log, count) = ("{app=\"a\"}", "sum(count_over_time({app=\"a\"}[5m]))");
    let path = "/loki/api/v1/query_range";
    for (query, params, wanted) in [
        (log, vec![("limit", "1000000000000")], Answer),
        (log, vec![("limit", "9223372036854775807")], Answer),
        (log, vec![("limit", "1000000000000000000000000000000")], Refusal("value out of range")),
        (log, vec![("limit", "0")], Refusal("limit must be a positive value")),
        (log, vec![("limit", "-5")], Refusal("limit must be a positive value")),
        (log, vec![("limit", "ten")], Refusal("strconv.Atoi: parsing \"ten\"")),
        (log, vec![("direction", "sideways")], Refusal("invalid direction")),
        (log, vec![("interval", "-1s")], Either),
        (log, vec![("start", "20"), ("end", "10")], Refusal("end timestamp must not be before or equal to start time")),
        (log, vec![("start", "99999999999999999999")], Refusal("start")),
        (log, vec![("start", "1e300")], Either),
        (log, vec![("start", "NaN")], Refusal("start")),
        (log, vec![("start", "-9223372036854775808"), ("end", "9223372036854775807")], Answer),
        (log, vec![("start", "0"), ("end", "9223372036854775807"), ("direction", "forward")], Answer),
        (log, vec![("start", "1970-01-01T00:00:00Z"), ("end", "9999-12-31T23:59:59Z")], Either),
        (log, vec![("since", "999999999h")], Either),
        (log, vec![("since", "-1h")], Either),
        (count, vec![("step", "-1")], Refusal("zero or negative query resolution step")),
        (count, vec![("step", "0")], Refusal("zero or negative query resolution step")),
        (count, vec![("step", "NaN")], Refusal("duration")),
        (count, vec![("step", "1e300")], Either),
        (count, vec![("start", "0"), ("end", "11001"), ("step", "1")], Refusal("11,000")),
        (count, vec![("start", "0"), ("end", "10999"), ("step", "1")], Answer),
        (
            count,
            vec![("start", "-9223372036854775808"), ("end", "9223372036854775807"), ("step", "1ms")],
            Refusal("11,000"),
        ),
        (count, vec![("start", "-9223372036854775808"), ("end", "9223372036854775807"), ("step", "100000h")], Answer),
        (
            "count_over_time({app=\"a\"}[290y])",
            vec![("start", "9223372036854775806"), ("end", "9223372036854775807")],
            Answer,
        ),
    ] {
        let mut all = vec![("query", query)];
        all.extend(params);
        for (name, value) in [("start", &start), ("end", &end)] {
            if all.iter().all(|(have, _)| *have != name && *have != "since") {
                all.push((name, value));
            }
        }
        ask(&mut server, path, &all, wanted).await;
    }
    for (path, params, wanted) in [
        (
            "/loki/api/v1/index/volume_range",
            vec![("query", log), ("start", "0"), ("end", "20000"), ("step", "1")],
            Refusal("11,000"),
        ),
        ("/loki/api/v1/index/volume", vec![("query", log), ("limit", "1000000000000")], Answer),
        ("/loki/api/v1/detected_fields", vec![("query", log), ("line_limit", "1000000000000")], Either),
        ("/loki/api/v1/detected_fields", vec![("query", "{app=\"deep\"}"), ("line_limit", "10")], Answer),
        ("/loki/api/v1/patterns", vec![("query", log), ("step", "1ns"), ("start", "0")], Either),
        ("/loki/api/v1/series", vec![("match[]", "{"), ("start", "0")], Refusal("parse error")),
        (
            "/api/v1/logs/context",
            vec![("query", log), ("time", "9223372036854775807"), ("before", "10000")],
            Refusal(""),
        ),
        (
            "/api/v1/logs/context",
            vec![("query", log), ("time", &start), ("before", "1000000000000")],
            Refusal("before"),
        ),
        ("/api/v1/logs/export", vec![("query", log), ("cursor", "9223372036854775807.18446744073709551615")], Answer),
        (
            "/api/v1/logs/export",
            vec![("query", log), ("cursor", "-9223372036854775808.1"), ("direction", "backward")],
            Answer,
        ),
        ("/api/v1/logs/export", vec![("query", log), ("cursor", "nonsense")], Refusal("cursor")),
        (
            "/api/v1/logs/export",
            vec![("query", log), ("start", "-9223372036854775808"), ("end", "9223372036854775807")],
            Answer,
        ),
    ] {
        ask(&mut server, path, &params, wanted).await;
    }
}

#[tokio::test]
async fn pushes_that_make_no_sense_are_told_and_nothing_of_them_hurts() {
    let mut server = Server::start().await;
    let url = server.url("/loki/api/v1/push");
    let json_type = [("content-type", "application/json")];
    let now = now_ms() * 1_000_000;
    let body = |labels: Value, values: Value| json!({"streams": [{"stream": labels, "values": values}]}).to_string();
    let one = |at: &str| json!([[at, "x"]]);
    let now_text = now.to_string();
    for (body, statuses) in [
        (b"{\"streams\":[{\"stream\":{\"a\":\"\xff\xfe\"},\"values\":[[\"1\",\"x\"]]}]}".to_vec(), &[400][..]),
        (b"{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"1\",\"\xc3\x28\"]]}]}".to_vec(), &[400]),
        (b"{\"streams\":".to_vec(), &[400]),
        (b"".to_vec(), &[400]),
        (b"[]".to_vec(), &[400]),
        ("[".repeat(100_000).into_bytes(), &[400]),
        (body(json!({"a": "b"}), one("not a number")).into_bytes(), &[400]),
        (body(json!({"a": "b"}), one("99999999999999999999")).into_bytes(), &[400]),
        (body(json!({"a": "b"}), one("9223372036854775807")).into_bytes(), &[204, 400]),
        (body(json!({"a": "b"}), one("-9223372036854775808")).into_bytes(), &[204, 400]),
        (body(json!({"a": "b"}), one("-1")).into_bytes(), &[204, 400]),
        (body(json!({"a": "b"}), one("4102444800000000000")).into_bytes(), &[204, 400]),
        (body(json!({"a": "x".repeat(1 << 20)}), one(&now_text)).into_bytes(), &[400]),
        (body(json!({"x".repeat(1 << 20): "a"}), one(&now_text)).into_bytes(), &[400]),
        (
            body(Value::Object((0..50_000).map(|i| (format!("l{i}"), json!("v"))).collect()), one(&now_text))
                .into_bytes(),
            &[400],
        ),
        (body(json!({"a b\"}": "c"}), one(&now_text)).into_bytes(), &[204, 400]),
        (body(json!({"a": "b"}), json!([[now_text, "x".repeat(9 << 20)]])).into_bytes(), &[400]),
        (body(json!({"a": "b"}), json!([[now_text, "x", {"k": "v".repeat(3 << 20)}]])).into_bytes(), &[400]),
        (body(json!({"a": "b"}), json!([[now_text, "x", {"k": {"deep": 1}}]])).into_bytes(), &[204, 400]),
        (body(json!({}), one(&now_text)).into_bytes(), &[204, 400]),
    ] {
        let shown: String = String::from_utf8_lossy(&body).chars().take(100).collect();
        let answer = server.post(&url, &json_type, body).await;
        assert!(statuses.contains(&answer.status), "{shown}: {} {}", answer.status, answer.text());
        assert!(answer.status == 204 || !answer.text().is_empty(), "{shown}");
        assert!(server.is_alive(), "{shown}");
    }
    let snappy = [("content-type", "application/x-protobuf")];
    for body in [vec![0xff; 100], vec![0xff, 0xff, 0xff, 0xff, 0x0f], Vec::new(), b"\x04\x0c\xff\xff\xff\xff".to_vec()]
    {
        let answer = server.post(&url, &snappy, body).await;
        assert!(matches!(answer.status, 204 | 400 | 413), "{} {}", answer.status, answer.text());
    }
    // Whatever of it was taken can be read, at the ends of time, too, and goes through a flush.
    for _ in 0..2 {
        for direction in ["forward", "backward"] {
            let ends = ("-9223372036854775808", "9223372036854775807");
            let params = [("query", "{a=~\".+\"}"), ("start", ends.0), ("end", ends.1), ("direction", direction)];
            ask(&mut server, "/loki/api/v1/query_range", &params, Answer).await;
        }
        server.flush().await;
    }
}

#[tokio::test]
async fn lines_of_one_time_are_paged_one_by_one_from_either_end() {
    let server = Server::start().await;
    let at = now_ms() * 1_000_000 - 1_000_000_000;
    let mut expected = Vec::new();
    for round in 0..3_i64 {
        let lines: Vec<(i64, String)> = (0..7).map(|i| (at + round, format!("line {round} {i}"))).collect();
        server.loki_push(&json!({"app": "a"}), &lines).await.ok();
        server.loki_push(&json!({"app": "b"}), &lines).await.ok();
        for app in ["a", "b"] {
            expected.extend(lines.iter().map(|(at, line)| (app.to_owned(), *at, line.clone())));
        }
        if round == 1 {
            server.flush().await;
        }
    }
    let start = (at - 1).to_string();
    for direction in ["forward", "backward"] {
        let mut cursor = String::new();
        let mut found = Vec::new();
        loop {
            let params = [
                ("query", "{app=~\"a|b\"}"),
                ("start", &*start),
                ("limit", "1"),
                ("direction", direction),
                ("cursor", &*cursor),
            ];
            let text = server.get("/api/v1/logs/export", &params).await.ok().text();
            let Some(line) = text.lines().next() else { break };
            assert_eq!(text.lines().count(), 1, "{text}");
            let line: Value = serde_json::from_str(line).expect("JSON");
            let app = line["labels"]["app"].as_str().expect("a label").to_owned();
            line["cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
            let at: i64 = cursor.split('.').next().and_then(|at| at.parse().ok()).expect("a time in front");
            found.push((app, at, line["line"].as_str().expect("a line").to_owned()));
        }
        if direction == "backward" {
            found.reverse();
        }
        assert_eq!(found, expected, "{direction}");
        // A query with limit 1 gives the first line from that end.
        let params = [("query", "{app=~\"a|b\"}"), ("start", &*start), ("limit", "1"), ("direction", direction)];
        let data = server.data("/loki/api/v1/query_range", &params).await;
        let wanted = if direction == "forward" { expected.first() } else { expected.last() };
        assert_eq!(data["result"][0]["values"][0][1].as_str(), wanted.map(|(_, _, line)| line.as_str()));
    }
}
