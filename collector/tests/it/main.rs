//! The collector through its routers, with in-memory stores and real encoded requests.

mod bad_input;
mod grpc;
mod harness;
mod loki_push;
mod otlp_http;
mod overload;
mod remote_write;
