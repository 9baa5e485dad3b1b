//! The fields of a line whose form is not known, for exploring.

use model::Labels;

use crate::row::{Hints, RowLabels};
use crate::stage::{json, logfmt};

/// A field found in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name, as the parser would make it.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The parser that gives it: `json` or `logfmt`.
    pub parser: &'static str,
    /// The keys that lead to it in a JSON line.
    pub json_path: Vec<String>,
}

/// Returns the fields of a line: those of JSON when it is an object, else those of logfmt when it holds pairs.
#[must_use]
pub fn fields(line: &str) -> Vec<Field> {
    if line.trim_start().starts_with('{') {
        let stream = Labels::empty();
        let mut row = RowLabels::new(&stream);
        json::json(line, &mut row, &Hints::default(), |part| part);
        if row.error.is_empty() {
            let mut paths = Vec::new();
            json::paths(line, &mut paths);
            let field = |(name, value): (&str, &str)| {
                let json_path = paths.iter().find(|(have, _)| have == name).map(|(_, path)| path.clone());
                let json_path = json_path.unwrap_or_default();
                Field { name: name.to_owned(), value: value.to_owned(), parser: "json", json_path }
            };
            return row.iter().map(field).collect();
        }
        return Vec::new();
    }
    let mut out: Vec<Field> = Vec::new();
    for (key, value) in logfmt::Pairs::new(line).flatten().filter(|(_, value)| !value.is_empty()) {
        let name = json::sanitize(key);
        if !name.is_empty() && out.iter().all(|field| field.name != name) {
            out.push(Field {
                name: name.into_owned(),
                value: value.into_owned(),
                parser: "logfmt",
                json_path: Vec::new(),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_logfmt_are_told_apart() {
        let found = fields(r#"{"a":{"b":1},"c":"x"}"#);
        assert_eq!(found[0].name, "a_b");
        assert_eq!(found[0].json_path, ["a", "b"]);
        assert_eq!(fields("level=info took=5ms plain")[1].value, "5ms");
        assert!(fields("plain text").is_empty() && fields("{broken").is_empty() && fields("").is_empty());
    }
}
