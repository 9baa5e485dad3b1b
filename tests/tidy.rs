//! House rules as tests: dependency edges, fences, sizes, headings, formats.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crate of ours may depend on which; `model` and `runtime` are allowed to all but those in [`WITHOUT_MODEL`] and
/// [`WITHOUT_RUNTIME`]. A new edge is a decision: write it down in `docs/adr/` and here.
const EDGES: &[(&str, &[&str])] = &[
    ("daybook", &["agent", "collector", "query", "query-wire", "storage", "storage-api"]),
    ("agent", &["collector-otlp", "storage-wal"]),
    ("collector", &["collector-otlp", "storage-api"]),
    ("collector-otlp", &[]),
    ("model", &[]),
    ("query", &["query-logql", "query-promql", "query-wire", "storage-api"]),
    ("query-logql", &["query-promql", "storage-api"]),
    ("query-promql", &["storage-api"]),
    ("query-wire", &[]),
    ("runtime", &[]),
    ("storage", &["storage-api", "storage-logs", "storage-metrics", "storage-wal"]),
    ("storage-api", &[]),
    ("storage-logs", &["storage-api", "storage-wal"]),
    ("storage-metrics", &["storage-api", "storage-wal"]),
    ("storage-wal", &[]),
    ("ui", &["query-wire"]),
    ("xtask", &[]),
];

/// Crates that stand below `model`, or must not know it.
const WITHOUT_MODEL: &[&str] = &["model", "runtime", "storage-wal", "query-wire", "ui", "xtask"];

/// Crates that must compile to wasm, or stand below `runtime`.
const WITHOUT_RUNTIME: &[&str] = &["model", "runtime", "storage-wal", "query-wire", "ui", "xtask"];

/// Heavy or foreign crates, and the only crates of ours that may depend on them.
const FENCES: &[(&str, &[&str])] = &[
    ("tantivy", &["storage-logs"]),
    ("parquet", &["storage-logs", "storage-metrics"]),
    ("arrow", &["storage-logs", "storage-metrics"]),
    ("leptos", &["ui"]),
    ("web-sys", &["ui"]),
    ("tonic", &["agent", "collector", "daybook"]),
    ("axum", &["collector", "daybook", "query"]),
    ("clap", &["daybook"]),
    ("anyhow", &["daybook", "xtask"]),
    ("opentelemetry-proto", &["agent", "collector", "collector-otlp"]),
    ("prometheus", &["runtime"]),
];

/// Most lines of a source file; generated files and test tables are not written by hand.
const FILE_LINES_MAX: usize = 1_000;

