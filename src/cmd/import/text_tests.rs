//! Texts, good and bad, as the store would get them.

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;

/// Returns the batches as text, and what became of them.
fn imported(text: &[u8]) -> (Vec<String>, Imported) {
    let mut batches = Vec::new();
    let imported = import(
        text,
        |batch| {
            let mut shown = String::new();
            for metadata in &batch.metadata {
                let (name, kind) = (&metadata.name, metadata.kind.as_str());
                writeln!(shown, "{name} is {kind} {:?} {:?}", metadata.help, metadata.unit).unwrap();
            }
            for row in batch.series() {
                let labels: Vec<String> = row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(shown, "{}:", labels.join(",")).unwrap();
                for (i, sample) in row.samples.iter().enumerate() {
                    let start = row.starts_ms.get(i).filter(|start| **start != 0);
                    let start = start.map_or(String::new(), |start| format!(" since {start}"));
                    write!(shown, " {}@{}{start}", sample.value, sample.timestamp_ms).unwrap();
                }
                for exemplar in row.exemplars {
                    let (labels, sample) = (&exemplar.labels, exemplar.sample);
                    write!(shown, " # {labels} {}@{}", sample.value, sample.timestamp_ms).unwrap();
                }
                shown.push('\n');
            }
            batches.push(shown);
            let mut report = AppendReport {
                accepted: batch.samples_len() as u64,
                accepted_exemplars: batch.exemplars_len() as u64,
                ..AppendReport::default()
            };
            report.reject("one_each", 1, || format!("batch {}", batches.len()));
            Ok(report)
        },
        &mut |_, _| (),
    );
    (batches, imported)
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    let (batches, imported) = imported(text.as_bytes());
    let failure = imported.failure.map_or_else(|| "whole".to_owned(), |failure| format!("{failure:#}"));
    expected.assert_eq(&format!("{}{failure}\n", batches.join("--\n")));
}

#[test]
fn samples_metadata_and_exemplars_are_gathered_by_series() {
    check(
        "# HELP a_seconds Some \\\"help\\\".\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\n\
         a_seconds{x=\"2\",b=\"\"} 1 1.5\na_seconds{x=\"1\"} 2 1.5 # {trace_id=\"t\"} 3\na_seconds{x=\"2\"} NaN 2.0005\n\
         # TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 10 # {span_id=\"s\"} 0.5 9.75\n# EOF\n",
        expect![[r#"
            a_seconds is gauge "Some \"help\"." "seconds"
            h is histogram "" ""
            __name__=a_seconds,x=2: 1@1500 NaN@2001
            __name__=a_seconds,x=1: 2@1500 # {trace_id="t"} 3@1500
            __name__=h_bucket,le=+Inf: 1@10000 # {span_id="s"} 0.5@9750
            whole
        "#]],
    );
}

#[test]
fn created_samples_tell_the_start_of_those_beside_them() {
    check(
        "# TYPE c counter\nc_created{a=\"1\"} 0.5 1\nc_total{a=\"1\"} 5 1\nc_total{a=\"2\"} 6 1\nc_created{a=\"2\"} 0.75 1\n\
         c_total{a=\"1\"} 7 2\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 3\nh_count 1 3\nh_created 2.5 3\nh_sum 1 3\n\
         # TYPE g gauge\ng 1 3\ng_created 2 3\n# TYPE d counter\nd_total 1 3\nd_created 4 3\n# EOF\n",
        expect![[r#"
            c is counter "" ""
            h is histogram "" ""
            g is gauge "" ""
            d is counter "" ""
            __name__=c_created,a=1: 0.5@1000
            __name__=c_total,a=1: 5@1000 since 500 7@2000
            __name__=c_total,a=2: 6@1000 since 750
            __name__=c_created,a=2: 0.75@1000
            __name__=h_bucket,le=+Inf: 1@3000 since 2500
            __name__=h_count: 1@3000 since 2500
            __name__=h_created: 2.5@3000
            __name__=h_sum: 1@3000 since 2500
            __name__=g: 1@3000
            __name__=g_created: 2@3000
            __name__=d_total: 1@3000
            __name__=d_created: 4@3000
            whole
        "#]],
    );
}

#[test]
fn faults_are_told_with_their_line_and_what_came_before_is_kept() {
    for (text, kept, expected) in [
        ("a 1 1\nb{x=\"1\"} 2\nc 1 1\n# EOF\n", 1, "line 2: expected timestamp for series b{x=\"1\"}, got none"),
        ("a 1 1\nb{x=\"1\" 2 2\n", 1, "line 2: expected ',' or '}', got \"2 2\""),
        ("a 1 1\na 2 2\n", 2, "line 3: data does not end with # EOF"),
        ("a 1 1\n# EOF\na 2 2\n", 1, "line 3: unexpected data after # EOF"),
        ("# UNIT a_bytes seconds\n# EOF\n", 0, "line 1: unit \"seconds\" not a suffix of metric \"a_bytes\""),
        ("# TYPE a cuonter\n# EOF\n", 0, "line 1: invalid metric type \"cuonter\""),
        ("a 1 NaN\n# EOF\n", 0, "line 1: expected timestamp, got \"NaN\""),
        ("", 0, "line 1: data does not end with # EOF"),
        ("\n# EOF\n\n", 0, "whole"),
    ] {
        let (_, imported) = imported(text.as_bytes());
        let failure = imported.failure.map_or_else(|| "whole".to_owned(), |failure| format!("{failure:#}"));
        assert_eq!((failure.as_str(), imported.report.accepted), (expected, kept), "{text}");
    }
    let (_, no_text) = imported(b"a 1 1\n\xff\n");
    assert!(format!("{:#}", no_text.failure.unwrap()).starts_with("line 2: expected UTF-8: "));
    let long = format!("a 1 1\na{{x=\"{}\"}} 1 1\n# EOF\n", "y".repeat(LINE_BYTES_MAX));
    let (_, too_long) = imported(long.as_bytes());
    assert_eq!(
        format!("{:#}", too_long.failure.unwrap()),
        "line 2: expected a line of at most 1048576 bytes, got a longer one"
    );
    assert_eq!(too_long.report.accepted, 1);
}

#[test]
fn batches_are_small_and_do_not_part_what_belongs_together() {
    let mut text = String::from("# TYPE c counter\n");
    for i in 0..6_000 {
        write!(text, "c_total{{a=\"{}\"}} {i} {}\nc_created{{a=\"{}\"}} 1 {}\n", i % 7, i + 10, i % 7, i + 10).unwrap();
    }
    text.push_str("# EOF\n");
    let (batches, imported) = imported(text.as_bytes());
    assert_eq!(batches.len(), 3);
    let starts: usize = batches.iter().map(|batch| batch.matches(" since 1000").count()).sum();
    assert_eq!(starts, 6_000);
    assert_eq!((imported.report.accepted, imported.series()), (12_000, (14, false)));
    assert_eq!(imported.report.rejections.len(), 1);
    assert_eq!((imported.report.rejected(), imported.report.rejections[0].detail.as_str()), (3, "batch 1"));
    assert!(imported.failure.is_none());
}

#[test]
fn a_store_that_fails_ends_the_import() {
    let imported = import(&b"a 1 1\n# EOF\n"[..], |_| Err(anyhow!("no room")), &mut |_, _| ());
    assert_eq!(imported.failure.unwrap().to_string(), "no room");
    assert_eq!(imported.report.accepted, 0);
}
