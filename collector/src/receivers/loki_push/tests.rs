//! Parsing of dates and severities.

use super::severity_number;
use super::time::parse_rfc3339;

#[test]
fn dates_are_read() {
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2024-02-29T12:30:00.5+01:30", Some(1_709_204_400_500_000_000)),
        ("2000-03-01T00:00:00.000000001Z", Some(951_868_800_000_000_001)),
        ("1969-12-31T23:59:59Z", Some(-1_000_000_000)),
        ("2024-13-01T00:00:00Z", None),
        ("2024-01-01T00:00:00", None),
        ("9999-01-01T00:00:00Z", None),
        ("2024-01-01T00:00:00.1234567890Z", None),
        ("결제 결제 결제 결제 결제 결제", None),
        ("", None),
    ] {
        assert_eq!(parse_rfc3339(text), expected, "{text}");
    }
}

#[test]
fn severities_are_known_in_any_case() {
    assert_eq!([severity_number("WARNING"), severity_number("Error"), severity_number("x")], [13, 17, 0]);
}
