//! A full disk: refused with 503, survived, and over when there is space again.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::harness::metrics::series;
use super::harness::{Builder, now_ms, skip, until};

/// A small filesystem of its own; unmounted when dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one; `None` without the right to do so.
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let options = std::ffi::CString::new(format!("size={megabytes}m")).expect("no zero byte");
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str())).ok()?;
        Some(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.dir.path(), UnmountFlags::DETACH) {
            println!("unmounting {} failed: {error}", self.dir.path().display());
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_refused_with_503_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(48) else { return skip("mounting a small disk needs root") };
    let data = disk.path().join("data");
    let mut server = Builder::new().dir(&data).start().await;
    let at = now_ms() - 3_600_000;
    let mut random = super::harness::Random::new(1);
    let mut acknowledged = 0_i64;
    let mut refused = None;
    // Values without pattern, so that nothing shrinks: 8 bytes each, at least.
    for batch in 0..4_000_i64 {
        let samples: Vec<_> = (0..500).map(|i| (at + batch * 500 + i, f64::from_bits(random.next() >> 2))).collect();
        let answer = server.remote_write(vec![series(&[("__name__", "filler")], &samples)]).await;
        if answer.status / 100 != 2 {
            refused = Some(answer);
            break;
        }
        acknowledged = (batch + 1) * 500;
        if batch == 200 {
            fill(disk.path());
        }
    }
    let refused = refused.expect("a full disk refuses at some point");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    assert!(server.is_alive());
    server.get("/-/healthy", &[]).await.ok();
    let count = async |server: &super::harness::Server| server.value("count_over_time(filler[1d])", now_ms()).await;
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let least = acknowledged as f64;
    assert!(count(&server).await >= least, "what was acknowledged is there while the disk is full");

    std::fs::remove_file(disk.path().join("filler")).expect("the filler can be removed");
    let one = || vec![series(&[("__name__", "after")], &[(at, 1.0)])];
    until("the server to take data again", async || (server.remote_write(one()).await.status / 100 == 2).then_some(()))
        .await;
    server.kill();
    server.restart().await;
    assert!(count(&server).await >= least, "nothing acknowledged is lost");
    assert_eq!(server.samples("after[2h]", now_ms()).await.len(), 1);
}

#[tokio::test]
async fn a_full_disk_fails_flushes_and_deletes_of_logs_and_loses_no_line() {
    let Some(disk) = SmallDisk::mount(64) else { return skip("mounting a small disk needs root") };
    let mut server = Builder::new().dir(&disk.path().join("data")).start().await;
    let at = (now_ms() - 3_600_000) * 1_000_000;
    let mut random = super::harness::Random::new(7);
    let mut acknowledged = 0_i64;
    let mut push = async |server: &super::harness::Server, acknowledged: &mut i64| {
        // Lines without pattern, so that nothing shrinks.
        let line = |i: i64| (at + *acknowledged + i, (0..60).map(|_| format!("{:016x}", random.next())).collect());
        let lines: Vec<(i64, String)> = (0..500).map(line).collect();
        let answer = server.loki_push(&serde_json::json!({"app": "a"}), &lines).await;
        *acknowledged += if answer.status / 100 == 2 { 500 } else { 0 };
        answer
    };
    for _ in 0..16 {
        push(&server, &mut acknowledged).await.ok();
    }
    server.flush().await;
    for _ in 0..16 {
        push(&server, &mut acknowledged).await.ok();
    }
    fill(disk.path());
    let count = async |server: &super::harness::Server| {
        let params = [("query", "sum(count_over_time({app=\"a\"}[2h]))")];
        let data = server.data("/loki/api/v1/query", &params).await;
        data["result"][0]["value"][1].as_str().and_then(|count| count.parse::<i64>().ok()).unwrap_or(0)
    };
    let delete = async |server: &super::harness::Server| {
        // The first thousand lines.
        let params = [("query", "{app=\"a\"}".to_owned()), ("start", at.to_string()), ("end", (at + 999).to_string())];
        let answer = server.client().post(server.url("/loki/api/v1/delete")).query(&params).send().await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    };
    for _ in 0..2 {
        let flushed = server.post(&server.url("/api/v1/admin/flush"), &[], Vec::new()).await;
        assert!((500..600).contains(&flushed.status), "{} {}", flushed.status, flushed.text());
        let (status, text) = delete(&server).await;
        assert!(status == 503 && text.contains("no space left"), "{status} {text}");
        assert!(server.is_alive());
        assert_eq!(count(&server).await, acknowledged, "nothing is lost, nothing is deleted");
    }
    let mut refused = None;
    for _ in 0..8 {
        let answer = push(&server, &mut acknowledged).await;
        if answer.status / 100 != 2 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a full disk refuses at some point");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(count(&server).await, acknowledged);
    server.kill();
    std::fs::remove_file(disk.path().join("filler")).expect("the filler can be removed");
    server.restart().await;
    assert_eq!(count(&server).await, acknowledged, "what failed left nothing behind");
    assert_eq!(delete(&server).await, (204, String::new()));
    push(&server, &mut acknowledged).await.ok();
    server.flush().await;
    assert_eq!(count(&server).await, acknowledged - 1000);
    server.kill();
    server.restart().await;
    assert_eq!(count(&server).await, acknowledged - 1000);
}

/// Fills the disk, but for less than a megabyte.
fn fill(disk: &Path) {
    let path: PathBuf = disk.join("filler");
    let mut file = std::fs::File::create(path).expect("the filler can be made");
    let megabyte = vec![7_u8; 1 << 20];
    while std::io::Write::write_all(&mut file, &megabyte).is_ok() {}
}
