//! Request and response shapes of the query APIs, shared with the UI.

pub mod loki;
