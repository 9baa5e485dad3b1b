//! The index never misses a page: compared with brute force, on awkward needles and on real lines.

use std::sync::Arc;

use proptest::prelude::*;
use storage_api::Needle;

use super::*;
use crate::block::{Block, BlockWriter, Cache, RowView, Sequence, WriterOptions};

const ROW: RowView<'static> = RowView {
    timestamp: 0,
    observed_timestamp: 0,
    severity_number: 0,
    severity_text: "",
    body: "",
    body_type: "str",
    attributes: "",
    resource: "",
    scope: "",
    trace_id: [0; 16],
    span_id: [0; 8],
    flags: 0,
    event_name: "",
    dropped_attributes_count: 0,
};

/// Open indexes.
struct Opened {
    ids: Arc<Ids>,
    trigrams: Arc<Trigrams>,
    words: Arc<Words>,
    tokens_bytes_max: Vec<u32>,
}

impl Sections for Opened {
    fn pages(&self) -> u32 {
        u32::try_from(self.tokens_bytes_max.len()).unwrap()
    }
    fn token_bytes_max(&self, page: u32) -> u32 {
        self.tokens_bytes_max[page as usize]
    }
    fn ids(&self) -> Result<Arc<Ids>, Unusable> {
        Ok(Arc::clone(&self.ids))
    }
    fn trigrams(&self) -> Result<Arc<Trigrams>, Unusable> {
        Ok(Arc::clone(&self.trigrams))
    }
    fn words(&self) -> Result<Arc<Words>, Unusable> {
        Ok(Arc::clone(&self.words))
    }
    fn are_words_at_hand(&self) -> bool {
        true
    }
}

fn index(pages: &[Vec<String>]) -> Opened {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = IndexBuilder::create(dir.path()).unwrap();
    for page in pages {
        page.iter().for_each(|line| builder.push_line(line));
        builder.finish_page().unwrap();
    }
    let built = builder.finish().unwrap();
    let words: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap().into()))
        .collect();
    Opened {
        ids: Ids::open(built.ids.into()).unwrap().into(),
        trigrams: Trigrams::open(built.trigrams.into(), u32::try_from(pages.len()).unwrap()).unwrap().into(),
        words: Words::open(&words).unwrap().into(),
        tokens_bytes_max: built.tokens_bytes_max,
    }
}

/// Checks one needle and returns how many pages the index gives.
#[track_caller]
fn check(index: &Opened, pages: &[Vec<String>], needle: &Needle) -> u32 {
    let found = pages_of(index, std::slice::from_ref(needle)).unwrap();
    for (number, page) in pages.iter().enumerate() {
        let holds = page.iter().any(|line| matches(line, needle));
        assert!(!holds || found.contains(u32::try_from(number).unwrap()), "{needle:?} misses page {number}");
    }
    found.len()
}

fn matches(line: &str, needle: &Needle) -> bool {
    match needle {
        Needle::Line(text) => line.contains(text),
        Needle::LineFold(text) => {
            let pattern = format!("(?i){}", regex_escape(text));
            model_regex(&pattern, line)
        }
        Needle::Field { .. } => false,
        Needle::Any(needles) => needles.iter().any(|needle| matches(line, needle)),
    }
}

fn regex_escape(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_alphanumeric() || c.is_whitespace() { c.to_string() } else { format!("\\x{{{:x}}}", u32::from(c)) }
        })
        .collect()
}

fn model_regex(pattern: &str, line: &str) -> bool {
    let matcher = model::Matcher::new("x", model::MatchOp::Regex, format!("(?s:.*)(?:{pattern})(?s:.*)"));
    matcher.unwrap().matches(line)
}

fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_ .:=/\"-]{0,40}",
        "(결제|오류|가|é|É|K|\u{212a}|ſ|s|S|“|。|ｘ| |[a-c1-3]{1,4}){0,12}",
        "(id|ID)=[0-9a-f]{4,20} (user|USER)[0-9]{1,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_part_of_a_line_is_missed(
        pages in proptest::collection::vec(proptest::collection::vec(any_line(), 1..4), 1..7),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..40, 1_usize..30), 20),
    ) {
        let index = index(&pages);
        let lines: Vec<&String> = pages.iter().flatten().collect();
        for (which, start, length) in cuts {
            let line = lines[which.index(lines.len())];
            let part: String = line.chars().skip(start).take(length).collect();
            check(&index, &pages, &Needle::Line(part.clone()));
            check(&index, &pages, &Needle::LineFold(part.to_uppercase()));
            check(&index, &pages, &Needle::LineFold(part.clone()));
            check(&index, &pages, &Needle::Any(vec![Needle::Line(part), Needle::Line("absent-1".to_owned())]));
        }
    }
}

