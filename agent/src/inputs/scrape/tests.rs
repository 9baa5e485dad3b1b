//! Small parts of scraping; the whole is tried in `tests/delivery.rs`.

use super::*;

#[test]
fn the_instance_is_host_and_port() {
    for (url, expected) in [
        ("http://127.0.0.1:9100/metrics", "127.0.0.1:9100"),
        ("http://node.example/metrics?x=y", "node.example:80"),
        ("http://[::1]:9100/", "[::1]:9100"),
        ("not a url", "not a url"),
    ] {
        assert_eq!(instance(url), expected);
    }
}
