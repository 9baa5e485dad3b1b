//! One data directory: lock, retention, compaction scheduling, flush.
