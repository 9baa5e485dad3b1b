//! How OTLP metrics become Prometheus series: what can be chosen.

use serde::{Deserialize, Serialize};

use super::LabelNaming;

/// Most and longest labels of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelLimits {
    /// Most labels of one series.
    pub labels_max: usize,
    /// Longest label name in bytes.
    pub name_bytes_max: usize,
    /// Longest label value in bytes.
    pub value_bytes_max: usize,
}

impl Default for LabelLimits {
    fn default() -> Self {
        Self { labels_max: 256, name_bytes_max: 1024, value_bytes_max: 16 << 10 }
    }
}

/// How names are translated, under the words of Prometheus' `otlp.translation_strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// What Prometheus did not allow once becomes an underscore; units and kinds become suffixes.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// What Prometheus did not allow once becomes an underscore.
    UnderscoreEscapingWithoutSuffixes,
    /// Names are kept; units and kinds become suffixes.
    #[serde(rename = "NoUTF8EscapingWithSuffixes")]
    NoUtf8EscapingWithSuffixes,
    /// Names are kept.
    NoTranslation,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 4] = [
        Self::UnderscoreEscapingWithSuffixes,
        Self::UnderscoreEscapingWithoutSuffixes,
        Self::NoUtf8EscapingWithSuffixes,
        Self::NoTranslation,
    ];

    /// Returns Prometheus' word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnderscoreEscapingWithSuffixes => "UnderscoreEscapingWithSuffixes",
            Self::UnderscoreEscapingWithoutSuffixes => "UnderscoreEscapingWithoutSuffixes",
            Self::NoUtf8EscapingWithSuffixes => "NoUTF8EscapingWithSuffixes",
            Self::NoTranslation => "NoTranslation",
        }
    }

    /// Returns the strategy that Prometheus calls `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == word)
    }

    /// Says whether names are escaped.
    #[must_use]
    pub fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }

    /// Says whether units and kinds become suffixes.
    #[must_use]
    pub fn has_suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUtf8EscapingWithSuffixes)
    }
}

/// Which resource attributes become labels of every series of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promoted {
    /// These.
    Only(Vec<String>),
    /// All but these.
    AllBut(Vec<String>),
}

/// How OTLP metrics become Prometheus series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How names are translated.
    pub strategy: Strategy,
    /// Whether an escaped label name that starts with a single underscore gets `key` in front.
    pub label_key_prefix: bool,
    /// Whether runs of underscores stay in escaped label names.
    pub label_keep_underscores: bool,
    /// Resource attributes that become labels of every series of the resource.
    pub promoted: Promoted,
    /// Whether `service.name`, `service.namespace` and `service.instance.id` are labels of `target_info` as well.
    pub keep_identifying: bool,
    /// Whether the scope becomes `otel_scope_*` labels.
    pub scope_labels: bool,
    /// Whether the other resource attributes become a `target_info` series.
    pub target_info: bool,
    /// Whether a histogram with explicit bounds becomes a native one with custom buckets, instead of a classic one.
    pub custom_buckets: bool,
    /// Limits on labels.
    pub limits: LabelLimits,
    /// Most buckets of a histogram point, or quantiles of a summary point.
    pub buckets_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            label_key_prefix: true,
            label_keep_underscores: true,
            promoted: Promoted::Only(Vec::new()),
            keep_identifying: false,
            scope_labels: true,
            target_info: true,
            custom_buckets: false,
            limits: LabelLimits::default(),
            buckets_max: 1024,
        }
    }
}

impl Options {
    pub(super) fn label_naming(&self) -> LabelNaming {
        LabelNaming {
            escape: self.strategy.escapes(),
            key_prefix: self.label_key_prefix,
            keep_underscores: self.label_keep_underscores,
        }
    }
}
