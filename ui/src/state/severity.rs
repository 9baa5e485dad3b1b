//! How bad a log record is, whatever its sender calls it.

/// Severities from worst to least, as in OpenTelemetry's ranges; what cannot be told is `Unset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Severity {
    /// The program cannot go on.
    Fatal,
    /// An operation failed.
    Error,
    /// Odd, but recovered.
    Warn,
    /// Ordinary news.
    Info,
    /// For developers.
    Debug,
    /// Step by step.
    Trace,
    /// Not told.
    Unset,
}

impl Severity {
    /// All, from worst to least.
    pub(crate) const ALL: [Self; 7] =
        [Self::Fatal, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace, Self::Unset];

    /// Reads a severity's text or number.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Ok(number) = text.parse::<u8>() {
            return match number {
                1..=4 => Self::Trace,
                5..=8 => Self::Debug,
                9..=12 => Self::Info,
                13..=16 => Self::Warn,
                17..=20 => Self::Error,
                21..=24 => Self::Fatal,
                _ => Self::Unset,
            };
        }
        // OpenTelemetry's short names have a number behind: `INFO2`.
        let text = text.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
        Self::ALL.into_iter().find(|severity| severity.spellings().contains(&text.as_str())).unwrap_or(Self::Unset)
    }

    /// Returns what senders call it, in lower case.
    pub(crate) fn spellings(self) -> &'static [&'static str] {
        match self {
            Self::Fatal => &["fatal", "critical", "crit", "alert", "emerg", "emergency", "panic", "f"],
            Self::Error => &["error", "err", "severe", "e"],
            Self::Warn => &["warn", "warning", "w"],
            Self::Info => &["info", "information", "informational", "notice", "i"],
            Self::Debug => &["debug", "dbg", "fine", "d"],
            Self::Trace => &["trace", "finest", "finer", "t"],
            Self::Unset => &["unset", "unknown", "unspecified"],
        }
    }

    /// Returns its name in the URL, in class names and in colour tokens.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
            Self::Unset => "unset",
        }
    }

    /// Returns the colour token of the style sheet.
    pub(crate) fn color(self) -> String {
        format!("--severity-{}", self.name())
    }
}

/// The labels that may hold a record's severity, best first.
pub(crate) const SEVERITY_LABELS: [&str; 4] = ["severity_text", "detected_level", "level", "severity_number"];

/// Finds the severity in a record's labels.
pub(crate) fn severity_of<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Severity {
    let told = SEVERITY_LABELS.iter().filter_map(|name| get(name)).map(Severity::parse);
    told.into_iter().find(|severity| *severity != Severity::Unset).unwrap_or(Severity::Unset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_and_numbers_are_understood() {
        for (text, severity) in [
            ("ERROR", Severity::Error),
            ("err", Severity::Error),
            ("Warning", Severity::Warn),
            ("INFO2", Severity::Info),
            ("17", Severity::Error),
            ("24", Severity::Fatal),
            ("0", Severity::Unset),
            ("CRITICAL", Severity::Fatal),
            ("nonsense", Severity::Unset),
            ("", Severity::Unset),
            ("999", Severity::Unset),
        ] {
            assert_eq!(Severity::parse(text), severity, "{text}");
        }
    }

    #[test]
    fn every_spelling_reads_as_its_severity() {
        for severity in Severity::ALL {
            for spelling in severity.spellings() {
                assert_eq!(Severity::parse(spelling), severity);
            }
            assert_eq!(Severity::parse(severity.name()), severity);
        }
    }

    #[test]
    fn the_first_label_that_tells_is_taken() {
        let labels = [("level", "debug"), ("severity_text", "??"), ("severity_number", "17")];
        let get = |name: &str| labels.iter().find(|l| l.0 == name).map(|l| l.1);
        assert_eq!(severity_of(get), Severity::Debug);
        assert_eq!(severity_of(|_| None), Severity::Unset);
    }
}
