//! Runs Prometheus' own test scripts, which lie beside the project; skipped with a message where they are missing.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test: a malformed script may end it")]
#![expect(clippy::print_stdout, reason = "tells what was skipped and which cases fail")]

#[path = "promqltest/data.rs"]
mod data;
#[path = "promqltest/run.rs"]
mod run;
#[path = "promqltest/store.rs"]
mod store;

/// Runs a script and checks how many of its cases pass: all but `failing`. Fewer or more is a change to be told.
#[track_caller]
fn check(name: &str, failing: usize) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/promqltest");
    let Ok(script) = std::fs::read_to_string(format!("{root}/{name}.test")) else {
        println!("skipped: {root}/{name}.test is missing");
        return;
    };
    let variants = std::fs::read_to_string(format!("{root}/at-variants.json")).unwrap_or_else(|_| "[]".to_owned());
    let (passed, failures) = run::script(&script, &run::Variants::read(&variants));
    for failure in &failures {
        println!("{name}.test:{failure}\n");
    }
    assert_eq!(failures.len(), failing, "{passed} cases of {name} passed, {} failed", failures.len());
}

/// Runs a script of our own in the same language.
fn check_own(name: &str, script: &str) {
    let (passed, failures) = run::script(script, &run::Variants::read("[]"));
    for failure in &failures {
        println!("{name}:{failure}\n");
    }
    assert!(failures.is_empty(), "{passed} cases passed, {} failed", failures.len());
}

#[test]
fn every_operator_and_function() {
    check_own("semantics.test", include_str!("cases/semantics.test"));
}

#[test]
fn collisions_resets_and_odd_times() {
    check_own("collisions.test", include_str!("cases/collisions.test"));
}

macro_rules! scripts {
    ($($test:ident $name:literal $failing:literal,)*) => {
        $(#[test] fn $test() { check($name, $failing); })*
    };
}

scripts! {
    aggregators "aggregators" 0,
    at_modifier "at_modifier" 0,
    collision "collision" 0,
    duration_expression "duration_expression" 0,
    extended_vectors "extended_vectors" 0,
    fill_modifier "fill-modifier" 0,
    functions "functions" 0,
    histograms "histograms" 0,
    info "info" 0,
    limit "limit" 0,
    literals "literals" 0,
    name_label_dropping "name_label_dropping" 0,
    native_histograms "native_histograms" 0,
    operators "operators" 0,
    range_queries "range_queries" 0,
    selectors "selectors" 0,
    staleness "staleness" 0,
    start_timestamps "start_timestamps" 0,
    subquery "subquery" 0,
    trig_functions "trig_functions" 0,
    type_and_unit "type_and_unit" 0,
}
