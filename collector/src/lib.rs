//! Receivers for OTLP, Prometheus remote write and Loki push; limits and delivery accounting.
//!
//! [`Collector`] gives routers for the main port ([`http_router`](Collector::http_router)), the OTLP/HTTP port
//! ([`otlp_http_router`](Collector::otlp_http_router)) and the OTLP/gRPC port ([`grpc_routes`](Collector::grpc_routes)).
//! A request goes through the same steps on each:
//!
//! 1. *Admission*: one of a bounded number of places, and memory from a bounded budget; else 429 with `Retry-After`.
//! 2. The body is read and decompressed, both up to a limit; decompression stops there.
//! 3. It is decoded and tested record by record; what breaks a limit is rejected alone, with a reason.
//! 4. Storage appends the rest and returns when it is durable. Only then is the request acknowledged.
//! 5. The ledger gets every record: received = accepted + dropped. A request whose records cannot even be counted is in
//!    `daybook_refused_requests_total`.
//!
//! Steps 2 (decompression) to 5 run on blocking threads and go on when the client leaves, so that the counts stay true.
//!
//! ```
//! use std::sync::Arc;
//! use collector::{Collector, Config};
//! use runtime::{Clock, Ledger, Telemetry};
//! use storage_api::fake::{FakeLogs, FakeMetrics};
//!
//! let telemetry = Telemetry::new();
//! let ledger = Ledger::new(&telemetry);
//! let (metrics, logs) = (Arc::new(FakeMetrics::default()), Arc::new(FakeLogs::default()));
//! let stored = Arc::<FakeMetrics>::clone(&metrics);
//! let collector = Collector::new(Config::default(), metrics, stored, logs, Clock::system(), &telemetry, ledger);
//! let _router: axum::Router = collector.http_router();
//! ```

mod admission;
mod body;
mod collector;
mod config;
mod error;
mod history;
mod protobuf;
mod receivers;
mod row_spaces;
mod stats;

pub use collector::Collector;
pub use collector_otlp::metrics::Strategy;
pub use config::Config;
