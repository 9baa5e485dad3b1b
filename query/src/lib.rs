//! Limits, the Prometheus and Loki HTTP APIs.
