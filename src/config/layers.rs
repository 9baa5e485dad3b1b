//! Puts defaults, file, environment and flags together, and remembers where each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use collector::Strategy;

use super::settings::{Kind, SETTINGS, Setting};
use super::{Config, Role, parse, secrets};

/// Parts of a key that mark its value as a secret.
const SECRET_WORDS: [&str; 6] = ["password", "secret", "token", "authorization", "api_key", "credential"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Built in.
    Default,
    /// The configuration file.
    File,
    /// This environment variable.
    Env(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A checked configuration, and the text and source of each setting.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) values: BTreeMap<&'static str, (String, Source)>,
    /// The `[agent]` table as given, for `config print`.
    pub(crate) agent_table: toml::Table,
    /// Things that are odd but harmless, for the log.
    pub(crate) warnings: Vec<String>,
}

/// Loads the configuration.
///
/// # Errors
/// Every fault found, one sentence each: unknown keys, values that do not parse, contradictions.
pub(crate) fn load(
    file: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
    flags: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Vec<String>> {
    let mut errors = Vec::new();
    let mut table = file.map_or_else(toml::Table::new, |path| read_file(path, &mut errors));
    let agent_table = match table.remove("agent") {
        None => toml::Table::new(),
        Some(toml::Value::Table(agent)) => agent,
        Some(other) => {
            errors.push(format!("file: agent must be a table, not {}", other.type_str()));
            toml::Table::new()
        }
    };
    let mut values = BTreeMap::new();
    for setting in SETTINGS {
        values.insert(setting.name, pick(setting, &mut table, env, flags, &mut errors));
    }
    for key in table.keys() {
        errors.push(format!("file: unknown key {key:?}{}", suggestion(key)));
    }
    let agent = toml::Value::Table(agent_table.clone()).try_into::<agent::Config>();
    let agent = agent.map_err(|error| errors.push(format!("file: [agent] {}", error.message()))).unwrap_or_default();
    let config = Typed { values: &values, errors: &mut errors }.config(agent);
    if errors.is_empty() {
        return Ok(Loaded { config, values, agent_table, warnings: Vec::new() });
    }
    let mut hidden: Vec<String> = values.iter().filter_map(|(name, (text, _))| secrets::hidden(name, text)).collect();
    secrets::collect("agent", &toml::Value::Table(agent_table), &mut hidden);
    Err(errors.iter().map(|error| secrets::hide(error, &hidden)).collect())
}

/// Replaces what looks like a secret: values under telling keys, and the user part of a URL.
pub(crate) fn redact(key: &str, value: &str) -> String {
    let key = key.to_ascii_lowercase();
    if SECRET_WORDS.iter().any(|word| key.contains(word)) || key.contains("headers") {
        return "<secret>".to_owned();
    }
    match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://<secret>@{rest}"),
        None => value.to_owned(),
    }
}

fn read_file(path: &Path, errors: &mut Vec<String>) -> toml::Table {
    match std::fs::read_to_string(path) {
        Err(error) => errors.push(format!("file {}: {error}", path.display())),
        Ok(text) => match text.parse::<toml::Table>() {
            Ok(table) => return table,
            Err(error) => errors.push(format!("file {}: {}", path.display(), secrets::syntax_error(&text, &error))),
        },
    }
    toml::Table::new()
}

fn pick(
    setting: &Setting,
    table: &mut toml::Table,
    env: &dyn Fn(&str) -> Option<String>,
    flags: &dyn Fn(&str) -> Option<String>,
    errors: &mut Vec<String>,
) -> (String, Source) {
    let from_file = table.remove(&setting.key()).and_then(|value| match plain(&value) {
        Some(text) => Some(text),
        None => {
            errors.push(format!(
                "file: {} must be text, a number, true, false or a list of text, not {}",
                setting.key(),
                value.type_str()
            ));
            None
        }
    });
    if let Some(text) = flags(setting.name) {
        (text, Source::Flag(format!("--{}", setting.name)))
    } else if let Some(text) = env(&setting.env()) {
        (text, Source::Env(setting.env()))
    } else if let Some(text) = from_file {
        (text, Source::File)
    } else {
        (setting.default.to_owned(), Source::Default)
    }
}

