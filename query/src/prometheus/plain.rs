//! Answers of the endpoints that are not JSON: their errors are text.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use runtime::Reservation;

use crate::error::Error;

/// How much of a finished answer is handed to the connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// An answer, or an error that is told as text.
pub(super) type PlainResult = Result<Response, PlainError>;

/// An error that is told as text, as Go's `http.Error` writes it.
#[derive(Debug)]
pub(super) struct PlainError(Error);

impl<E: Into<Error>> From<E> for PlainError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PlainError {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            // 422 is a word of the JSON API only.
            Error::Execution(_) => StatusCode::BAD_REQUEST,
            error => error.status(),
        };
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        (status, headers, format!("{}\n", self.0)).into_response()
    }
}

/// Returns a body that accounts for its memory until the last piece is taken.
pub(super) fn held_body(bytes: Vec<u8>, held: Reservation) -> Body {
    let mut rest = Bytes::from(bytes);
    Body::from_stream(futures_util::stream::iter(std::iter::from_fn(move || {
        let _held = &held;
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some(Ok::<_, Infallible>(piece))
    })))
}
