//! The records of a log list: in order, paged without a line skipped or repeated, and trimmed while following.

use std::collections::BTreeMap;
use std::sync::Arc;

use query_wire::loki::{Entry, LabelMap, Stream};

use super::severity::{Severity, severity_of};

/// A log record as a list shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Nanoseconds since the epoch.
    pub timestamp_ns: i64,
    /// The line.
    pub line: String,
    /// The labels of its stream, shared by the stream's records.
    pub stream: Arc<LabelMap>,
    /// Its own fields: structured metadata.
    pub metadata: LabelMap,
    /// Fields that the query took out of the line.
    pub parsed: LabelMap,
    /// How bad it is.
    pub severity: Severity,
    /// Differs from that of records with another time, stream or line.
    pub id: u64,
}

impl Record {
    fn new(entry: Entry, stream: &Arc<LabelMap>) -> Self {
        let labels = entry.labels.unwrap_or_default();
        let (metadata, parsed) = (labels.structured_metadata, labels.parsed);
        let severity = severity_of(|name| {
            metadata.get(name).or_else(|| parsed.get(name)).or_else(|| stream.get(name)).map(String::as_str)
        });
        let pairs = stream.iter().flat_map(|(n, v)| [n.as_str(), "\0", v.as_str(), "\0"]);
        let text = pairs.chain([entry.line.as_str()]).flat_map(str::bytes);
        let id = fnv(entry.timestamp_ns.to_le_bytes().into_iter().chain(text));
        let stream = Arc::clone(stream);
        Self { timestamp_ns: entry.timestamp_ns, line: entry.line, stream, metadata, parsed, severity, id }
    }

    /// Milliseconds since the epoch.
    pub(crate) fn timestamp_ms(&self) -> i64 {
        self.timestamp_ns.div_euclid(1_000_000)
    }

    /// Returns what the record is called in the URL.
    pub(crate) fn key(&self) -> String {
        format!("{:x}", self.id)
    }

    /// Returns a label of the stream or a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.stream.get(name).or_else(|| self.metadata.get(name)).or_else(|| self.parsed.get(name));
        found.map(String::as_str)
    }
}

/// The FNV-1a hash, which is the same in each build, so that links stay good.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Returns the records of all streams, newest first. Records of the same time stay in the order of the answer.
pub(crate) fn newest_first(streams: Vec<Stream>) -> Vec<Record> {
    let mut records = Vec::with_capacity(streams.iter().map(|s| s.values.len()).sum());
    for stream in streams {
        let labels = Arc::new(stream.stream);
        records.extend(stream.values.into_iter().map(|entry| Record::new(entry, &labels)));
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.timestamp_ns));
    records
}

/// Returns the end of the next older page: exclusive, so one past the oldest record, whose time may have more records.
pub(crate) fn next_page_end_ns(records: &[Record]) -> Option<i64> {
    records.last().map(|oldest| oldest.timestamp_ns.saturating_add(1))
}

/// Puts the next older page behind `records` and returns how many were new.
///
/// The page starts again with the records of the oldest time; as many of each as are there already are left out.
pub(crate) fn append_older(records: &mut Vec<Record>, page: Vec<Record>) -> usize {
    let Some(oldest) = records.last().map(|record| record.timestamp_ns) else {
        records.extend(page);
        return records.len();
    };
    let mut known: BTreeMap<u64, usize> = BTreeMap::new();
    for record in records.iter().rev().take_while(|record| record.timestamp_ns == oldest) {
        *known.entry(record.id).or_default() += 1;
    }
    let before = records.len();
    records.extend(page.into_iter().filter(|record| {
        if record.timestamp_ns > oldest {
            return false;
        }
        match known.get_mut(&record.id).filter(|count| **count > 0 && record.timestamp_ns == oldest) {
            Some(count) => {
                *count -= 1;
                false
            }
            None => true,
        }
    }));
    records.len() - before
}

/// Puts records that have just come before `records` and drops the oldest beyond `max`. Returns how many were dropped.
pub(crate) fn prepend_newer(records: &mut Vec<Record>, mut newer: Vec<Record>, max: usize) -> usize {
    newer.append(records);
    // A late record may be older than what is shown; the sort is stable and nearly free on sorted input.
    newer.sort_by_key(|record| std::cmp::Reverse(record.timestamp_ns));
    let dropped = newer.len().saturating_sub(max);
    newer.truncate(max);
    *records = newer;
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(timestamp_ns: i64, line: &str) -> Entry {
        Entry { timestamp_ns, line: line.to_owned(), labels: None }
    }

    fn stream(name: &str, values: Vec<Entry>) -> Stream {
        Stream { stream: LabelMap::from([("service_name".to_owned(), name.to_owned())]), values }
    }

    fn lines(records: &[Record]) -> String {
        records.iter().map(|r| r.line.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// A server with these records, asked as the list asks it.
    fn page(all: &[Record], end_ns: i64, limit: usize) -> Vec<Record> {
        all.iter().filter(|r| r.timestamp_ns < end_ns).take(limit).cloned().collect()
    }

    #[test]
    fn streams_are_merged_newest_first() {
        let records = newest_first(vec![
            stream("a", vec![entry(3, "a3"), entry(1, "a1")]),
            stream("b", vec![entry(2, "b2"), entry(3, "b3")]),
        ]);
        assert_eq!(lines(&records), "a3 b3 b2 a1");
        assert_ne!(records[0].id, records[1].id);
    }

    #[test]
    fn paging_neither_skips_nor_repeats() {
        let entries = (0..500_i64).rev().map(|i| entry(i / 3, if i % 6 == 0 { "same" } else { "x" })).collect();
        let all = newest_first(vec![stream("a", entries)]);
        for limit in [4, 7, 100, 1_000] {
            let mut records = page(&all, i64::MAX, limit);
            loop {
                let older = page(&all, next_page_end_ns(&records).unwrap(), limit);
                if append_older(&mut records, older) == 0 {
                    break;
                }
            }
            assert_eq!(records.len(), all.len(), "limit {limit}");
            assert_eq!(lines(&records), lines(&all), "limit {limit}");
        }
    }

    #[test]
    fn a_page_that_brings_nothing_new_says_so() {
        let mut records = newest_first(vec![stream("a", vec![entry(1, "x"), entry(1, "x")])]);
        let page = records.clone();
        assert_eq!(append_older(&mut records, page), 0);
        assert_eq!(append_older(&mut records, Vec::new()), 0);
        let mut none = Vec::new();
        assert_eq!(append_older(&mut none, records), 2);
    }

    #[test]
    fn following_keeps_the_newest() {
        let mut records = newest_first(vec![stream("a", vec![entry(5, "5"), entry(4, "4"), entry(3, "3")])]);
        let newer = newest_first(vec![stream("a", vec![entry(7, "7"), entry(2, "late")])]);
        assert_eq!(prepend_newer(&mut records, newer, 4), 1);
        assert_eq!(lines(&records), "7 5 4 3");
    }

    #[test]
    fn severity_is_found_wherever_it_is() {
        let mut with = entry(1, "x");
        let metadata = LabelMap::from([("severity_text".to_owned(), "WARN".to_owned())]);
        with.labels = Some(query_wire::loki::EntryLabels { structured_metadata: metadata, parsed: LabelMap::new() });
        let records = newest_first(vec![stream("a", vec![with, entry(0, "y")])]);
        assert_eq!((records[0].severity, records[1].severity), (Severity::Warn, Severity::Unset));
        assert_eq!(records[0].get("severity_text"), Some("WARN"));
        assert_eq!(records[0].get("service_name"), Some("a"));
    }
}
