//! The table of settings: one row is a flag, an environment variable and a key of the file.

/// What a setting's text must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A path.
    Path,
    /// `host:port`, port 0 for any free one.
    Addr,
    /// `15d`, `1h30m`, `0`.
    Duration,
    /// `64MiB`, `1GB`, or plain bytes.
    Size,
    /// A whole number.
    Count,
    /// Names with commas between.
    List,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
}

/// Which subcommands know a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `serve` and `up`.
    Server,
    /// `agent` and `up`.
    Agent,
    /// All three.
    Both,
}

/// One setting: `name` is `http-addr`, its flag `--http-addr`, its variable `DAYBOOK_HTTP_ADDR`, its key `http_addr`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    pub(crate) help: &'static str,
}

impl Setting {
    /// Returns the name of the environment variable.
    pub(crate) fn env(&self) -> String {
        format!("DAYBOOK_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// Returns the key of the configuration file.
    pub(crate) fn key(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// A setting that is on or off.
const YES_OR_NO: Kind = Kind::Word(&["true", "false"]);

const fn row(name: &'static str, default: &'static str, kind: Kind, scope: Scope, help: &'static str) -> Setting {
    Setting { name, default, kind, scope, help }
}

/// Every setting, in the order that `config print` shows them.
pub(crate) const SETTINGS: &[Setting] = &[
    row("data-dir", "data", Kind::Path, Scope::Both, "Directory for all state; the agent keeps its own below agent/"),
    row(
        "http-addr",
        "127.0.0.1:4319",
        Kind::Addr,
        Scope::Server,
        "Address of the UI, the query APIs, remote write and Loki push",
    ),
    row("otlp-grpc-addr", "127.0.0.1:4317", Kind::Addr, Scope::Server, "Address of the OTLP/gRPC receiver"),
    row("otlp-http-addr", "127.0.0.1:4318", Kind::Addr, Scope::Server, "Address of the OTLP/HTTP receiver"),
    row(
        "retention",
        "15d",
        Kind::Duration,
        Scope::Server,
        "How long data are kept; 0 keeps everything and accepts any timestamp",
    ),
    row(
        "role",
        "all",
        Kind::Word(&["all", "collector", "query"]),
        Scope::Server,
        "Which parts run: collector receives, query answers, all does both",
    ),
    row(
        "log-level",
        "info",
        Kind::Text,
        Scope::Both,
        "Level of our own logs, or a filter such as info,storage_wal=debug",
    ),
    row("log-format", "json", Kind::Word(&["json", "text"]), Scope::Both, "Form of our own logs on stdout"),
    row("shutdown-timeout", "30s", Kind::Duration, Scope::Both, "Longest time that a graceful stop may take"),
    row("cpu-threads", "0", Kind::Count, Scope::Server, "Threads for queries and flushes; 0 is one per core"),
    row("query-timeout", "2m", Kind::Duration, Scope::Server, "Longest time of one query"),
    row("query-max-concurrency", "20", Kind::Count, Scope::Server, "Queries that run at a time; more wait"),
    row("query-max-series", "1000000", Kind::Count, Scope::Server, "Most series or streams that one query may select"),
    row("query-max-samples", "50000000", Kind::Count, Scope::Server, "Most samples that one query may hold in memory"),
    row("query-max-bytes", "100GiB", Kind::Size, Scope::Server, "Most bytes of log lines that one query may read"),
    row(
        "query-max-memory-bytes",
        "2GiB",
        Kind::Size,
        Scope::Server,
        "Most memory that one query may take for its answer",
    ),
    row("max-body-bytes", "64MiB", Kind::Size, Scope::Server, "Largest request body as sent"),
    row("max-decoded-bytes", "256MiB", Kind::Size, Scope::Server, "Largest request body after decompression"),
    row(
        "ingest-memory-bytes",
        "1GiB",
        Kind::Size,
        Scope::Server,
        "Memory for requests that are being taken in; more are told to retry",
    ),
    row(
        "metrics-head-bytes",
        "2GiB",
        Kind::Size,
        Scope::Server,
        "Most memory of the metrics head before it is written to a block",
    ),
    row(
        "logs-head-bytes",
        "128MiB",
        Kind::Size,
        Scope::Server,
        "Most memory of the logs head before it is written to a block",
    ),
    row(
        "flush-interval",
        "2h",
        Kind::Duration,
        Scope::Server,
        "Longest time that data stay in the head before they are written to a block",
    ),
    row("max-line-bytes", "8MiB", Kind::Size, Scope::Server, "Longest log line; longer ones are refused and counted"),
    row(
        "stream-labels",
        "",
        Kind::List,
        Scope::Server,
        "Resource attributes that become stream labels of logs; empty for the standard list",
    ),
    row(
        "promote-resource-attributes",
        "host.name,k8s.namespace.name,k8s.pod.name,k8s.container.name",
        Kind::List,
        Scope::Server,
        "Resource attributes that become labels of metrics",
    ),
    row(
        "promote-all-resource-attributes",
        "false",
        YES_OR_NO,
        Scope::Server,
        "Whether all resource attributes become labels of metrics, instead of those",
    ),
    row(
        "ignore-resource-attributes",
        "",
        Kind::List,
        Scope::Server,
        "Resource attributes that do not become labels of metrics when all others do",
    ),
    row(
        "keep-identifying-resource-attributes",
        "false",
        YES_OR_NO,
        Scope::Server,
        "Whether service.name, service.namespace and service.instance.id are labels of target_info",
    ),
    row(
        "promote-scope-metadata",
        "true",
        YES_OR_NO,
        Scope::Server,
        "Whether the scope of OTLP metrics becomes otel_scope_* labels",
    ),
    row(
        "otlp-translation-strategy",
        "UnderscoreEscapingWithSuffixes",
        Kind::Word(&[
            "UnderscoreEscapingWithSuffixes",
            "UnderscoreEscapingWithoutSuffixes",
            "NoUTF8EscapingWithSuffixes",
            "NoTranslation",
        ]),
        Scope::Server,
        "How names of OTLP metrics and attributes become Prometheus names",
    ),
    row(
        "otlp-label-name-underscore-sanitization",
        "true",
        YES_OR_NO,
        Scope::Server,
        "Whether an escaped label name that starts with one underscore gets key in front",
    ),
    row(
        "otlp-label-name-preserve-multiple-underscores",
        "true",
        YES_OR_NO,
        Scope::Server,
        "Whether runs of underscores stay in escaped label names",
    ),
    row(
        "otlp-convert-histograms-to-nhcb",
        "false",
        YES_OR_NO,
        Scope::Server,
        "Whether OTLP histograms with explicit bounds become native ones with custom buckets, not classic ones",
    ),
    row(
        "agent-http-addr",
        "127.0.0.1:4320",
        Kind::Addr,
        Scope::Agent,
        "Address of the own health and metrics of an agent that runs alone",
    ),
    row(
        "agent-endpoint",
        "",
        Kind::Text,
        Scope::Agent,
        "OTLP/gRPC endpoint that the agent sends to, e.g. http://daybook:4317",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_kebab_case() {
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    }

    #[test]
    fn flag_variable_and_key_have_one_name() {
        let setting = &SETTINGS[1];
        assert_eq!((setting.env().as_str(), setting.key().as_str()), ("DAYBOOK_HTTP_ADDR", "http_addr"));
    }
}
