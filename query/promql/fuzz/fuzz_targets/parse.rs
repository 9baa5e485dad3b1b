//! Reads any text: it is refused at a place within it, or its canonical form means the same and stays the same.
//! Run it with `cargo +nightly fuzz run parse` in `query/promql`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use query_promql::parse::parse;

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(expr) => {
            let printed = expr.to_string();
            let again = parse(&printed).expect("the canonical form is read");
            assert_eq!(again, expr);
            assert_eq!(again.to_string(), printed);
            assert_eq!(parse(&expr.pretty()).as_ref(), Ok(&expr));
        }
        Err(error) => assert!(error.span.start as usize <= text.len()),
    }
});
