//! What an agent does: which inputs it reads, where it sends, how much it keeps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of one agent. The default works with no file: host metrics, the usual log files and the journal, sent to
/// `http://127.0.0.1:4317`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// OTLP/gRPC endpoint, ours or any other collector's: `http://host:port`.
    pub endpoint: String,
    /// Directory for the disk buffer and the checkpoints.
    pub state_dir: PathBuf,
    /// Headers sent with each request, such as `authorization`. Values are secret.
    pub headers: BTreeMap<String, String>,
    /// Attributes added to every resource.
    pub resource: BTreeMap<String, String>,
    /// Host metrics.
    pub host: HostConfig,
    /// Prometheus targets.
    pub scrape: ScrapeConfig,
    /// Log files.
    pub file: FileConfig,
    /// The systemd journal.
    pub journald: JournaldConfig,
    /// The disk buffer.
    pub buffer: BufferConfig,
    /// How batches are sent.
    pub sender: SenderConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:4317".to_owned(),
            state_dir: PathBuf::from("data/agent"),
            headers: BTreeMap::new(),
            resource: BTreeMap::new(),
            host: HostConfig::default(),
            scrape: ScrapeConfig::default(),
            file: FileConfig::default(),
            journald: JournaldConfig::default(),
            buffer: BufferConfig::default(),
            sender: SenderConfig::default(),
        }
    }
}

/// Settings of the host metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Whether host metrics are read.
    pub enabled: bool,
    /// Time between two readings.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Where the host's `/proc` is; `/host/proc` in a container.
    pub proc_path: PathBuf,
    /// Where the host's `/sys` is.
    pub sys_path: PathBuf,
    /// Where the host's `/` is; mount points are looked up below it.
    pub root_path: PathBuf,
    /// `service.name` of host metrics, which becomes the label `job`.
    pub service_name: String,
    /// Filesystem types that hold no data of their own and are left out.
    pub exclude_filesystem_types: Vec<String>,
    /// Mount points that are left out, with all below them.
    pub exclude_mount_points: Vec<String>,
    /// Beginnings of the names of block devices that are left out.
    pub exclude_disks: Vec<String>,
    /// Beginnings of the names of network interfaces that are left out.
    pub exclude_interfaces: Vec<String>,
}

impl Default for HostConfig {
    fn default() -> Self {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            proc_path: PathBuf::from("/proc"),
            sys_path: PathBuf::from("/sys"),
            root_path: PathBuf::from("/"),
            service_name: "host".to_owned(),
            exclude_filesystem_types: words(
                "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs \
                 mqueue nsfs overlay proc procfs pstore ramfs rpc_pipefs securityfs selinuxfs squashfs sysfs tmpfs tracefs",
            ),
            exclude_mount_points: words("/dev /proc /sys /var/lib/docker /var/lib/containers /var/lib/kubelet/pods"),
            exclude_disks: words("loop ram zram"),
            exclude_interfaces: words("veth"),
        }
    }
}

/// Settings of scraping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeConfig {
    /// The targets.
    pub targets: Vec<Target>,
    /// Longest body of one answer, after decompression; a longer one fails the scrape. A page of 100,000 series has
    /// some 15 MB.
    pub body_bytes_max: u64,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self { targets: Vec::new(), body_bytes_max: 32 << 20 }
    }
}

/// One Prometheus target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Where its metrics are: `http://host:port/metrics`.
    pub url: String,
    /// The label `job`.
    pub job: String,
    /// The label `instance`; `host:port` of the URL when not given.
    #[serde(default)]
    pub instance: Option<String>,
    /// Time between two scrapes.
    #[serde(default = "default_interval", with = "duration")]
    pub interval: Duration,
    /// Longest time of one scrape; never more than the interval.
    #[serde(default = "default_timeout", with = "duration")]
    pub timeout: Duration,
    /// Labels added to each sample.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether a scraped label wins over the target's own; else it is kept as `exported_<name>`.
    #[serde(default)]
    pub honor_labels: bool,
    /// Whether timestamps on the page are used.
    #[serde(default = "yes")]
    pub honor_timestamps: bool,
}

fn default_interval() -> Duration {
    Duration::from_secs(15)
}
fn default_timeout() -> Duration {
    Duration::from_secs(10)
}
fn yes() -> bool {
    true
}

/// Where reading begins in a file that was there before the agent's first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// At its first byte.
    #[default]
    Beginning,
    /// At its end: only what is written from now on.
    End,
}

