//! Node agent: tails logs, reads host and scraped metrics, sends OTLP with a disk buffer.
