//! The collector through its routers, with in-memory stores and real encoded requests.
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic as the test itself may")]

mod bad_input;
mod grpc;
mod harness;
mod keys;
mod loki_push;
mod otlp_http;
mod otlp_metrics;
mod overload;
mod remote_write;
