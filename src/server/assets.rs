//! The web UI, compiled into the binary.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

include!(concat!(env!("OUT_DIR"), "/ui_files.rs"));

/// One file of the bundle.
#[derive(Debug)]
struct Asset {
    /// Path below `ui/dist`.
    path: &'static str,
    /// Content, or nothing when only the compressed form is kept.
    plain: &'static [u8],
    /// The same, compressed with gzip; empty where that does not pay.
    gzip: &'static [u8],
    /// Changes with the content.
    etag: &'static str,
}

/// Shown where the binary was built without the UI.
const NO_UI: &str = "<!doctype html><meta charset=utf-8><title>Daybook</title>\
<body style=\"font:16px/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem\">\
<h1>Daybook is running</h1><p>This binary was built without its web UI. Build it with\
<pre>cargo xtask ui && cargo build --release</pre>and start again. The APIs work: \
<a href=\"/api/v1/query?query=up\">PromQL</a>, <a href=\"/loki/api/v1/labels\">LogQL</a>, <a href=\"/metrics\">metrics</a>.";

/// Returns the UI's routes: its pages, and its files below `/assets/`.
pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(index))
        .route("/explore", get(index))
        .route("/explore/{*page}", get(index))
        .route("/favicon.ico", get(favicon))
        .route(
            "/assets/{*path}",
            get(async |Path(path): Path<String>, headers: HeaderMap| file(&format!("assets/{path}"), &headers)),
        )
}

async fn index(headers: HeaderMap) -> Response {
    if ASSETS.iter().any(|asset| asset.path == "index.html") {
        file("index.html", &headers)
    } else {
        Html(NO_UI).into_response()
    }
}

/// Answers browsers that ask before they have read the page; the icon's real name changes with its content.
async fn favicon(headers: HeaderMap) -> Response {
    let icon = ASSETS.iter().find(|asset| asset.path.starts_with("assets/favicon"));
    file(icon.map_or("", |asset| asset.path), &headers)
}

fn file(path: &str, request: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let has = |name: header::HeaderName, part: &str| {
        request.get_all(name).iter().any(|value| value.to_str().is_ok_and(|text| text.contains(part)))
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if has(header::IF_NONE_MATCH, asset.etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    if !asset.gzip.is_empty() && has(header::ACCEPT_ENCODING, "gzip") {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return (headers, asset.gzip).into_response();
    }
    (headers, asset.plain).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}
