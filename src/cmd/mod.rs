//! The subcommands, one file each.

pub(crate) mod admin;
pub(crate) mod agent;
pub(crate) mod config;
pub(crate) mod import;
pub(crate) mod labels;
pub(crate) mod logs;
pub(crate) mod query;
pub(crate) mod serve;
pub(crate) mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{Kind, Loaded, SETTINGS, Scope, load};

/// Exit code of a run that failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit code of bad usage or configuration.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Parses the command line and runs what it names.
pub(crate) fn dispatch() -> anyhow::Result<ExitCode> {
    let matches = match cli().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            error.print()?;
            return Ok(if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS });
        }
    };
    match matches.subcommand() {
        Some(("serve", matches)) => configured(matches, |loaded| serve::run(loaded, serve::Parts::SERVER)),
        Some(("up", matches)) => configured(matches, |loaded| serve::run(loaded, serve::Parts::ALL)),
        Some(("agent", matches)) => configured(matches, agent::run),
        Some(("config", matches)) => config::run(matches),
        Some(("admin", matches)) => admin::run(matches),
        Some(("import", matches)) => import::run(matches),
        Some(("query", matches)) => query::run(query::Args::from_arg_matches(matches)?),
        Some(("logs", matches)) => logs::run(logs::Args::from_arg_matches(matches)?),
        Some(("tail", matches)) => tail::run(tail::Args::from_arg_matches(matches)?),
        Some(("labels", matches)) => labels::run(labels::Args::from_arg_matches(matches)?),
        _ => Ok(ExitCode::from(EXIT_USAGE)),
    }
}

/// Prints a line for people on stderr.
#[expect(clippy::print_stderr, reason = "a command's errors go to stderr")]
pub(crate) fn complain(text: &str) {
    eprintln!("daybook: {text}");
}

/// Returns the whole command line.
pub(crate) fn cli() -> Command {
    let settings = |name: &'static str, about: &'static str, scopes: &[Scope]| {
        Command::new(name).about(about).args(setting_args(scopes))
    };
    let server = [Scope::Server, Scope::Both];
    let agent = [Scope::Agent, Scope::Both];
    let all = [Scope::Server, Scope::Agent, Scope::Both];
    Command::new("daybook")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Metrics, logs and dashboards in one binary that can account for every record")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(settings("up", "Run the server and an agent for this host in one process", &all))
        .subcommand(settings(
            "serve",
            "Receive, store and answer: OTLP, remote write, Loki push; PromQL, LogQL, UI",
            &server,
        ))
        .subcommand(settings("agent", "Tail logs, read host metrics, scrape targets, and send it all by OTLP", &agent))
        .subcommand(query::Args::augment_args(Command::new("query").about("Run a PromQL query")))
        .subcommand(logs::Args::augment_args(Command::new("logs").about("Run a LogQL query")))
        .subcommand(tail::Args::augment_args(Command::new("tail").about("Follow logs as they arrive")))
        .subcommand(labels::Args::augment_args(Command::new("labels").about("List label names, or the values of one")))
        .subcommand(config::command(setting_args(&all)))
        .subcommand(admin::command())
        .subcommand(import::command())
}

/// Returns `--config` and a flag for each setting of these scopes.
fn setting_args(scopes: &[Scope]) -> Vec<Arg> {
    let file = Arg::new("config")
        .long("config")
        .env("DAYBOOK_CONFIG")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Configuration file (TOML); its keys are the flags with _ for -, and [agent]");
    let flags = SETTINGS.iter().filter(|setting| scopes.contains(&setting.scope)).map(|setting| {
        let value_name = match setting.kind {
            Kind::Path => "DIR",
            Kind::Addr => "HOST:PORT",
            Kind::Duration => "DURATION",
            Kind::Size => "SIZE",
            Kind::Count => "N",
            Kind::List => "NAME,...",
            Kind::Word(_) => "WORD",
            Kind::Text => "TEXT",
        };
        let default =
            if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
        Arg::new(setting.name).long(setting.name).value_name(value_name).allow_hyphen_values(true).help(format!(
            "{}{default} [env: {}]",
            setting.help,
            setting.env()
        ))
    });
    std::iter::once(file).chain(flags).collect()
}

/// Loads the configuration that `matches`, the environment and the file give.
pub(crate) fn load_config(matches: &ArgMatches) -> Result<Loaded, Vec<String>> {
    let file: Option<&PathBuf> = matches.get_one("config");
    let flag = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    load(file.map(PathBuf::as_path), &|name| std::env::var(name).ok(), &flag)
}

/// Runs `work` with the configuration, or tells all its faults.
fn configured(matches: &ArgMatches, work: impl FnOnce(Loaded) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match load_config(matches) {
        Ok(loaded) => work(loaded),
        Err(errors) => {
            for error in errors {
                complain(&error);
            }
            Ok(ExitCode::from(EXIT_USAGE))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::cli().debug_assert();
    }
}
