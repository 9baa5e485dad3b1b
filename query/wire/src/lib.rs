//! Request and response shapes of the query APIs, shared with the UI.
//!
//! Serde only: no I/O, no other crate of ours, and it compiles to wasm.

pub mod loki;
pub mod plan;
pub mod prometheus;
