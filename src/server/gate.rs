//! Answers from the first moment on: health at once, everything else once the data directory is open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::ServiceExt;

use crate::server::{Ground, process, profiles};

/// Stands before the routers until they can be built.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ready: AtomicBool,
    main: OnceLock<Router>,
    otlp: OnceLock<Router>,
}

impl Gate {
    /// Returns a closed gate.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Lets requests through, and says ready.
    pub(super) fn open(&self, main: Router, otlp: Router) {
        // A gate is opened once, by the one task that builds the routers.
        drop(self.0.main.set(main));
        drop(self.0.otlp.set(otlp));
        self.0.ready.store(true, Ordering::Release);
    }

    /// Says not ready from now on; requests still pass.
    pub(super) fn fail_readiness(&self) {
        self.0.ready.store(false, Ordering::Release);
    }

    /// Returns the router of the main port.
    pub(super) fn main_router(&self, ground: &Ground) -> Router {
        Router::new()
            .route("/-/ready", get(ready))
            .route("/ready", get(ready))
            .fallback(
                |State(gate): State<Self>, request: Request| async move { gate.pass(&gate.0.main, request).await },
            )
            .with_state(self.clone())
            .merge(own_routes(ground))
    }

    /// Returns the router of the OTLP/HTTP port.
    pub(super) fn otlp_router(&self) -> Router {
        Router::new()
            .fallback(
                |State(gate): State<Self>, request: Request| async move { gate.pass(&gate.0.otlp, request).await },
            )
            .with_state(self.clone())
    }

    async fn pass(&self, router: &OnceLock<Router>, request: Request) -> Response {
        match router.get() {
            Some(router) => match router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            None => starting(),
        }
    }
}

/// Returns `/-/healthy`, `/metrics` and `/debug/pprof`, which every long-running part has.
pub(crate) fn own_routes(ground: &Ground) -> Router {
    let process = process::Metrics::new(&ground.telemetry);
    let telemetry = ground.telemetry.clone();
    let metrics = async move || {
        process.update();
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry.render())
    };
    Router::new()
        .route("/-/healthy", get(async || "Daybook is healthy.\n"))
        .route("/metrics", get(metrics))
        .merge(profiles::router())
}

async fn ready(State(gate): State<Gate>) -> Response {
    if gate.0.ready.load(Ordering::Acquire) { "Daybook is ready.\n".into_response() } else { starting() }
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "Daybook is starting or stopping.\n")
        .into_response()
}
