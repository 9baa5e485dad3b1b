//! The logs of a running server against a list, in step, by the HTTP API: what is pushed, sealed, merged, deleted and replayed
//! is found by every kind of request as brute force finds it in the list.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::harness::{Random, Server, now_ms};

/// Steps of work.
const STEPS: u32 = 120;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const APPS: [&str; 3] = ["a0", "a1", "a2"];
const WORDS: [&str; 5] = ["alpha", "beta", "gamma", "결제오류", "ORD-7712"];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    app: &'static str,
    at: i64,
    line: String,
}

/// A filter, and whether a line passes it.
type Filter = (&'static str, fn(&str) -> bool);

/// Some streams and lines of them.
#[derive(Debug, Clone, Copy)]
struct Query {
    selector: (&'static str, &'static [&'static str]),
    filter: Filter,
}

impl Query {
    fn choose(random: &mut Random) -> Self {
        const SELECTORS: [(&str, &[&str]); 4] = [
            (r#"{job="m"}"#, &APPS),
            (r#"{app="a0"}"#, &["a0"]),
            (r#"{job="m", app=~"a1|a2"}"#, &["a1", "a2"]),
            (r#"{job="m", app!="a1"}"#, &["a0", "a2"]),
        ];
        const FILTERS: [Filter; 7] = [
            ("", |_| true),
            ("", |_| true),
            (r#" |= "beta""#, |line| line.contains("beta")),
            (r#" != "alpha" != "결제""#, |line| !line.contains("alpha") && !line.contains("결제")),
            (r#" |~ "n=\\d*[37] ""#, |line| line.split(' ').next().is_some_and(|n| n.ends_with(['3', '7']))),
            (r#" | logfmt | w="gamma""#, |line| line.contains("w=gamma")),
            (r#" |= "ORD-7712" or "결제""#, |line| line.contains("ORD-7712") || line.contains("결제")),
        ];
        Self { selector: pick(random, &SELECTORS), filter: pick(random, &FILTERS) }
    }

    fn text(&self) -> String {
        format!("{}{}", self.selector.0, self.filter.0)
    }

    fn finds(&self, row: &Row) -> bool {
        self.selector.1.contains(&row.app) && (self.filter.1)(&row.line)
    }
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[usize::try_from(random.between(0, from.len() as u64)).expect("fits")]
}

fn number(random: &mut Random, low: i64, high: i64) -> i64 {
    low + i64::try_from(random.between(0, (high - low).unsigned_abs())).expect("fits")
}

/// The list, and the server that shall agree with it.
struct Model {
    server: Server,
    random: Random,
    base: i64,
    /// As they came.
    rows: Vec<Row>,
    pushed: i64,
}

impl Model {
    /// Chooses a range that often begins or ends at a line.
    fn range(&mut self) -> (i64, i64) {
        let end = |model: &mut Self| match number(&mut model.random, 0, 3) {
            0 => model.base + number(&mut model.random, -SECOND, 160 * SECOND),
            _ if model.rows.is_empty() => model.base,
            _ => model.rows[usize::try_from(number(&mut model.random, 0, model.rows.len() as i64)).expect("fits")].at,
        };
        let (a, b) = (end(self), end(self) + i64::from(number(&mut self.random, 0, 2) == 0));
        if number(&mut self.random, 0, 3) == 0 {
            return (self.base - SECOND, self.base + 200 * SECOND);
        }
        (a.min(b), a.max(b).max(a.min(b) + 1))
    }

    /// Returns what is found in a half-open range, by time, stream and arrival.
    fn expected(&self, query: &Query, (start, end): (i64, i64)) -> Vec<Row> {
        let found = self.rows.iter().filter(|row| start <= row.at && row.at < end && query.finds(row));
        let mut found: Vec<Row> = found.cloned().collect();
        found.sort_by_key(|row| (row.at, row.app));
        found
    }

    async fn push(&mut self) {
        let app = pick(&mut self.random, &APPS);
        let count = number(&mut self.random, 1, 40);
        let mut lines = Vec::new();
        for _ in 0..count {
            let at = self.base + number(&mut self.random, 0, 600) * 250_000_000 + number(&mut self.random, 0, 2);
            let word = pick(&mut self.random, &WORDS);
            let padding = if number(&mut self.random, 0, 12) == 0 { "x".repeat(3_000) } else { String::new() };
            lines.push((at, format!("n={} w={word} pad={padding}", self.pushed)));
            self.pushed += 1;
        }
        // A client that did not see the answer sends it again.
        for _ in 0..number(&mut self.random, 1, 3) {
            self.server.loki_push(&json!({"job": "m", "app": app}), &lines).await.ok();
        }
        self.rows.extend(lines.into_iter().map(|(at, line)| Row { app, at, line }));
    }

    async fn delete(&mut self) {
        let (query, (start, end)) = (Query::choose(&mut self.random), self.range());
        let params = [("query", query.text()), ("start", start.to_string()), ("end", (end - 1).to_string())];
        let asked = self.server.client().post(self.server.url("/loki/api/v1/delete")).query(&params);
        assert_eq!(asked.send().await.expect("an answer").status().as_u16(), 204);
        self.rows.retain(|row| !(start <= row.at && row.at < end && query.finds(row)));
    }

    async fn check_lines(&mut self) {
        let (query, range) = (Query::choose(&mut self.random), self.range());
        let limit = usize::try_from(number(&mut self.random, 1, 60)).expect("fits");
        let forward = number(&mut self.random, 0, 2) == 0;
        let interval = pick(&mut self.random, &[0, 0, SECOND, 7 * SECOND]);
        let mut expected = self.expected(&query, range);
        if !forward {
            expected.reverse();
        }
        let mut last: Option<i64> = None;
        expected.retain(|row| {
            let is_far = last.is_none_or(|last| (row.at - last).abs() >= interval);
            last = if is_far { Some(row.at) } else { last };
            is_far
        });
        expected.truncate(limit);
        let mut expected: Vec<(i64, String)> = expected.into_iter().map(|row| (row.at, row.line)).collect();
        expected.sort();
        let (text, interval) = (query.text(), format!("{}s", interval / SECOND));
        let mut params = vec![
            ("query", text.as_str()),
            ("direction", if forward { "forward" } else { "backward" }),
            ("interval", &interval),
        ];
        let numbers = [("start", range.0), ("end", range.1), ("limit", limit as i64)].map(|(n, v)| (n, v.to_string()));
        params.extend(numbers.iter().map(|(name, value)| (*name, value.as_str())));
        let data = self.server.data("/loki/api/v1/query_range", &params).await;
        let mut found = Vec::new();
        for stream in data["result"].as_array().expect("streams") {
            let values = stream["values"].as_array().expect("values");
            let at = |value: &Value| value[0].as_str().and_then(|at| at.parse::<i64>().ok()).expect("a time");
            assert!(values.is_sorted_by(|a, b| if forward { at(a) <= at(b) } else { at(a) >= at(b) }), "{params:?}");
            found.extend(values.iter().map(|value| (at(value), value[1].as_str().expect("a line").to_owned())));
        }
        found.sort();
        assert_eq!(found, expected, "{params:?}");
        let passed = data["stats"]["summary"]["totalPostFilterLines"].as_u64().expect("a number");
        assert!(passed >= found.len() as u64, "{passed} passed, {} found", found.len());
    }

    /// Exports page by page, each with the cursor of the last line before.
    async fn check_export(&mut self) {
        let (query, range) = (Query::choose(&mut self.random), self.range());
        let forward = number(&mut self.random, 0, 2) == 0;
        let limit = number(&mut self.random, 1, 80).to_string();
        let mut expected = self.expected(&query, range);
        if !forward {
            expected.reverse();
        }
        let (text, start, end) = (query.text(), range.0.to_string(), range.1.to_string());
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let params = [
                ("query", text.as_str()),
                ("start", &start),
                ("end", &end),
                ("limit", &limit),
                ("direction", if forward { "forward" } else { "backward" }),
                ("cursor", &cursor),
            ];
            let page = self.server.get("/api/v1/logs/export", &params).await.ok().text();
            if page.is_empty() {
                break;
            }
            for line in page.lines() {
                let line: Value = serde_json::from_str(line).expect("JSON");
                line["cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
                let at = cursor.split('.').next().and_then(|at| at.parse().ok()).expect("a time in front");
                let app = APPS.into_iter().find(|app| line["labels"]["app"] == *app).expect("an app");
                found.push(Row { app, at, line: line["line"].as_str().expect("a line").to_owned() });
            }
        }
        assert_eq!(found, expected, "{text} {start} {end} by {limit}, forward: {forward}");
    }

    async fn check_numbers(&mut self) {
        let (query, (_, at)) = (Query::choose(&mut self.random), self.range());
        let window = pick(&mut self.random, &[1, 30, 60, 90, 200]) * SECOND;
        let in_window = |row: &&Row, at: i64| at - window < row.at && row.at <= at && query.finds(row);
        for (function, size) in [("count_over_time", false), ("bytes_over_time", true)] {
            let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
            for row in self.rows.iter().filter(|row| in_window(row, at)) {
                *expected.entry(row.app).or_default() += if size { row.line.len() } else { 1 };
            }
            let text = format!("sum by (app) ({function}({}[{}s]))", query.text(), window / SECOND);
            let data = self.server.data("/loki/api/v1/query", &[("query", &text), ("time", &at.to_string())]).await;
            let result = data["result"].as_array().expect("samples");
            let sample = |one: &Value| {
                let value = one["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a number");
                (APPS.into_iter().find(|app| one["metric"]["app"] == *app).expect("an app"), value)
            };
            assert_eq!(result.iter().map(sample).collect::<BTreeMap<_, usize>>(), expected, "{text} at {at}");
        }
        let step = pick(&mut self.random, &[7, 30, 60]) * SECOND;
        let (start, end) = (self.base, self.base + 180 * SECOND);
        let text = format!("sum(count_over_time({}[{}s]))", query.text(), window / SECOND);
        let params = [("query", text.clone()), ("start", start.to_string()), ("end", end.to_string())];
        let step_text = (step / SECOND).to_string();
        let mut params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
        params.push(("step", &step_text));
        let data = self.server.data("/loki/api/v1/query_range", &params).await;
        let found: Vec<usize> = data["result"][0]["values"].as_array().map_or(Vec::new(), |values| {
            values
                .iter()
                .map(|value| value[1].as_str().and_then(|value| value.parse().ok()).expect("a number"))
                .collect()
        });
        // The server aligns a range's start with its step; counted is at whatever times it tells.
        let times: Vec<i64> = data["result"][0]["values"].as_array().map_or(Vec::new(), |values| {
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds of today")]
            values
                .iter()
                .map(|value| (value[0].as_f64().expect("a time") * 1000.0).round() as i64 * 1_000_000)
                .collect()
        });
        let count = |at: i64| self.rows.iter().filter(|row| in_window(row, at)).count();
        let expected: Vec<usize> = times.iter().map(|at| count(*at)).collect();
        assert_eq!(found, expected, "{params:?}");
        let asked = (0..).map(|i| start + i * step).take_while(|at| *at <= end);
        let filled: Vec<i64> = asked.filter(|at| count(*at) > 0).collect();
        assert_eq!(times, filled, "{params:?}");
    }

    async fn check_counts(&mut self) {
        let (query, (start, end)) = (Query::choose(&mut self.random), self.range());
        let (first, last) = (start.div_euclid(MINUTE), end.div_euclid(MINUTE));
        let mut by_app: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for row in &self.rows {
            if (first..=last).contains(&row.at.div_euclid(MINUTE)) && query.selector.1.contains(&row.app) {
                let sum = by_app.entry(row.app).or_default();
                *sum = (sum.0 + 1, sum.1 + row.line.len() as u64);
            }
        }
        let (start, end) = (start.to_string(), end.to_string());
        let params = [("query", query.selector.0), ("start", &*start), ("end", &*end), ("targetLabels", "app")];
        let stats = self.server.get("/loki/api/v1/index/stats", &params).await.ok().json();
        let told = ["streams", "entries", "bytes"].map(|name| stats[name].as_u64().expect("a number"));
        let sums = by_app.values().fold([0; 3], |sum, (records, bytes)| [sum[0] + 1, sum[1] + records, sum[2] + bytes]);
        assert_eq!(told, sums, "{params:?}");
        let data = self.server.data("/loki/api/v1/index/volume", &params).await;
        let mut volumes = BTreeMap::new();
        for one in data["result"].as_array().expect("samples") {
            let app = APPS.into_iter().find(|app| one["metric"]["app"] == *app).expect("an app");
            volumes.insert(app, one["value"][1].as_str().and_then(|value| value.parse::<u64>().ok()).expect("bytes"));
        }
        let expected: BTreeMap<&str, u64> = by_app.iter().map(|(app, (_, bytes))| (*app, *bytes)).collect();
        assert_eq!(volumes, expected, "{params:?}");
        let all = [("query", "{job=\"m\"}"), ("start", "0")];
        let mut apps: Vec<&str> = self.rows.iter().map(|row| row.app).collect();
        apps.sort_unstable();
        apps.dedup();
        let told = self.server.get("/loki/api/v1/label/app/values", &all).await.ok().json();
        assert_eq!(told["data"].as_array().map_or(0, Vec::len), apps.len(), "{told}");
    }

    async fn check_context(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let row =
            self.rows[usize::try_from(number(&mut self.random, 0, self.rows.len() as i64)).expect("fits")].clone();
        let (before, after) = (number(&mut self.random, 0, 20), number(&mut self.random, 0, 20));
        let mut of_stream: Vec<&Row> = self.rows.iter().filter(|other| other.app == row.app).collect();
        of_stream.sort_by_key(|row| row.at);
        let place = of_stream.iter().position(|other| **other == row).expect("it is one of them");
        let from = place.saturating_sub(usize::try_from(before).expect("fits"));
        let to = (place + 1 + usize::try_from(after).expect("fits")).min(of_stream.len());
        let text = |rows: &[&Row]| rows.iter().map(|row| row.line.clone()).collect::<Vec<_>>();
        let selector = format!("{{app=\"{}\"}}", row.app);
        let numbers = [row.at.to_string(), before.to_string(), after.to_string()];
        let params = [
            ("query", selector.as_str()),
            ("line", &row.line),
            ("time", &numbers[0]),
            ("before", &numbers[1]),
            ("after", &numbers[2]),
        ];
        let data = self.server.data("/api/v1/logs/context", &params).await;
        let lines = |name: &str| {
            let lines = data[name].as_array().expect("lines").iter();
            lines.map(|line| line[1].as_str().expect("a line").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(data["line"][1], row.line);
        assert_eq!(lines("before"), text(&of_stream[from..place]), "{params:?}");
        assert_eq!(lines("after"), text(&of_stream[place + 1..to]), "{params:?}");
    }

    async fn step(&mut self) {
        match number(&mut self.random, 0, 40) {
            0..10 => self.push().await,
            10..14 => self.server.flush().await,
            14..17 => self.delete().await,
            17 => {
                self.server.kill();
                self.server.restart().await;
            }
            18..25 => self.check_lines().await,
            25..29 => self.check_export().await,
            29..33 => self.check_numbers().await,
            33..36 => self.check_counts().await,
            _ => self.check_context().await,
        }
    }
}

#[tokio::test]
async fn the_server_and_a_list_agree() {
    let base = (now_ms() / 60_000 - 60) * MINUTE + 20 * SECOND;
    let mut model =
        Model { server: Server::start().await, random: Random::from_env(), base, rows: Vec::new(), pushed: 0 };
    for _ in 0..STEPS {
        model.step().await;
    }
    println!("{} lines pushed, {} are left", model.pushed, model.rows.len());
    let all = Query { selector: (r#"{job="m"}"#, &APPS), filter: ("", |_| true) };
    let range = (base - SECOND, base + 200 * SECOND);
    let mut expected: Vec<(i64, String)> =
        model.expected(&all, range).into_iter().map(|row| (row.at, row.line)).collect();
    expected.sort();
    assert_eq!(model.server.lines(r#"{job="m"}"#, range, 100_000).await, expected);
}
