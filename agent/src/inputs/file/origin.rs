//! Who wrote a log file, as far as its path tells.

use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::config::Format;
use crate::otlp::{Pairs, attribute, resource};

/// What all records of a file share.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origin {
    /// The emitter.
    pub(crate) resource: Resource,
    /// `log.file.path` and `log.file.name`.
    pub(crate) attributes: Vec<KeyValue>,
    /// The frame of its lines, where the path tells it.
    pub(crate) format: Format,
}

/// Longest description of a Docker container that is read.
const DOCKER_CONFIG_BYTES_MAX: u64 = 4 << 20;

/// Returns the origin of the file at `path`; `base` are the host's attributes, `extra` those of the settings.
pub(crate) fn origin(path: &Path, base: &Pairs, extra: &Pairs) -> Origin {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (pairs, format) = kubernetes_pod(path)
        .or_else(|| kubernetes_link(&name, path))
        .map(|pairs| (pairs, Format::Auto))
        .or_else(|| docker(path, &name).map(|pairs| (pairs, Format::Docker)))
        .unwrap_or_else(|| (vec![("service.name".to_owned(), stem(&name).to_owned())], Format::Auto));
    let all = base.iter().chain(&pairs).chain(extra);
    let attributes =
        vec![attribute("log.file.path", path.to_string_lossy()), attribute("log.file.name", name.as_str())];
    Origin { resource: resource(all.map(|(key, value)| (key.as_str(), value.as_str()))), attributes, format }
}

