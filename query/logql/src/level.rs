//! `detected_level`: how bad a line is, from whatever says so beside it. Loki works it out when a line comes in; here it is
//! made of what is stored when it is asked for, and never of the line's own text.

use model::Labels;

/// The label.
pub(crate) const DETECTED_LEVEL: &str = "detected_level";

/// Labels and metadata that say how bad a line is; the first that is there counts. As in Loki.
pub(crate) const LEVEL_FIELDS: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

/// OTLP's number, from 1 (trace) to 24 (fatal).
pub(crate) const SEVERITY_NUMBER: &str = "severity_number";

/// Returns the level that a stream's own labels tell; the metadata of its rows do not count then.
pub(crate) fn of_stream(stream: &Labels) -> Option<&str> {
    LEVEL_FIELDS.iter().find_map(|name| stream.get(name)).map(plain)
}

/// Returns the level that a row's metadata tell, or `None` when nothing does.
pub(crate) fn of_metadata<'a>(metadata: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    let mut number = None;
    for (name, value) in metadata {
        // Few names begin like one of these.
        if !name.starts_with(['l', 'L', 's', 'S']) {
            continue;
        }
        if name == SEVERITY_NUMBER {
            number = Some(value);
        } else if let Some(rank) = LEVEL_FIELDS.iter().position(|field| *field == name)
            && best.is_none_or(|(have, _)| rank < have)
        {
            best = Some((rank, value));
        }
    }
    match (best, number) {
        (Some((_, level)), _) => Some(plain(level)),
        (None, Some(number)) => of_number(number),
        (None, None) => None,
    }
    .filter(|level| !level.is_empty())
}

/// Returns the common word for a level; any other one as it is.
pub(crate) fn plain(level: &str) -> &str {
    const WORDS: [(&str, &str); 13] = [
        ("trace", "trace"),
        ("trc", "trace"),
        ("debug", "debug"),
        ("dbg", "debug"),
        ("info", "info"),
        ("inf", "info"),
        ("information", "info"),
        ("warn", "warn"),
        ("wrn", "warn"),
        ("warning", "warn"),
        ("error", "error"),
        ("err", "error"),
        ("critical", "critical"),
    ];
    let word = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(level)).map(|(_, plain)| *plain);
    word.unwrap_or(if level.eq_ignore_ascii_case("fatal") { "fatal" } else { level })
}

fn of_number(number: &str) -> Option<&'static str> {
    match number.parse::<u8>().ok()? {
        1..=4 => Some("trace"),
        5..=8 => Some("debug"),
        9..=12 => Some("info"),
        13..=16 => Some("warn"),
        17..=20 => Some("error"),
        21..=24 => Some("fatal"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &[(&str, &str)], metadata: &[(&str, &str)], expected: Option<&str>) {
        let stream = Labels::from_pairs(stream.iter().copied());
        assert_eq!(of_stream(&stream).or_else(|| of_metadata(metadata.iter().copied())), expected);
    }

    #[test]
    fn the_first_field_that_says_it_counts() {
        check(&[("app", "a")], &[("trace_id", "x"), ("log", "y")], None);
        check(&[("app", "a"), ("level", "WARNING")], &[("severity_text", "INFO")], Some("warn"));
        check(&[("app", "a")], &[("severity_number", "17"), ("severity_text", "Information")], Some("info"));
        check(&[("app", "a")], &[("severity_text", "INFO"), ("lvl", "dbg"), ("level", "Err")], Some("error"));
        check(&[("app", "a")], &[("level", "notice")], Some("notice"));
        check(&[("app", "a")], &[("level", "FATAL")], Some("fatal"));
        check(&[("app", "a")], &[("level", "")], None);
    }

    #[test]
    fn numbers_are_otlps() {
        let levels = [(0, None), (1, Some("trace")), (8, Some("debug")), (9, Some("info")), (16, Some("warn"))];
        for (number, expected) in levels.into_iter().chain([(17, Some("error")), (24, Some("fatal")), (25, None)]) {
            check(&[], &[("severity_number", &number.to_string())], expected);
        }
        check(&[], &[("severity_number", "x")], None);
    }
}
