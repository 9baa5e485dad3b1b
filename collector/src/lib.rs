//! Receivers for OTLP, Prometheus remote write and Loki push; pipeline, limits, ledger.