/// Returns the name of a log without what rotation and habit append: `nginx` for `nginx.log.2.gz` or `nginx-20240131.log`.
pub(super) fn stem(name: &str) -> &str {
    let mut stem = name;
    loop {
        let Some((front, last)) = stem.rsplit_once(['.', '-', '_']) else { return stem };
        let is_number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
        let is_suffix = matches!(last, "log" | "txt" | "out" | "json" | "gz" | "old" | "bak");
        let cut_at_dot = stem.as_bytes().get(front.len()) == Some(&b'.');
        if front.is_empty() || !(is_number || is_suffix && cut_at_dot) {
            return stem;
        }
        stem = front;
    }
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn container(namespace: &str, pod: &str, name: &str) -> Pairs {
    vec![
        pair("service.name", name),
        pair("service.namespace", namespace),
        (String::from("service.instance.id"), format!("{namespace}.{pod}.{name}")),
        pair("k8s.namespace.name", namespace),
        pair("k8s.pod.name", pod),
        pair("k8s.container.name", name),
    ]
}

/// Reads `…/pods/<namespace>_<pod>_<uid>/<container>/<restarts>.log`.
fn kubernetes_pod(path: &Path) -> Option<Pairs> {
    let parts: Vec<&str> = path.iter().rev().take(4).filter_map(|part| part.to_str()).collect();
    let [file, name, pod, "pods"] = parts.as_slice() else { return None };
    let mut ids = pod.split('_');
    let (Some(namespace), Some(pod), Some(uid), None) = (ids.next(), ids.next(), ids.next(), ids.next()) else {
        return None;
    };
    let mut pairs = container(namespace, pod, name);
    pairs.push(pair("k8s.pod.uid", uid));
    let restarts = file.split('.').next().filter(|number| number.parse::<u32>().is_ok());
    if let Some(restarts) = restarts {
        pairs.push(pair("k8s.container.restart_count", restarts));
    }
    Some(pairs)
}

/// Reads `…/containers/<pod>_<namespace>_<container>-<id>.log`, and what it links to.
fn kubernetes_link(name: &str, path: &Path) -> Option<Pairs> {
    if path.parent()?.file_name()? != "containers" {
        return None;
    }
    let (pod, rest) = name.strip_suffix(".log")?.split_once('_')?;
    let (namespace, rest) = rest.split_once('_')?;
    let (container_name, id) = rest.rsplit_once('-')?;
    let mut pairs = container(namespace, pod, container_name);
    pairs.push(pair("container.id", id));
    if let Some(target) = std::fs::read_link(path).ok().and_then(|target| kubernetes_pod(&target)) {
        pairs
            .extend(target.into_iter().filter(|(key, _)| key == "k8s.pod.uid" || key == "k8s.container.restart_count"));
    }
    Some(pairs)
}

/// Reads `…/containers/<id>/<id>-json.log` and Docker's description beside it.
fn docker(path: &Path, name: &str) -> Option<Pairs> {
    let dir = path.parent()?;
    let id = dir.file_name()?.to_str()?;
    if !name.strip_prefix(id)?.starts_with("-json.log") {
        return None;
    }
    let short = id.get(..12).unwrap_or(id);
    let mut pairs = vec![pair("service.name", short), pair("service.instance.id", short), pair("container.id", id)];
    let description = dir.join("config.v2.json");
    let readable = std::fs::metadata(&description).is_ok_and(|meta| meta.len() <= DOCKER_CONFIG_BYTES_MAX);
    let json = readable.then(|| std::fs::read(&description).ok()).flatten();
    let json: Option<serde_json::Value> = json.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(json) = json {
        let text = |pointer: &str| json.pointer(pointer).and_then(serde_json::Value::as_str);
        if let Some(name) = text("/Name") {
            pairs.push(pair("container.name", name.trim_start_matches('/')));
            let service = text("/Config/Labels/com.docker.compose.service")
                .or_else(|| text("/Config/Labels/com.docker.swarm.service.name"));
            pairs.push(pair("service.name", service.unwrap_or(name.trim_start_matches('/'))));
        }
        if let Some(image) = text("/Config/Image") {
            pairs.push(pair("container.image.name", image));
        }
    }
    Some(pairs)
}

/// Returns the path that a file should be known by, of several that lead to it: the one whose folders tell most.
pub(crate) fn better(a: PathBuf, b: PathBuf) -> PathBuf {
    let rank = |path: &Path| u8::from(kubernetes_pod(path).is_none());
    if (rank(&b), b.as_os_str().len(), &b) < (rank(&a), a.as_os_str().len(), &a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: expect_test::Expect) {
        let base = vec![pair("host.name", "h"), pair("service.instance.id", "h")];
        let origin = origin(Path::new(path), &base, &Vec::new());
        let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => format!("{}={text}", attribute.key),
            _ => panic!("text"),
        };
        let lines: Vec<String> = origin.resource.attributes.iter().map(text).collect();
        expected.assert_eq(&lines.join(" "));
    }

    #[test]
    fn a_plain_file_is_named_by_its_stem() {
        for (name, expected) in [
            ("nginx.log", "nginx"),
            ("nginx.log.2.gz", "nginx"),
            ("app-20240131.log", "app"),
            ("app.2024-01-31.log", "app"),
            ("syslog", "syslog"),
            ("my-app_x.json", "my-app_x"),
            (".log", ".log"),
            ("1.log", "1"),
        ] {
            assert_eq!(stem(name), expected, "{name}");
        }
    }

    #[test]
    fn paths_tell_pods_and_containers() {
        check("/var/log/app.log", expect_test::expect!["host.name=h service.instance.id=h service.name=app"]);
        check(
            "/var/log/pods/shop_cart-7d9f-x2_0a1b-2c/web/3.log",
            expect_test::expect![
                "host.name=h service.instance.id=shop.cart-7d9f-x2.web service.name=web service.namespace=shop k8s.namespace.name=shop k8s.pod.name=cart-7d9f-x2 k8s.container.name=web k8s.pod.uid=0a1b-2c k8s.container.restart_count=3"
            ],
        );
        check(
            "/var/log/containers/cart-7d9f-x2_shop_web-side-0123abc.log",
            expect_test::expect![
                "host.name=h service.instance.id=shop.cart-7d9f-x2.web-side service.name=web-side service.namespace=shop k8s.namespace.name=shop k8s.pod.name=cart-7d9f-x2 k8s.container.name=web-side container.id=0123abc"
            ],
        );
        check(
            "/var/lib/docker/containers/0123456789abcdef/0123456789abcdef-json.log",
            expect_test::expect![
                "host.name=h service.instance.id=0123456789ab service.name=0123456789ab container.id=0123456789abcdef"
            ],
        );
    }
}
