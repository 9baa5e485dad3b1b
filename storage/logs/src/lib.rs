//! Logs: head, Parquet blocks with a tantivy index, compaction.
