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

/// Fills the disk, but for less than a megabyte.
fn fill(disk: &Path) {
    let path: PathBuf = disk.join("filler");
    let mut file = std::fs::File::create(path).expect("the filler can be made");
    let megabyte = vec![7_u8; 1 << 20];
    while std::io::Write::write_all(&mut file, &megabyte).is_ok() {}
}