/// Returns a TOML value as the text that a flag would have.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}

/// Names the known key that differs least from `key`, when one is near.
fn suggestion(key: &str) -> String {
    let near = SETTINGS.iter().map(|setting| (distance(key, &setting.key()), setting.key())).min();
    match near {
        Some((steps, name)) if steps <= 3 => format!("; did you mean {name:?}?"),
        _ => String::new(),
    }
}

/// Counts the letters to change, add or drop to get from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// Turns texts into typed values and collects what is wrong with them.
struct Typed<'a> {
    values: &'a BTreeMap<&'static str, (String, Source)>,
    errors: &'a mut Vec<String>,
}

impl Typed<'_> {
    fn text(&self, name: &str) -> String {
        self.values.get(name).map(|(text, _)| text.trim().to_owned()).unwrap_or_default()
    }

    fn get<T>(&mut self, name: &str, fallback: T, read: impl Fn(&str) -> Result<T, String>) -> T {
        match read(&self.text(name)) {
            Ok(value) => value,
            Err(why) => self.fail(name, &why, fallback),
        }
    }

    fn fail<T>(&mut self, name: &str, why: &str, fallback: T) -> T {
        let source = self.values.get(name).map(|(_, source)| source.to_string()).unwrap_or_default();
        self.errors.push(format!("{name} ({source}): {why}"));
        fallback
    }

    fn duration(&mut self, name: &str) -> Duration {
        self.get(name, Duration::ZERO, parse::duration)
    }

    fn positive_duration(&mut self, name: &str) -> Duration {
        let value = self.duration(name);
        if value.is_zero() && parse::duration(&self.text(name)).is_ok() {
            return self.fail(name, "must be longer than 0", value);
        }
        value
    }

    fn size(&mut self, name: &str, least: u64) -> u64 {
        let value = self.get(name, least, parse::size);
        if value < least {
            return self.fail(name, &format!("{value} bytes are too few, the least is {least}"), least);
        }
        value
    }

    fn count(&mut self, name: &str, least: u64) -> u64 {
        let value = self.get(name, least, parse::count);
        if value < least {
            return self.fail(name, &format!("{value} is too small, the least is {least}"), least);
        }
        value
    }

    fn addr(&mut self, name: &str) -> std::net::SocketAddr {
        self.get(name, std::net::SocketAddr::from(([127, 0, 0, 1], 0)), parse::addr)
    }

    fn words(&mut self) {
        for setting in SETTINGS {
            if let Kind::Word(words) = setting.kind {
                let text = self.text(setting.name);
                if !words.contains(&text.as_str()) {
                    self.fail(setting.name, &format!("{text:?} is none of {}", words.join(", ")), ());
                }
            }
        }
    }

    fn addresses_differ(&mut self) {
        let names = ["http-addr", "otlp-grpc-addr", "otlp-http-addr"];
        for (i, a) in names.iter().enumerate() {
            for b in names.iter().skip(i + 1) {
                let text = self.text(a);
                if text == self.text(b) && !text.ends_with(":0") {
                    self.fail(b, &format!("{text} is taken by {a}"), ());
                }
            }
        }
    }

    fn config(mut self, mut agent: agent::Config) -> Config {
        self.words();
        self.addresses_differ();
        let log_level = self.text("log-level");
        let query_limits = storage_api::Limits {
            series_max: self.count("query-max-series", 1),
            samples_max: self.count("query-max-samples", 1),
            bytes_max: self.size("query-max-bytes", 1),
            memory_bytes_max: self.size("query-max-memory-bytes", 1 << 20),
            timeout: self.positive_duration("query-timeout"),
        };
        let collector = self.collector();
        let retention = self.duration("retention");
        let data_dir = self.text("data-dir");
        if data_dir.is_empty() {
            self.fail("data-dir", "must not be empty", ());
        }
        if agent.state_dir == agent::Config::default().state_dir {
            agent.state_dir = std::path::Path::new(&data_dir).join("agent");
        }
        let endpoint = self.text("agent-endpoint");
        if !endpoint.is_empty() {
            if !endpoint.starts_with("http://") {
                self.fail("agent-endpoint", &format!("{endpoint:?} is no URL such as http://127.0.0.1:4317"), ());
            }
            agent.endpoint = endpoint;
        }
        self.errors.extend(agent.problems().into_iter().map(|problem| format!("[agent] {problem}")));
        self.errors.extend(collector.check());
        Config {
            role: match self.text("role").as_str() {
                "collector" => Role::Collector,
                "query" => Role::Query,
                _ => Role::All,
            },
            data_dir: data_dir.into(),
            http_addr: self.addr("http-addr"),
            otlp_grpc_addr: self.addr("otlp-grpc-addr"),
            otlp_http_addr: self.addr("otlp-http-addr"),
            retention: (!retention.is_zero()).then_some(retention),
            log_level,
            log_format: if self.text("log-format") == "text" {
                runtime::LogFormat::Text
            } else {
                runtime::LogFormat::Json
            },
            shutdown_timeout: self.positive_duration("shutdown-timeout"),
            cpu_threads: usize::try_from(self.count("cpu-threads", 0).min(1024)).unwrap_or(1024),
            query_limits,
            query_concurrency: usize::try_from(self.count("query-max-concurrency", 1).min(100_000)).unwrap_or(100_000),
            metrics_head_bytes: self.size("metrics-head-bytes", 1 << 20),
            logs_head_bytes: self.size("logs-head-bytes", 1 << 20),
            flush_interval: self.positive_duration("flush-interval"),
            log_line_bytes: self.size("max-line-bytes", 1024),
            collector,
            agent_http_addr: self.addr("agent-http-addr"),
            agent,
        }
    }

    fn is_on(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// The standard list gives way when all attributes are promoted; a list that was set contradicts that.
    fn promoted(&self) -> Vec<String> {
        let name = "promote-resource-attributes";
        let is_default = self.values.get(name).is_some_and(|(_, source)| *source == Source::Default);
        if is_default && self.is_on("promote-all-resource-attributes") {
            return Vec::new();
        }
        parse::list(&self.text(name))
    }

    fn collector(&mut self) -> collector::Config {
        let mut config = collector::Config {
            max_body_bytes: self.size("max-body-bytes", 1024),
            max_decoded_bytes: self.size("max-decoded-bytes", 1024),
            memory_bytes: self.size("ingest-memory-bytes", 1 << 20),
            promoted_resource_attributes: self.promoted(),
            promote_all_resource_attributes: self.is_on("promote-all-resource-attributes"),
            ignored_resource_attributes: parse::list(&self.text("ignore-resource-attributes")),
            keep_identifying_resource_attributes: self.is_on("keep-identifying-resource-attributes"),
            // A word that is none of the strategies is a fault already.
            translation_strategy: Strategy::from_word(&self.text("otlp-translation-strategy")).unwrap_or_default(),
            label_name_underscore_sanitization: self.is_on("otlp-label-name-underscore-sanitization"),
            label_name_preserve_multiple_underscores: self.is_on("otlp-label-name-preserve-multiple-underscores"),
            scope_labels: self.is_on("promote-scope-metadata"),
            convert_histograms_to_nhcb: self.is_on("otlp-convert-histograms-to-nhcb"),
            ..collector::Config::default()
        };
        if config.memory_bytes < config.max_decoded_bytes {
            let why = format!("must be at least max-decoded-bytes, {}", config.max_decoded_bytes);
            self.fail("ingest-memory-bytes", &why, ());
        }
        let streams = parse::list(&self.text("stream-labels"));
        if !streams.is_empty() {
            config.stream_labels = streams;
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_load(file: Option<&str>, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daybook.toml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let find = |pairs: &[(&str, &str)], name: &str| {
            pairs.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
        };
        load(file.map(|_| path.as_path()), &|name| find(env, name), &|name| find(flags, name))
    }

    #[test]
    fn defaults_work_without_a_file() {
        let loaded = try_load(None, &[], &[]).unwrap();
        assert_eq!(loaded.config.http_addr.port(), 4319);
        assert_eq!(loaded.config.retention, Some(Duration::from_secs(15 * 86_400)));
        assert_eq!(loaded.values["http-addr"].1, Source::Default);
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let file = "http_addr = \"127.0.0.1:1\"\notlp_grpc_addr = \"127.0.0.1:2\"\notlp_http_addr = \"127.0.0.1:3\"\n";
        let env = [("DAYBOOK_OTLP_GRPC_ADDR", "127.0.0.1:22"), ("DAYBOOK_OTLP_HTTP_ADDR", "127.0.0.1:33")];
        let loaded = try_load(Some(file), &env, &[("otlp-http-addr", "127.0.0.1:333")]).unwrap();
        let ports = [loaded.config.http_addr, loaded.config.otlp_grpc_addr, loaded.config.otlp_http_addr];
        assert_eq!(ports.map(|addr| addr.port()), [1, 22, 333]);
        let sources = ["http-addr", "otlp-grpc-addr", "otlp-http-addr"].map(|name| loaded.values[name].1.to_string());
        assert_eq!(sources, ["file", "environment DAYBOOK_OTLP_GRPC_ADDR", "flag --otlp-http-addr"]);
    }

    #[test]
    fn the_translation_of_otlp_is_set_on_every_layer() {
        let file = "otlp_convert_histograms_to_nhcb = true\npromote_scope_metadata = \"false\"\n";
        let env = [("DAYBOOK_PROMOTE_ALL_RESOURCE_ATTRIBUTES", "true")];
        let flags = [("otlp-translation-strategy", "NoTranslation"), ("ignore-resource-attributes", "a,b")];
        let collector = try_load(Some(file), &env, &flags).unwrap().config.collector;
        assert_eq!(collector.translation_strategy, Strategy::NoTranslation);
        assert!(collector.convert_histograms_to_nhcb && !collector.scope_labels);
        assert!(collector.promoted_resource_attributes.is_empty(), "the standard list gives way");
        assert_eq!(collector.ignored_resource_attributes, ["a", "b"]);
        let flags = [("promote-resource-attributes", "a"), ("otlp-translation-strategy", "none")];
        let errors = try_load(None, &env, &flags).unwrap_err().join("\n");
        assert!(
            errors.contains("cannot be configured simultaneously") && errors.contains("NoUTF8Escaping"),
            "{errors}"
        );
        let errors = try_load(None, &[], &[("ignore-resource-attributes", "a")]).unwrap_err().join("\n");
        assert!(errors.contains("cannot be configured unless"), "{errors}");
        for strategy in Strategy::ALL {
            let word = strategy.as_str();
            let loaded = try_load(None, &[], &[("otlp-translation-strategy", word)]).unwrap();
            assert_eq!(loaded.config.collector.translation_strategy, strategy);
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let file = "http_adr = \"x\"\nretention = \"soon\"\n[agent]\nnonsense = 1\n";
        let errors = try_load(Some(file), &[("DAYBOOK_ROLE", "boss")], &[("query-timeout", "0")]).unwrap_err();
        let text = errors.join("\n");
        for part in [
            "unknown key \"http_adr\"; did you mean \"http_addr\"?",
            "retention (file): \"soon\" is no duration",
            "nonsense",
            "role (environment DAYBOOK_ROLE): \"boss\" is none of all, collector, query",
            "query-timeout (flag --query-timeout): must be longer than 0",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn two_receivers_on_one_address_are_refused() {
        let errors = try_load(None, &[], &[("http-addr", "127.0.0.1:4317")]).unwrap_err();
        assert_eq!(errors, ["otlp-grpc-addr (default): 127.0.0.1:4317 is taken by http-addr"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(redact("agent.headers.authorization", "Bearer x"), "<secret>");
        assert_eq!(redact("agent.endpoint", "http://me:pw@host:4317"), "http://<secret>@host:4317");
        assert_eq!(redact("agent.endpoint", "http://host:4317"), "http://host:4317");
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        let errors = load(Some(Path::new("/nonexistent.toml")), &|_| None, &|_| None).unwrap_err();
        assert!(errors[0].starts_with("file /nonexistent.toml: "), "{errors:?}");
    }
}
