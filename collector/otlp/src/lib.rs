//! opentelemetry-proto to model and back, nothing else.