/// Folders that are not source.
const NOT_SOURCE: &[&str] = &["target", "target-wasm", "node_modules", ".git", ".venv", "dist", "data", "__pycache__"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all files below the root with this ending, without what is built.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            if path.is_dir() && !NOT_SOURCE.contains(&name.as_str()) {
                open.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no file ends with {ending}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Returns (package, dependency, kind) for every dependency in the workspace.
fn dependencies() -> Vec<(String, String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
    let packages = metadata["packages"].as_array().expect("packages are a list");
    let of = |package: &Value| {
        let name = text(&package["name"]);
        let dependencies = package["dependencies"].as_array().expect("dependencies are a list").clone();
        dependencies.into_iter().map(move |d| (name.clone(), text(&d["name"]), text(&d["kind"])))
    };
    packages.iter().flat_map(of).collect()
}

fn fail(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn dependencies_point_only_where_the_table_allows() {
    let ours: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (package, dependency, kind) in dependencies() {
        seen.insert(package.clone());
        if !ours.contains(dependency.as_str()) || kind == "dev" {
            continue;
        }
        let table = EDGES.iter().find(|(name, _)| *name == package).map_or(&[][..], |(_, allowed)| allowed);
        let allowed = table.contains(&dependency.as_str())
            || (dependency == "model" && !WITHOUT_MODEL.contains(&package.as_str()))
            || (dependency == "runtime" && !WITHOUT_RUNTIME.contains(&package.as_str()));
        if !allowed {
            faults.push(format!("{package} -> {dependency}"));
        }
    }
    fail("new edges between crates", &faults);
    let listed: BTreeSet<String> = ours.into_iter().map(str::to_owned).collect();
    assert_eq!(seen, listed, "the table lists the crates of the workspace");
}

#[test]
fn heavy_crates_stay_behind_their_fences() {
    let mut faults = Vec::new();
    for (package, dependency, kind) in dependencies() {
        let fence = FENCES.iter().find(|(name, _)| *name == dependency);
        if kind != "dev" && fence.is_some_and(|(_, allowed)| !allowed.contains(&package.as_str())) {
            faults.push(format!("{package} -> {dependency}"));
        }
    }
    fail("dependencies beyond a fence", &faults);
}

#[test]
fn each_source_file_opens_with_its_own_line() {
    let opens = |text: &str| text.starts_with("//!") || text.starts_with("#![doc") || text.starts_with("// @generated");
    let faults: Vec<_> = files(".rs").iter().filter(|path| !opens(&read(path))).map(|path| shown(path)).collect();
    fail("files that do not open with a //! line", &faults);
}

#[test]
fn no_source_file_is_too_long() {
    let lines = |path: &PathBuf| read(path).lines().count();
    let long = |path: &&PathBuf| !read(path).starts_with("// @generated") && lines(path) > FILE_LINES_MAX;
    let faults: Vec<_> =
        files(".rs").iter().filter(long).map(|path| format!("{}: {}", shown(path), lines(path))).collect();
    fail("files over 1000 lines", &faults);
}

#[test]
fn nothing_unfinished_is_left_behind() {
    // Put together, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["dbg", "!("], ["todo", "!("], ["unimplemented", "!("], ["XX", "X:"]]
        .map(|parts| parts.concat());
    let mut faults = Vec::new();
    for path in files(".rs").into_iter().chain(files(".toml")) {
        for (number, line) in read(&path).lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                faults.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    fail("unfinished work", &faults);
}

#[test]
fn no_test_is_ignored() {
    let word = ["#[ign", "ore"].concat();
    let faults: Vec<_> =
        files(".rs").iter().filter(|path| read(path).contains(&word)).map(|path| shown(path)).collect();
    fail("ignored tests", &faults);
}

#[test]
fn every_magic_is_described_in_docs_format() {
    let documents: String =
        files(".md").iter().filter(|path| shown(path).starts_with("docs/format/")).map(|path| read(path)).collect();
    let mut faults = Vec::new();
    let mut magics = 0;
    for path in
        files(".rs").iter().filter(|path| shown(path).starts_with("storage/") || shown(path).starts_with("agent/"))
    {
        for line in
            read(path).lines().filter(|line| line.contains("const") && line.contains("MAGIC") && line.contains("b\""))
        {
            let Some(magic) = line.split("b\"").nth(1).and_then(|rest| rest.split('"').next()) else { continue };
            magics += 1;
            if !documents.contains(magic) {
                faults.push(format!("{}: {magic}", shown(path)));
            }
        }
    }
    assert!(magics > 0, "the stores have magics");
    fail("magics that docs/format/ does not know", &faults);
}

#[test]
fn every_crate_takes_the_workspaces_lints_and_licence() {
    let mut faults = Vec::new();
    for path in files("Cargo.toml") {
        let text = read(&path);
        for line in ["[lints]\nworkspace = true", "license.workspace = true", "edition.workspace = true"] {
            if !text.contains(line) {
                faults.push(format!("{}: {}", shown(&path), line.replace('\n', " ")));
            }
        }
    }
    fail("manifests that go their own way", &faults);
}

#[test]
fn documents_do_not_point_at_files_that_are_not_there() {
    let mut faults = Vec::new();
    for path in files(".md").iter().filter(|path| !shown(path).starts_with("ui/")) {
        for target in read(path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            let external = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !external && !path.parent().is_some_and(|dir| dir.join(target).exists()) {
                faults.push(format!("{}: {target}", shown(path)));
            }
        }
    }
    fail("links to nowhere", &faults);
}

#[test]
fn every_route_is_in_docs_api() {
    let documented = read(&root().join("docs/api.md"));
    let mut faults = Vec::new();
    let mut routes = 0;
    for file in files(".rs") {
        let path = shown(&file);
        let serves = ["query/src/", "collector/src/", "src/server/"].iter().any(|dir| path.starts_with(dir));
        if !serves || path.contains("test") || path.ends_with("assets.rs") {
            continue;
        }
        let text = read(&file);
        let code = text.split("\nmod tests {").next().unwrap_or_default();
        for rest in code.split(".route(").skip(1) {
            let Some(route) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                continue;
            };
            routes += 1;
            if !documented.contains(&format!("{route}`")) {
                faults.push(format!("{path}: {route}"));
            }
        }
    }
    assert!(routes > 50, "{routes} routes found: they are written in another way now");
    fail("routes that docs/api.md does not tell of", &faults);
}
