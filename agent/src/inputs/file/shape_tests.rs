//! Shapes of real and invented lines.

use expect_test::{Expect, expect};

use super::*;

/// 2026-11-21T10:00:00Z
const NOW: i64 = 1_795_255_200_000_000_000;

#[track_caller]
fn check(line: &str, expected: Expect) {
    let Shape { time, severity, .. } = shape(line.as_bytes(), NOW);
    let time = time.map_or("-".to_owned(), |time| chrono::DateTime::from_timestamp_nanos(time).to_rfc3339());
    let severity = severity.map_or("-".to_owned(), |s| format!("{} {}", s.number, s.text));
    expected.assert_eq(&format!("{time} {severity}"));
}

#[test]
fn times_with_a_zone() {
    check("2024-01-02T03:04:05.678901234Z hello", expect!["2024-01-02T03:04:05.678901234+00:00 -"]);
    check("2024-01-02T03:04:05+09:00 host app[1]: x", expect!["2024-01-01T18:04:05+00:00 -"]);
    check("[2024-01-02 03:04:05.5 -0300] ERROR x", expect!["2024-01-02T06:04:05.500+00:00 17 ERROR"]);
    check(r#"1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1"#, expect!["2000-10-10T20:55:36+00:00 -"]);
    check(
        "<34>1 2003-10-11T22:14:15.003Z mymachine su - ID47 - x",
        expect!["2003-10-11T22:14:15.003+00:00 18 CRITICAL"],
    );
}

#[test]
fn klog_and_levels_behind_a_time() {
    assert_eq!(shape(b"I0507 11:58:40.922514       1 a.go:1] x", NOW).severity.unwrap().text, "INFO");
    assert_eq!(shape(b"E0507 11:58:40.922514       1 a.go:1] x", NOW).severity.unwrap().number, 17);
    assert_eq!(shape(b"E0507 is not a time", NOW), Shape::default());
    check("2024-01-02T03:04:05Z WARN [main] x", expect!["2024-01-02T03:04:05+00:00 13 WARN"]);
    check("2024-01-02T03:04:05Z | DEBUG | x", expect!["2024-01-02T03:04:05+00:00 5 DEBUG"]);
    check("2024-01-02T03:04:05Z an error occurred", expect!["2024-01-02T03:04:05+00:00 -"]);
    check("ERROR: it broke", expect!["- 17 ERROR"]);
    check("the ERROR is gone", expect!["- -"]);
    check("[notice] x", expect!["- 10 NOTICE"]);
}

#[test]
fn json_and_logfmt_keys() {
    check(r#"{"level":"warn","ts":1704164645.25,"msg":"x"}"#, expect!["2024-01-02T03:04:05.250+00:00 13 WARN"]);
    check(r#"{"time":"2024-01-02T03:04:05Z","severity":"Error"}"#, expect!["2024-01-02T03:04:05+00:00 17 ERROR"]);
    check(
        r#"{"level":30,"time":1704164645250,"a":{"level":"fatal"}}"#,
        expect!["2024-01-02T03:04:05.250+00:00 9 INFO"],
    );
    check(r#"{"level":[],"time":{},"ts":-5}"#, expect!["- -"]);
    check(r#"{"level":"info""#, expect!["- -"]);
    check(
        r#"ts=2024-01-02T03:04:05Z caller=a.go:1 level=error msg="x""#,
        expect!["2024-01-02T03:04:05+00:00 17 ERROR"],
    );
    check(r#"sublevel=error level="debug" msg=x"#, expect!["- 5 DEBUG"]);
}

#[test]
fn traces_are_told() {
    let ids = |line: &str| {
        let shape = shape(line.as_bytes(), NOW);
        (shape.trace_id.map(|id| id[15]), shape.span_id.map(|id| id[0]))
    };
    let trace = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(ids(&format!(r#"{{"trace_id":"{trace}","span_id":"b7ad6b7169203331"}}"#)), (Some(0x9c), Some(0xb7)));
    assert_eq!(ids(&format!("level=info traceID={trace} msg=x")), (Some(0x9c), None));
    assert_eq!(ids(&format!(r#"{{"trace_id":"{}","span_id":"xyz"}}"#, "0".repeat(32))), (None, None));
    assert_eq!(ids(r#"{"trace_id":"한글0af7651916cd43dd8448eb211c80","span_id":7}"#), (None, None));
}

#[test]
fn syslog_gets_the_latest_year_that_is_not_ahead() {
    let year = |line: &str| {
        let time = shape(line.as_bytes(), NOW).time.unwrap();
        chrono::DateTime::from_timestamp_nanos(time).with_timezone(&chrono::Local).year()
    };
    assert_eq!(year("Nov 20 09:31:14 host sshd[1]: x"), 2026);
    assert_eq!(year("Nov  3 09:31:14 host sshd[1]: x"), 2026);
    assert_eq!(year("Dec 24 09:31:14 host sshd[1]: x"), 2025);
    assert_eq!(year("Feb 29 09:31:14 host sshd[1]: x"), 2024);
}

#[test]
fn what_is_no_time_is_none() {
    for line in [
        "",
        "2024-13-02T03:04:05Z x",
        "2024-01-02T25:04:05Z x",
        "2024-01-02",
        "9999-01-02T03:04:05Z from the future",
        "1970-01-02T03:04:05Z too old to be true",
        "Foo 21 09:31:14 x",
        "\u{feff}{\"level\":1}",
        "2024-01-0",
        "한글 로그",
        "<999>x",
        "[",
        "{",
    ] {
        assert_eq!(shape(line.as_bytes(), NOW).time, None, "{line}");
    }
}

#[test]
fn real_lines_are_told() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/logs");
    if !dir.is_dir() {
        println!("skipped: {} is missing", dir.display());
        return;
    }
    let mut table = String::new();
    for name in [
        "Apache_2k.log",
        "HDFS_2k.log",
        "Linux_2k.log",
        "OpenSSH_2k.log",
        "OpenStack_2k.log",
        "Spark_2k.log",
        "agent-logfmt.txt",
        "distributor-logfmt.txt",
        "drone-json.txt",
        "kafka.txt",
        "kubernetes.txt",
        "nginx_access.log",
    ] {
        let bytes = std::fs::read(dir.join(name)).unwrap();
        let (mut lines, mut times, mut levels) = (0, 0, 0);
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let shape = shape(line, NOW);
            lines += 1;
            times += usize::from(shape.time.is_some());
            levels += usize::from(shape.severity.is_some());
        }
        table.push_str(&format!("{name}: {lines} lines, {times} times, {levels} levels\n"));
    }
    expect![[r#"
        Apache_2k.log: 2000 lines, 2000 times, 2000 levels
        HDFS_2k.log: 2000 lines, 0 times, 2000 levels
        Linux_2k.log: 2000 lines, 2000 times, 43 levels
        OpenSSH_2k.log: 2000 lines, 2000 times, 0 levels
        OpenStack_2k.log: 2000 lines, 0 times, 2000 levels
        Spark_2k.log: 2000 lines, 0 times, 2000 levels
        agent-logfmt.txt: 1000 lines, 1000 times, 1000 levels
        distributor-logfmt.txt: 5000 lines, 5000 times, 5000 levels
        drone-json.txt: 210 lines, 210 times, 210 levels
        kafka.txt: 1000 lines, 1000 times, 1000 levels
        kubernetes.txt: 1000 lines, 1000 times, 1000 levels
        nginx_access.log: 8000 lines, 8000 times, 0 levels
    "#]]
    .assert_eq(&table);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), now: i64) {
        let shape = shape(&line, now);
        proptest::prop_assert!(shape.severity.is_none_or(|s| (1..=24).contains(&s.number)));
    }

    #[test]
    fn no_near_miss_panics(line in r"[\[<{IE]?[0-9]{0,4}[-/ ]?(Nov|Sun )?[0-9 :T.,Z+-]{0,30}(level=)?[A-Za-z\[\]:]{0,8}") {
        shape(line.as_bytes(), NOW);
    }
}