/// Settings of the log files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// Whether files are read.
    pub enabled: bool,
    /// Paths with `*`, `?`, `[a-z]`, `{a,b}` and `**`.
    pub include: Vec<String>,
    /// Paths that are left out.
    pub exclude: Vec<String>,
    /// Where reading begins in files that are there at the first start; files that appear later are read whole.
    pub start_at: StartAt,
    /// Files last written longer ago than this are not read at the first start; 0 reads files of any age.
    #[serde(with = "duration")]
    pub ignore_older_than: Duration,
    /// How the lines are framed.
    pub format: Format,
    /// Time between two looks at a file that changes.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
    /// Time between two looks for new files; longer when the looking itself takes long.
    #[serde(with = "duration")]
    pub discover_interval: Duration,
    /// How long a last line without newline is waited for.
    #[serde(with = "duration")]
    pub flush_timeout: Duration,
    /// How long a renamed or deleted file that was read to its end stays open for a late writer.
    #[serde(with = "duration")]
    pub rotate_wait: Duration,
    /// Longest line; the rest of a longer one is left out and counted.
    pub line_bytes_max: usize,
    /// Most files known at a time; the least recently written are left out and counted.
    pub files_max: usize,
    /// Most files open at a time; the others take turns.
    pub open_files_max: usize,
}

impl Default for FileConfig {
    fn default() -> Self {
        let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        Self {
            enabled: true,
            include: list(&[
                "/var/log/**/*.log",
                "/var/log/{syslog,messages,secure,maillog,cron}",
                "/var/lib/docker/containers/*/*-json.log",
            ]),
            exclude: list(&["**/*.{gz,xz,zst,bz2,zip,journal}"]),
            start_at: StartAt::Beginning,
            ignore_older_than: Duration::ZERO,
            format: Format::Auto,
            poll_interval: Duration::from_millis(250),
            discover_interval: Duration::from_secs(1),
            flush_timeout: Duration::from_secs(5),
            rotate_wait: Duration::from_secs(5),
            line_bytes_max: 1 << 20,
            files_max: 100_000,
            open_files_max: 4096,
        }
    }
}

/// How the lines of a file are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Told from the path and from each line.
    #[default]
    Auto,
    /// Lines as they are.
    Plain,
    /// What container runtimes write for Kubernetes: `time stream flags text`.
    Cri,
    /// What Docker's json-file driver writes: `{"log":…,"stream":…,"time":…}`.
    Docker,
}

/// Settings of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournaldConfig {
    /// Whether the journal is read, where there is one.
    pub enabled: bool,
    /// The program that prints it.
    pub command: PathBuf,
    /// Directories to look for a journal in; the first one that holds files is read.
    pub directories: Vec<PathBuf>,
    /// Where reading begins at the first start: at the beginning of this boot, or now.
    pub start_at: StartAt,
}

impl Default for JournaldConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            command: PathBuf::from("journalctl"),
            directories: vec![PathBuf::from("/var/log/journal"), PathBuf::from("/run/log/journal")],
            start_at: StartAt::Beginning,
        }
    }
}

/// Settings of the disk buffer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BufferConfig {
    /// Most bytes on disk, three quarters for logs. When full, reading of logs stops and new metrics are dropped.
    pub bytes_max: u64,
    /// Most bytes of one batch before encoding.
    pub batch_bytes: usize,
    /// Longest time that a log record waits for its batch to fill.
    #[serde(with = "duration")]
    pub batch_wait: Duration,
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self { bytes_max: 1 << 30, batch_bytes: 1 << 20, batch_wait: Duration::from_millis(250) }
    }
}

/// How batches are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SenderConfig {
    /// Compression of requests.
    pub compression: Compression,
    /// Longest time of one attempt.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// First wait after a failure; doubled with each further one.
    #[serde(with = "duration")]
    pub backoff_min: Duration,
    /// Longest wait between two attempts.
    #[serde(with = "duration")]
    pub backoff_max: Duration,
    /// Longest time that the buffer is sent on at shutdown; the rest stays on disk.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            compression: Compression::Gzip,
            timeout: Duration::from_secs(15),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Compression of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None.
    None,
    /// gzip, which every OTLP receiver knows.
    #[default]
    Gzip,
}

/// Least size of the disk buffer: the largest record must fit into the part for logs.
const BUFFER_BYTES_MIN: u64 = 64 << 20;

impl Config {
    /// Adds the server's own `/metrics` to the targets, unless it is one already.
    pub fn scrape_self(&mut self, url: &str) {
        if self.scrape.targets.iter().any(|target| target.url == url) {
            return;
        }
        self.scrape.targets.push(Target {
            url: url.to_owned(),
            job: "daybook".to_owned(),
            instance: None,
            interval: default_interval(),
            timeout: default_timeout(),
            labels: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
        });
    }

