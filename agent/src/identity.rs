//! Who this host is, in the words of OpenTelemetry's semantic conventions.

use std::path::Path;

use crate::otlp::Pairs;

/// Returns `host.name`, `host.id`, `host.arch`, `os.type` and `service.instance.id` (the host's name).
///
/// `root` is where the host's `/` is.
pub(crate) fn host(root: &Path) -> Pairs {
    let read = |path: &str| {
        let text = std::fs::read_to_string(root.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let uname = rustix::system::uname();
    let of_kernel = || uname.nodename().to_string_lossy().into_owned();
    // In a container the kernel's name is the container's; the host's file has the host's.
    let name = if root == Path::new("/") { of_kernel() } else { read("etc/hostname").unwrap_or_else(of_kernel) };
    let id = read("etc/machine-id").or_else(|| read("var/lib/dbus/machine-id")).unwrap_or_default();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "x86",
        other => other,
    };
    vec![
        ("host.name".to_owned(), name.clone()),
        ("host.id".to_owned(), id),
        ("host.arch".to_owned(), arch.to_owned()),
        ("os.type".to_owned(), "linux".to_owned()),
        ("service.instance.id".to_owned(), name),
    ]
}
