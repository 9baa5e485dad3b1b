//! Deletes and snapshots by the admin API, with kills in between.

use std::collections::BTreeMap;
use std::path::Path;

use super::harness::metrics::{seconds, series};
use super::harness::{Answer, Builder, Random, Server, logs, now_ms};

/// How often the server is killed.
const KILLS: u32 = 12;

async fn admin(server: &Server, path: &str) -> Answer {
    let url = server.url(&format!("/api/v1/admin/tsdb/{path}"));
    server.post(&url, &[], Vec::new()).await
}

async fn write(server: &Server, metric: &str, samples: &[(i64, f64)]) {
    server.remote_write(vec![series(&[("__name__", metric), ("job", "t")], samples)]).await.ok();
}

/// Returns the samples of each metric, by its name.
async fn all(server: &Server, end_ms: i64) -> BTreeMap<String, Vec<(i64, f64)>> {
    server.samples("{job=\"t\"}[1d]", end_ms).await
}

#[tokio::test]
async fn deleted_series_are_gone_and_their_room_is_freed() {
    let mut server = Server::start().await;
    let now = now_ms();
    for metric in ["keep", "part", "gone"] {
        write(&server, metric, &[(now - 3000, 1.0), (now - 2000, 2.0), (now - 1000, 3.0)]).await;
    }
    let answer = admin(&server, "delete_series?match[]=gone&match[]=%7Bx%3D%22none%22%7D").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    let part = format!("delete_series?match[]=part&start={}&end={}", seconds(now - 2500), seconds(now - 1500));
    assert_eq!(admin(&server, &part).await.status, 204);
    let expected = "[\"keep\",\"part\"]";
    for step in ["deleted", "killed", "cleaned", "opened"] {
        let found = all(&server, now).await;
        assert_eq!(found.values().map(Vec::len).collect::<Vec<_>>(), [3, 2], "{step}: {found:?}");
        assert_eq!(
            server.data("/api/v1/label/__name__/values", &[("match[]", "{job=\"t\"}")]).await.to_string(),
            expected
        );
        match step {
            "deleted" => {
                server.kill();
                server.restart().await;
            }
            "killed" => {
                assert_eq!(admin(&server, "clean_tombstones").await.status, 204);
                assert!(!server.complaints().contains("error"), "{}", server.complaints());
            }
            _ => {
                server.stop().await;
                server.restart().await;
            }
        }
    }
    let answer = admin(&server, "delete_series").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (400, r#"{"status":"error","errorType":"bad_data","error":"no match[] parameter provided"}"#)
    );
}

/// The server is killed again and again while samples come and are deleted. What was acknowledged holds; of the request
/// that was on its way either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_deletes_and_samples_hold_over_kill_9() {
    let mut random = Random::from_env();
    let mut server = Builder::new().flag("metrics-head-bytes", "1MiB").start().await;
    let base = now_ms() - 1_000_000;
    let mut expected: BTreeMap<i64, f64> = BTreeMap::new();
    for round in 0..KILLS {
        for step in 0..10_u32 {
            let at = base + i64::try_from(random.between(0, 1_000)).expect("fits") * 100;
            if step % 3 < 2 {
                let samples: Vec<_> = (0..50).map(|i| (at + i, f64::from(round * 100 + step))).collect();
                write(&server, "m", &samples).await;
                expected.extend(samples);
            } else {
                let (from, to) = (at, at + 20_000);
                let range = format!("start={}.{:03}&end={}.{:03}", from / 1000, from % 1000, to / 1000, to % 1000);
                admin(&server, &format!("delete_series?match[]=m&{range}")).await.ok();
                expected.retain(|at, _| !(from..=to).contains(at));
            }
        }
        // Something is on its way while the server dies.
        let url = server.url(["/api/v1/admin/tsdb/clean_tombstones", "/api/v1/admin/flush"][round as usize % 2]);
        let dying = server.client().post(url).send();
        let dying = tokio::spawn(dying);
        tokio::time::sleep(std::time::Duration::from_millis(random.between(0, 30))).await;
        server.kill();
        // It may have been answered or not.
        drop(dying.await);
        server.restart().await;
        let found = all(&server, base + 1_000_000).await;
        let found: BTreeMap<i64, f64> = found.into_values().flatten().collect();
        assert_eq!(found, expected, "round {round}");
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_server_starts_on_a_snapshot() {
    let server = Server::start().await;
    let now = now_ms();
    write(&server, "old", &[(now - 5000, 1.0), (now - 4000, 1.0)]).await;
    server.flush().await;
    write(&server, "new", &[(now - 1000, 2.0)]).await;
    let lines = [(now * 1_000_000, "a line".to_owned())];
    let pushed = logs::loki_json(&serde_json::json!({"service_name": "t"}), &lines);
    server.post(&server.url("/loki/api/v1/push"), &[("content-type", "application/json")], pushed).await.ok();
    let snapshot = async |path: &str| {
        let answer = admin(&server, path).await.ok().json();
        assert_eq!(answer["status"], "success");
        answer["data"]["name"].as_str().expect("a name").to_owned()
    };
    let old = snapshot("snapshot?skip_head=true").await;
    admin(&server, "delete_series?match[]=old&end=0").await.ok();
    let part = format!("delete_series?match[]=old&start={}", seconds(now - 4500));
    admin(&server, &part).await.ok();
    let whole = snapshot("snapshot").await;
    assert_eq!(names_in(&server.dir().join("snapshots")), {
        let mut names = [old.clone(), whole.clone()];
        names.sort();
        names
    });
    // The server goes on, and changes what it has.
    admin(&server, "delete_series?match[]=%7Bjob%3D%22t%22%7D").await.ok();
    admin(&server, "clean_tombstones").await.ok();
    for (name, expected, logs) in [(&old, "old 2", 0), (&whole, "new 1, old 1", 1)] {
        let dir = server.dir().join("snapshots").join(name);
        let copy = Builder::new().dir(&dir).start().await;
        let found = all(&copy, now).await;
        let found: Vec<String> = found
            .iter()
            .map(|(labels, samples)| format!("{} {}", labels.split('{').next().unwrap_or(""), samples.len()))
            .collect();
        assert_eq!(found.join(", "), expected);
        let range = ((now - 60_000) * 1_000_000, (now + 60_000) * 1_000_000);
        assert_eq!(copy.all_lines("{service_name=\"t\"}", range).await.len(), logs);
        admin(&copy, "clean_tombstones").await.ok();
        assert_eq!(all(&copy, now).await.len(), found.len());
    }
    assert!(all(&server, now).await.is_empty());
}
