//! Finds a compiler that can build for `wasm32-unknown-unknown`, and runs it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "wasm-release";
/// Apart from `target/`, so that neither compiler throws away what the other has built.
const TARGET_DIR: &str = "target-wasm";
/// A library of our own build need not carry what formats the message of a panic; the page says that it broke.
const SMALLER_PANICS: &str = " -Zunstable-options -Cpanic=immediate-abort";
/// Where Debian's packages put the second compiler. Named in full, so that rustup's shims are not found first.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

const HOW_TO_INSTALL: &str = "no compiler here can build wasm; install one of these, then run `cargo xtask ui` again:
  rustup target add wasm32-unknown-unknown
  apt-get install --no-install-recommends rustc-web cargo-web rust-web-src lld-22    (Debian 12 and later, without rustup's target)";

/// What was found on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The compiler on the path has the target's standard library.
    pub has_target: bool,
    /// Debian's compiler and cargo are there.
    pub has_debian_rust: bool,
    /// The standard library's source for Debian's compiler is there.
    pub has_debian_library: bool,
    /// A wasm linker for Debian's compiler.
    pub linker: Option<PathBuf>,
}

impl Probe {
    /// Looks at this machine.
    pub(crate) fn of_this_machine() -> Self {
        let library = output(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]))
            .map(|sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library/std/Cargo.toml"));
        Self {
            has_target: output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))
                .is_some_and(|libdir| Path::new(&libdir).is_dir()),
            has_debian_rust: Path::new(DEBIAN_RUSTC).is_file() && Path::new(DEBIAN_CARGO).is_file(),
            has_debian_library: library.is_some_and(|library| library.is_file()),
            linker: newest_linker(Path::new("/usr/bin")),
        }
    }
}

/// Returns the highest numbered `wasm-ld-<n>` in `folder`.
fn newest_linker(folder: &Path) -> Option<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.strip_prefix("wasm-ld-")?.parse::<u32>().ok();
    let names = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    names.filter(|path| version(path).is_some()).max_by_key(|path| version(path))
}

/// The way to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The compiler on the path has the target.
    Plain,
    /// Debian's second compiler builds the standard library too, and links with this program.
    BuildStd {
        /// The wasm linker.
        linker: PathBuf,
    },
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("the installed target"),
            Self::BuildStd { linker } => write!(f, "{DEBIAN_RUSTC}, its own standard library and {}", linker.display()),
        }
    }
}

impl Choice {
    /// Picks the way to build.
    ///
    /// # Errors
    /// When there is none; the message says what to install.
    pub(crate) fn from_probe(probe: &Probe) -> Result<Self> {
        match probe {
            Probe { has_target: true, .. } => Ok(Self::Plain),
            Probe { has_debian_rust: true, has_debian_library: true, linker: Some(linker), .. } => {
                Ok(Self::BuildStd { linker: linker.clone() })
            }
            _ => bail!(HOW_TO_INSTALL),
        }
    }

    /// Builds the UI of the workspace at `root` and returns the path of the wasm module.
    ///
    /// # Errors
    /// When the compiler cannot be run or fails.
    pub(crate) fn build(&self, root: &Path) -> Result<PathBuf> {
        let mut command = self.command();
        let status = command.current_dir(root).status().with_context(|| format!("running {command:?}"))?;
        if !status.success() {
            bail!("building the UI failed ({status})");
        }
        Ok(root.join(TARGET_DIR).join(TARGET).join(PROFILE).join("daybook-ui.wasm"))
    }

    fn command(&self) -> Command {
        let mut command = match self {
            Self::Plain => Command::new("cargo"),
            Self::BuildStd { .. } => Command::new(DEBIAN_CARGO),
        };
        // Started by `cargo xtask`, this process has the outer cargo's variables, which name the outer compiler.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_from_outer_cargo(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.args(["build", "--package", "ui", "--bin", "daybook-ui", "--locked"]);
        command.args(["--profile", PROFILE, "--target", TARGET, "--target-dir", TARGET_DIR]);
        // One type for all components instead of one for each use: a tenth less code to load, and it compiles sooner.
        // Flags that the user has set are for the host and would not suit wasm.
        let mut flags = "--cfg erase_components".to_owned();
        if let Self::BuildStd { linker } = self {
            flags.push_str(SMALLER_PANICS);
            command.arg("-Zbuild-std=std,panic_abort");
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        command.env("RUSTFLAGS", flags);
        command
    }
}

/// Whether an environment variable was set by the cargo that runs us, for us. Settings that people make are kept.
fn is_from_outer_cargo(name: &str) -> bool {
    matches!(name, "CARGO" | "RUSTC" | "RUSTUP_TOOLCHAIN" | "RUST_RECURSION_COUNT" | "LD_LIBRARY_PATH")
        || name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_CRATE_")
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Probe {
        Probe {
            has_target: false,
            has_debian_rust: true,
            has_debian_library: true,
            linker: Some(PathBuf::from("/usr/bin/wasm-ld-22")),
        }
    }

    #[test]
    fn an_installed_target_is_preferred() {
        assert_eq!(Choice::from_probe(&Probe { has_target: true, ..debian() }).unwrap(), Choice::Plain);
    }

    #[test]
    fn without_the_target_the_second_compiler_builds_the_standard_library() {
        let choice = Choice::from_probe(&debian()).unwrap();
        assert_eq!(choice, Choice::BuildStd { linker: PathBuf::from("/usr/bin/wasm-ld-22") });
        let command = choice.command();
        assert_eq!(command.get_program(), DEBIAN_CARGO);
        assert!(command.get_args().any(|arg| arg == "-Zbuild-std=std,panic_abort"));
        assert!(command.get_envs().any(|(name, value)| name == "RUSTC" && value.is_some_and(|v| v == DEBIAN_RUSTC)));
    }

    #[test]
    fn a_missing_piece_is_an_error_that_says_what_to_install() {
        for probe in [
            Probe::default(),
            Probe { has_debian_rust: false, ..debian() },
            Probe { has_debian_library: false, ..debian() },
            Probe { linker: None, ..debian() },
        ] {
            let message = Choice::from_probe(&probe).unwrap_err().to_string();
            assert!(message.contains("rustup target add wasm32-unknown-unknown"), "{message}");
            assert!(message.contains("rustc-web cargo-web rust-web-src lld-22"), "{message}");
        }
    }

    #[test]
    fn the_newest_linker_is_taken_by_number_not_by_spelling() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["wasm-ld-9", "wasm-ld-22", "wasm-ld-14", "wasm-ld-next", "ld"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(newest_linker(dir.path()), Some(dir.path().join("wasm-ld-22")));
        assert_eq!(newest_linker(&dir.path().join("nowhere")), None);
    }

    #[test]
    fn what_people_set_for_cargo_is_kept() {
        assert!(is_from_outer_cargo("CARGO_PKG_NAME") && is_from_outer_cargo("RUSTUP_TOOLCHAIN"));
        assert!(!is_from_outer_cargo("CARGO_HOME") && !is_from_outer_cargo("CARGO_NET_OFFLINE"));
    }
}
