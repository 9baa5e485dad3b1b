//! Keeps secrets out of what is said about a faulty configuration.

use super::layers::redact;

/// Returns a value of the file with secrets replaced, at any depth.
pub(crate) fn redact_value(key: &str, value: &toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) => toml::Value::String(redact(key, text)),
        toml::Value::Array(items) => toml::Value::Array(items.iter().map(|item| redact_value(key, item)).collect()),
        toml::Value::Table(table) => {
            let redacted =
                table.iter().map(|(name, value)| (name.clone(), redact_value(&format!("{key}.{name}"), value)));
            toml::Value::Table(redacted.collect())
        }
        other => {
            // A password of digits is a number to TOML.
            let text = other.to_string();
            let shown = redact(key, &text);
            if shown == text { other.clone() } else { toml::Value::String(shown) }
        }
    }
}

/// Collects what [`redact`] would hide of `value`, at any depth.
pub(super) fn collect(key: &str, value: &toml::Value, secrets: &mut Vec<String>) {
    match value {
        toml::Value::Array(items) => items.iter().for_each(|item| collect(key, item, secrets)),
        toml::Value::Table(table) => {
            table.iter().for_each(|(name, value)| collect(&format!("{key}.{name}"), value, secrets));
        }
        toml::Value::String(text) => secrets.extend(hidden(key, text)),
        other => secrets.extend(hidden(key, &other.to_string())),
    }
}

/// Returns the part of `text` that [`redact`] replaces.
pub(super) fn hidden(key: &str, text: &str) -> Option<String> {
    let shown = redact(key, text);
    let (before, after) = shown.split_once("<secret>")?;
    text.strip_prefix(before)?.strip_suffix(after).filter(|secret| !secret.is_empty()).map(str::to_owned)
}

/// Replaces the secrets in an error; also as they look when a message quotes them.
pub(super) fn hide(message: &str, secrets: &[String]) -> String {
    secrets.iter().fold(message.to_owned(), |message, secret| {
        let quoted = format!("{secret:?}");
        let quoted = quoted.trim_matches('"');
        message.replace(secret.as_str(), "<secret>").replace(quoted, "<secret>")
    })
}

/// Returns where and why a file is no TOML, without its text: a faulty line may hold a secret.
pub(super) fn syntax_error(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().and_then(|span| text.get(..span.start));
    let place = at.map_or_else(String::new, |before| {
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!("line {}, column {column}: ", before.matches('\n').count() + 1)
    });
    format!("{place}{}", error.message().replace('\n', ", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_redacted_is_hidden_in_errors_too() {
        let table: toml::Table =
            "endpoint = 'http://u:pw99@x'\nheaders = ['s3\"cr3t', 12345]\nuser = 'me'".parse().unwrap();
        let mut secrets = Vec::new();
        collect("agent", &toml::Value::Table(table), &mut secrets);
        secrets.sort();
        assert_eq!(secrets, ["12345", "s3\"cr3t", "u:pw99"]);
        let told = hide("\"http://u:pw99@x\" \"s3\\\"cr3t\" `12345` me", &secrets);
        assert_eq!(told, "\"http://<secret>@x\" \"<secret>\" `<secret>` me");
    }

    #[test]
    fn a_syntax_error_has_a_place_and_no_text() {
        let text = "a = 1\nheaders.authorization = \"s3cr3t\nb = 2";
        let told = syntax_error(text, &text.parse::<toml::Table>().unwrap_err());
        assert!(told.starts_with("line 2, column 32: ") && !told.contains("s3cr3t"), "{told}");
    }

    #[test]
    fn secrets_in_the_agent_table_are_replaced_at_any_depth() {
        let table: toml::Table =
            "headers = { authorization = 'Bearer x' }\nlist = [{ password = 'p', user = 'u' }, { password = 4711, port = 80 }]".parse().unwrap();
        let shown = redact_value("agent", &toml::Value::Table(table)).to_string();
        assert!(!shown.contains("Bearer") && !shown.contains("\"p\"") && shown.contains("\"u\""), "{shown}");
        assert!(!shown.contains("4711") && shown.contains("80"), "{shown}");
    }
}