fn real_lines() -> Option<Vec<String>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/logs");
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(dir).ok()? {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        lines.extend(String::from_utf8_lossy(&bytes).lines().take(600).map(str::to_owned));
    }
    (!lines.is_empty()).then_some(lines)
}

#[test]
fn real_lines_are_found_by_any_part_of_them() {
    let Some(lines) = real_lines() else {
        println!("skipped: the folder of real log lines is missing");
        return;
    };
    let pages: Vec<Vec<String>> = lines.chunks(64).map(<[String]>::to_vec).collect();
    let index = index(&pages);
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below.max(1)
    };
    for _ in 0..400 {
        let line = &lines[random(lines.len())];
        let part: String = line.chars().skip(random(line.len())).take(1 + random(24)).collect();
        check(&index, &pages, &Needle::Line(part));
    }
}

#[test]
fn rare_needles_leave_few_pages() {
    let pages: Vec<Vec<String>> = (0..200_u64)
        .map(|page| {
            let line = |i: u64| {
                let id = xxhash_rust::xxh3::xxh3_128(&(page * 100 + i).to_le_bytes());
                format!("GET /cart/{i} status=200 trace={id:032x} 결제오류가 발생했다")
            };
            (0..20).map(line).chain((page == 77).then(|| "a quokka-7x1needle passed by".to_owned())).collect()
        })
        .collect();
    let index = index(&pages);
    let few = |text: &str| check(&index, &pages, &Needle::Line(text.to_owned()));
    assert!(few("quokka") <= 12, "a word");
    assert!(few("7x1nee") <= 12, "part of an id");
    assert!(few(" quokka-7x1needle ") <= 2, "whole tokens");
    assert_eq!(few("결제"), 200);
    let id = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&(5_u64 * 100 + 3).to_le_bytes()));
    assert!(few(&id) <= 8, "a trace id");
    let field = Needle::Field { name: "trace_id".to_owned(), value: id };
    assert!(check(&index, &pages, &field) <= 8);
    assert_eq!(pages_of(&index, &[Needle::Line("zq".to_owned())]).unwrap().len(), 200, "too short for any index");
}

#[test]
fn fields_of_a_row_are_found_wherever_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("block");
    let options = WriterOptions { sequence: Sequence::new(1, 1), wal_before: 1, level: 0, zstd_level: 1 };
    let mut writer = BlockWriter::create(&path, options).unwrap();
    writer.start_stream(&model::Labels::from_pairs([("app", "shop-front")]));
    let row = RowView {
        attributes: r#"{"http.method":"PATCH","n":{"deep":12345},"d":1e+21,"b":{"$bytes":"3q2+7w=="},"e":"a\nb"}"#,
        resource: r#"{"attributes":{"host.name":"node-9.example"}}"#,
        scope: r#"{"name":"my.lib","version":"1.2.3"}"#,
        trace_id: [0xab; 16],
        span_id: [0xcd; 8],
        severity_text: "Error",
        event_name: "click",
        ..ROW
    };
    writer.push(&row).unwrap();
    for _ in 0..5000 {
        writer.push(&RowView { body: "nothing here", ..ROW }).unwrap();
    }
    writer.finish().unwrap();
    let metrics = crate::telemetry::Metrics::new(&runtime::Telemetry::new());
    let block = Block::open(
        &path,
        &std::sync::Arc::new(Cache::new(1 << 20, metrics.page_cache(0), metrics.corrupt_blocks.clone())),
    )
    .unwrap();
    let pages = |name: &str, value: &str| {
        block.candidates(&[Needle::Field { name: name.to_owned(), value: value.to_owned() }]).unwrap()
    };
    let fields = [
        ("http_method", "PATCH"),
        ("n_deep", "12345"),
        ("d", "1e+21"),
        ("b", "3q2+7w=="),
        ("e", "a\nb"),
        ("host_name", "node-9.example"),
        ("scope_name", "my.lib"),
        ("scope_version", "1.2.3"),
        ("trace_id", "abababababababababababababababab"),
        ("span_id", "cdcdcdcdcdcdcdcd"),
        ("severity_text", "Error"),
        ("event_name", "click"),
        ("app", "shop-front"),
    ];
    for (name, value) in fields {
        assert!(pages(name, value).contains(0), "{name}={value}");
    }
    assert_eq!(pages("http_method", "PATCH").len(), 1);
    assert_eq!(pages("severity_number", "17").len(), 5, "numbers are not indexed");
    assert_eq!(pages("app", "shop-front").len(), 5, "a label is on every page of its stream");
    assert!(pages("http_method", "absent").is_empty());
}
