//! Limits, the Prometheus and Loki HTTP APIs.
//!
//! [`Services`] holds the stores and runs queries: at most so many at a time, each on the CPU pool, each cancelled when
//! its client goes away. [`router`] answers the two APIs with them. Nothing here knows a socket: tests call the router.

mod compress;
mod error;
mod facts;
pub mod loki;
mod manners;
pub mod prometheus;
mod service;

pub use error::{Error, Result};
pub use facts::Facts;
pub use manners::with_manners;
pub use service::Services;

/// Returns the routes of the Prometheus and Loki APIs.
pub fn router(services: Services) -> axum::Router {
    prometheus::router(services.clone()).merge(loki::router(services))
}