    /// Returns all that is wrong with the settings, one sentence each; empty when they can be run with.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, text: String| {
            if !ok {
                problems.push(text);
            }
        };
        check(
            tonic::transport::Endpoint::from_shared(self.endpoint.clone()).is_ok()
                && self.endpoint.starts_with("http://"),
            format!("endpoint {:?} is no URL such as http://127.0.0.1:4317", self.endpoint),
        );
        for (name, wait) in [
            ("host.interval", self.host.interval),
            ("file.poll_interval", self.file.poll_interval),
            ("file.discover_interval", self.file.discover_interval),
            ("sender.timeout", self.sender.timeout),
            ("sender.backoff_min", self.sender.backoff_min),
        ] {
            check(!wait.is_zero(), format!("{name} must be more than 0"));
        }
        check(self.file.line_bytes_max >= 64, "file.line_bytes_max must be 64 or more".to_owned());
        check(self.file.line_bytes_max <= 2 << 20, "file.line_bytes_max must be 2097152 or less".to_owned());
        check(self.file.open_files_max > 0, "file.open_files_max must be more than 0".to_owned());
        check(
            self.buffer.bytes_max >= BUFFER_BYTES_MIN,
            format!("buffer.bytes_max must be {BUFFER_BYTES_MIN} or more"),
        );
        check(
            (1024..=2 << 20).contains(&self.buffer.batch_bytes),
            "buffer.batch_bytes must be between 1024 and 2097152".to_owned(),
        );
        check(
            self.sender.backoff_max >= self.sender.backoff_min,
            "sender.backoff_max must not be less than sender.backoff_min".to_owned(),
        );
        for glob in self.file.include.iter().chain(&self.file.exclude) {
            if let Err(error) = crate::inputs::file::glob::Glob::new(glob) {
                check(false, error.to_string());
            }
        }
        for name in self.headers.keys() {
            let ok = tonic::metadata::MetadataKey::<tonic::metadata::Ascii>::from_bytes(name.as_bytes()).is_ok();
            check(ok, format!("header {name:?} is no lower-case header name"));
        }
        for target in &self.scrape.targets {
            let url = reqwest::Url::parse(&target.url).ok().filter(|url| url.has_host() && url.scheme() == "http");
            check(
                url.is_some(),
                format!("scrape target {:?} is no URL such as http://127.0.0.1:9100/metrics", target.url),
            );
            check(!target.job.is_empty(), format!("scrape target {:?} needs a job", target.url));
            check(!target.interval.is_zero(), format!("scrape target {:?} needs an interval", target.url));
        }
        problems
    }
}

/// Writes and reads durations as `10s`, `500ms`, `1h30m`.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

    pub(crate) fn parse(text: &str) -> Option<Duration> {
        if text == "0" {
            return Some(Duration::ZERO);
        }
        let mut total: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
            let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len()));
            let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(scale)?)?;
            rest = tail;
        }
        (!text.is_empty()).then(|| Duration::from_millis(total))
    }

    pub(crate) fn print(duration: Duration) -> String {
        let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut text = String::new();
        for (unit, scale) in UNITS {
            if rest >= scale {
                text.push_str(&format!("{}{unit}", rest / scale));
                rest %= scale;
            }
        }
        if text.is_empty() { "0".to_owned() } else { text }
    }

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&print(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no duration such as 10s, 500ms or 1h30m")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_has_no_problems_and_survives_json() {
        let config = Config::default();
        assert_eq!(config.problems(), Vec::<String>::new());
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn the_deployment_for_kubernetes_is_valid() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/agent.toml");
        let mut table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        let config: Config = table.remove("agent").unwrap().try_into().unwrap();
        assert_eq!(config.problems(), Vec::<String>::new());
        assert_eq!(config.host.proc_path, PathBuf::from("/host/proc"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = serde_json::from_str::<Config>(r#"{"host":{"intervall":"1s"}}"#).unwrap_err().to_string();
        assert!(error.contains("intervall"), "{error}");
        let error = serde_json::from_str::<Config>(r#"{"host":{"interval":"1 s"}}"#).unwrap_err().to_string();
        assert!(error.contains("is no duration such as 10s"), "{error}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut config = Config { endpoint: "not a url".to_owned(), ..Config::default() };
        config.file.include = vec!["/var/[log".to_owned()];
        config.host.interval = Duration::ZERO;
        config.headers.insert("Bad Header".to_owned(), "x".to_owned());
        assert_eq!(config.problems().len(), 4, "{:?}", config.problems());
    }

    #[test]
    fn durations_are_printed_as_they_are_read() {
        for text in ["10s", "500ms", "1h30m", "7d", "0"] {
            assert_eq!(duration::print(duration::parse(text).unwrap()), text);
        }
        for text in ["", "s", "10", "10x", "-1s", "99999999999999999999s", "1s2"] {
            assert_eq!(duration::parse(text), None, "{text}");
        }
    }
}
