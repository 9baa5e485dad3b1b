//! Builds the UI bundle and runs the project's checks.
fn main() {}
