//! What the status endpoints tell of the process: its settings, without secrets, and its surroundings.

use query::Facts;

use crate::config::{Loaded, SETTINGS, Scope, redact, redact_value};

/// Returns the facts of a process that runs with this configuration.
pub(super) fn facts(loaded: &Loaded) -> Facts {
    let value = |name: &str| loaded.values.get(name).map_or("", |(text, _)| text.as_str());
    let known = SETTINGS.iter().filter(|setting| setting.scope != Scope::Agent);
    let host = rustix::system::uname();
    Facts {
        flags: known.map(|setting| (setting.name.to_owned(), redact(setting.name, value(setting.name)))).collect(),
        config_yaml: yaml(loaded),
        retention: value("retention").to_owned(),
        working_dir: std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default(),
        host_name: host.nodename().to_string_lossy().into_owned(),
        memory_limit_bytes: 0,
    }
}

/// Writes the configuration as YAML, of which JSON's texts and tables are a part.
fn yaml(loaded: &Loaded) -> String {
    let json = |value: &toml::Value| serde_json::to_string(value).unwrap_or_default();
    let mut out = String::new();
    for setting in SETTINGS {
        if let Some((text, _)) = loaded.values.get(setting.name) {
            let key = setting.key();
            let value = json(&toml::Value::String(redact(&key, text)));
            out.push_str(&format!("{key}: {value}\n"));
        }
    }
    if !loaded.agent_table.is_empty() {
        let agent = redact_value("agent", &toml::Value::Table(loaded.agent_table.clone()));
        out.push_str(&format!("agent: {}\n", json(&agent)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("daybook.toml");
        std::fs::write(&file, "retention = '7d'\n[agent]\nheaders = { authorization = 'Bearer x' }\n").unwrap();
        let loaded = crate::config::load(Some(&file), &|_| None, &|_| None).unwrap();
        let facts = facts(&loaded);
        assert_eq!((facts.retention.as_str(), facts.flags["retention"].as_str()), ("7d", "7d"));
        assert!(facts.flags.contains_key("http-addr") && !facts.flags.contains_key("agent-endpoint"));
        assert!(facts.config_yaml.contains("retention: \"7d\"\n"), "{}", facts.config_yaml);
        assert!(facts.config_yaml.contains("agent: {\"headers\":"), "{}", facts.config_yaml);
        assert!(!facts.config_yaml.contains("Bearer"), "{}", facts.config_yaml);
    }
}
