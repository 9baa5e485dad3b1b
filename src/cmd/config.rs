//! `daybook config check|print`: what the configuration comes to, and where each value came from.

use std::io::Write;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use crate::cmd::{EXIT_USAGE, complain, load_config};
use crate::config::{Loaded, SETTINGS, redact, redact_value};

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
