//! What can go wrong in the agent as a whole. What goes wrong with one input is counted and logged instead.

use std::path::PathBuf;

/// A failure that stops the agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings contradict themselves.
    #[error("the agent's settings are wrong: {}", problems.join("; "))]
    Config {
        /// One sentence each.
        problems: Vec<String>,
    },
    /// The state directory or a file in it could not be used.
    #[error("could not {attempt} {}", path.display())]
    State {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another agent uses the state directory.
    #[error("another agent uses {}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The checkpoints cannot be read; going on would read every file again.
    #[error("the checkpoints in {} are damaged: {reason}", path.display())]
    Checkpoints {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk buffer failed.
    #[error("the disk buffer in {} failed", path.display())]
    Buffer {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: storage_wal::Error,
    },
    /// A glob pattern is malformed.
    #[error("{pattern:?} is no pattern: {reason}")]
    Glob {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of the agent ended by a panic, which is a bug.
    #[error("the agent's task {task} panicked")]
    Panicked {
        /// Its name.
        task: String,
    },
}

/// The result of an operation of the agent.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds what was tried and on what to an I/O error.
pub(crate) fn state(attempt: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::State { attempt, path, source }
}
