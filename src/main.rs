//! Daybook's one binary.
fn main() {}
