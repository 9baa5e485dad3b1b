//! Metrics: head, Parquet blocks, label index, compaction.
