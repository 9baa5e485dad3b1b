//! What the status endpoints tell of the process; values that only the composition root knows.

use std::collections::BTreeMap;

/// Facts about this process, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Every flag with its value, by name without dashes before it.
    pub flags: BTreeMap<String, String>,
    /// The configuration in force, as YAML.
    pub config_yaml: String,
    /// How long data are kept, e.g. `15d`.
    pub retention: String,
    /// The working directory.
    pub working_dir: String,
    /// The name of the machine.
    pub host_name: String,
    /// The most memory that the process may take, in bytes; 0 when there is no limit.
    pub memory_limit_bytes: i64,
}
