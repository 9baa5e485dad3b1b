//! Segmented, checksummed write-ahead log with group commit.
