//! What Prometheus' API does around every answer: cross-origin headers, OPTIONS, and a word about paths that are not
//! there.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use crate::error::Error;

/// Headers for scripts of other origins. Which origin asks does not matter: there are no credentials to protect.
const CORS: [(HeaderName, &str); 4] = [
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
];

/// Adds the manners of Prometheus' API to a router that has all its routes, also those of other parts.
pub fn with_manners(router: Router) -> Router {
    router.fallback(not_found).layer(middleware::from_fn(around))
}

async fn not_found(request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        return Error::NotFound(format!("no such endpoint: {path}")).into_response();
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn around(request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/api/v1/") {
        return next.run(request).await;
    }
    let has_origin = request.headers().get(header::ORIGIN).is_some_and(|origin| !origin.is_empty());
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    add_cors(response.headers_mut(), has_origin);
    response
}

fn add_cors(headers: &mut HeaderMap, has_origin: bool) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if has_origin {
        for (name, value) in CORS {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: Method, path: &str, origin: Option<&str>) -> (u16, HeaderMap, String) {
        let router = Router::new().route("/api/v1/x", get(async || "x")).route("/y", get(async || "y"));
        let mut request = Request::builder().method(method).uri(path);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let response = with_manners(router).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body).unwrap())
    }

    #[tokio::test]
    async fn scripts_of_other_origins_may_read_the_api_and_only_that() {
        let (status, headers, body) = ask(Method::GET, "/api/v1/x", Some("http://other")).await;
        assert_eq!((status, body.as_str()), (200, "x"));
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert_eq!(headers["access-control-expose-headers"], "Date");
        assert_eq!(headers["vary"], "Origin");
        let (_, headers, _) = ask(Method::GET, "/api/v1/x", None).await;
        assert!(!headers.contains_key("access-control-allow-origin") && headers["vary"] == "Origin");
        assert!(!ask(Method::GET, "/y", Some("http://other")).await.1.contains_key("access-control-allow-origin"));
    }

    #[tokio::test]
    async fn options_are_answered_on_every_path_of_the_api() {
        for path in ["/api/v1/x", "/api/v1/nothing"] {
            let (status, headers, body) = ask(Method::OPTIONS, path, Some("http://other")).await;
            assert_eq!((status, body.as_str()), (204, ""));
            assert_eq!(headers["access-control-allow-methods"], "GET, POST, OPTIONS");
            assert_eq!(headers["access-control-allow-headers"], "Accept, Authorization, Content-Type, Origin");
        }
    }

    #[tokio::test]
    async fn a_path_that_is_not_there_is_told_in_the_form_of_its_api() {
        let (status, headers, body) = ask(Method::GET, "/api/v1/nothing", None).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (404, "application/json"));
        assert_eq!(body, r#"{"status":"error","errorType":"not_found","error":"no such endpoint: /api/v1/nothing"}"#);
        assert_eq!(ask(Method::GET, "/api/v2", None).await.0, 404);
        let (status, _, body) = ask(Method::GET, "/nothing", None).await;
        assert_eq!((status, body.as_str()), (404, "404 page not found\n"));
    }
}
