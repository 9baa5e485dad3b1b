//! `daybook config check|print`: what the configuration comes to, and where each value came from.

use std::io::Write;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use crate::cmd::{EXIT_USAGE, complain, load_config};
use crate::config::{Loaded, SETTINGS, redact};

/// Returns the subcommand.
pub(crate) fn command(args: Vec<Arg>) -> Command {
    Command::new("config")
        .about("Check or print the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("check").about("Check file, environment and flags; tell every fault").args(args.clone()),
        )
        .subcommand(Command::new("print").about("Print each value and where it came from; no secrets").args(args))
}

/// Runs it.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(ExitCode::from(EXIT_USAGE)) };
    match load_config(matches) {
        Err(errors) => {
            for error in &errors {
                complain(error);
            }
            Ok(ExitCode::from(EXIT_USAGE))
        }
        Ok(loaded) => {
            let mut out = std::io::stdout().lock();
            if name == "print" {
                print(&loaded, &mut out)?
            } else {
                writeln!(out, "the configuration is good")?
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints the configuration as a TOML file that would give the same values.
fn print(loaded: &Loaded, out: &mut impl Write) -> std::io::Result<()> {
    for setting in SETTINGS {
        if let Some((text, source)) = loaded.values.get(setting.name) {
            let key = setting.key();
            let value = toml::Value::String(redact(&key, text)).to_string();
            writeln!(out, "{:<56} # {source}", format!("{key} = {value}"))?;
        }
    }
    if !loaded.agent_table.is_empty() {
        writeln!(out, "\n# file")?;
        let mut table = toml::Table::new();
        let agent = toml::Value::Table(loaded.agent_table.clone());
        table.insert("agent".to_owned(), redact_value("agent", &agent));
        write!(out, "{table}")?;
    }
    Ok(())
}

/// Returns the value with secrets replaced, at any depth.
fn redact_value(key: &str, value: &toml::Value) -> toml::Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_the_agent_table_are_replaced_at_any_depth() {
        let table: toml::Table =
            "headers = { authorization = 'Bearer x' }\nlist = [{ password = 'p', user = 'u' }, { password = 4711, port = 80 }]".parse().unwrap();
        let shown = redact_value("agent", &toml::Value::Table(table)).to_string();
        assert!(!shown.contains("Bearer") && !shown.contains("\"p\"") && shown.contains("\"u\""), "{shown}");
        assert!(!shown.contains("4711") && shown.contains("80"), "{shown}");
    }
}
