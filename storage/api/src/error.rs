//! What can go wrong, in the terms that an API answers with.

/// The result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why storage could not do what was asked. `query` and `collector` map each variant to one HTTP and gRPC status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The query touches more than a limit allows (HTTP 422, or 400 for Loki).
    #[error("the query would load {got} {what}, the limit is {limit} ({setting})")]
    Limit {
        /// What is limited: `samples`, `series`, `bytes`, `streams`.
        what: &'static str,
        /// How many it came to when it was stopped.
        got: u64,
        /// The most that is allowed.
        limit: u64,
        /// The setting that raises it, e.g. `--query-max-samples`.
        setting: &'static str,
    },
    /// The client went away, or the server shuts down.
    #[error("the query was cancelled")]
    Cancelled,
    /// The query ran out of time (HTTP 503).
    #[error("the query timed out after {limit_ms} ms ({setting})")]
    Timeout {
        /// The time it had.
        limit_ms: u64,
        /// The setting that raises it.
        setting: &'static str,
    },
    /// Ingest must wait: memory or queue is full (HTTP 429, gRPC RESOURCE_EXHAUSTED).
    #[error("{what} is full: {used} of {limit}")]
    Overloaded {
        /// What is full, e.g. `the metrics head`.
        what: &'static str,
        /// How much is in use.
        used: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// The disk is full (HTTP 503, gRPC UNAVAILABLE). Nothing of the batch was acknowledged.
    #[error("no space left on the data directory's disk while {attempt}")]
    DiskFull {
        /// What was tried.
        attempt: String,
    },
    /// An earlier write or fsync failed in a way that leaves the disk's state unknown; writes are refused until reopened.
    #[error("storage refuses writes since an earlier failure: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// A file does not hold what it should.
    #[error("{path} is corrupt: {reason}")]
    Corrupt {
        /// Which file.
        path: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The operating system refused.
    #[error("{attempt} failed on {path}")]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The request itself is at fault.
    #[error("{0}")]
    Invalid(String),
    /// The store is closed.
    #[error("the store is shut down")]
    Closed,
}

impl Error {
    /// Wraps an I/O error, and tells a full disk apart.
    pub fn io(attempt: &'static str, path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        let path = path.as_ref().display().to_string();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { attempt: format!("{attempt} {path}") }
            }
            _ => Self::Io { attempt, path, source },
        }
    }
}
