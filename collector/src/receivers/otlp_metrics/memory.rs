//! What the receiver of OTLP metrics keeps from request to request.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use collector_otlp::metrics::Remembered;
use model::Timestamp;
use parking_lot::RwLock;
use storage_api::{KeyMaker, SeriesKey};

/// Most metrics of which it is known that storage has their metadata.
const METRICS_MAX: usize = 200_000;
/// Most resources whose labels are known to be sound.
const RESOURCES_MAX: usize = 100_000;

/// All is forgotten after this time, so that metadata is told again, in case that storage lost it with its series.
const REMEMBERED_FOR_NS: i64 = 600_000_000_000;

/// What the receiver keeps.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) keys: KeyMaker,
    /// Never held over anything else.
    seen: RwLock<Seen>,
}

/// Passes a key through: it is a hash already.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash will do")]
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

/// What was seen in requests that were stored. A clone shares it until one of the two changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    since: Timestamp,
    /// The metrics whose metadata storage has, whoever emitted them.
    metrics: Arc<HashSet<SeriesKey, BuildKeyHasher>>,
    /// The resources whose labels are sound, and whether they have a `target_info`.
    resources: Arc<HashMap<SeriesKey, bool, BuildKeyHasher>>,
}

/// What is to be noted when a request is stored.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) metrics: Vec<SeriesKey>,
    pub(super) resources: Vec<(SeriesKey, bool)>,
}

impl Seen {
    pub(super) fn has_metric(&self, key: SeriesKey) -> bool {
        self.metrics.contains(&key)
    }

    pub(super) fn resource(&self, key: SeriesKey) -> Remembered {
        match self.resources.get(&key) {
            Some(has_target) => Remembered::Sound { has_target: *has_target },
            None => Remembered::Nothing,
        }
    }

    fn note(&mut self, news: News, now: Timestamp) {
        let is_over = self.metrics.len() + news.metrics.len() > METRICS_MAX
            || self.resources.len() + news.resources.len() > RESOURCES_MAX;
        if is_over || now.0.saturating_sub(self.since.0) > REMEMBERED_FOR_NS {
            *self = Self { since: now, ..Self::default() };
        }
        if !news.metrics.is_empty() {
            Arc::make_mut(&mut self.metrics).extend(news.metrics.into_iter().take(METRICS_MAX));
        }
        if !news.resources.is_empty() {
            Arc::make_mut(&mut self.resources).extend(news.resources.into_iter().take(RESOURCES_MAX));
        }
    }
}

impl Memory {
    /// Returns what was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.read().clone()
    }

    /// Notes what a request that was stored has told.
    pub(super) fn note(&self, news: News, now: Timestamp) {
        if !news.metrics.is_empty() || !news.resources.is_empty() {
            self.seen.write().note(news, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(memory: &Memory, metrics: &[u128], resources: &[(u128, bool)]) {
        let seen = memory.seen();
        let have: HashSet<u128> = seen.metrics.iter().map(|key| key.0).collect();
        assert_eq!(have, metrics.iter().copied().collect());
        let have: HashMap<u128, bool> = seen.resources.iter().map(|(key, has)| (key.0, *has)).collect();
        assert_eq!(have, resources.iter().copied().collect());
    }

    fn news(metrics: &[u128], resources: &[(u128, bool)]) -> News {
        let resources = resources.iter().map(|(key, has)| (SeriesKey(*key), *has));
        News { metrics: metrics.iter().map(|key| SeriesKey(*key)).collect(), resources: resources.collect() }
    }

    #[test]
    fn what_was_seen_is_forgotten_after_a_while_and_when_it_is_too_much() {
        let memory = Memory::default();
        let start = Timestamp(1_700_000_000_000_000_000);
        memory.note(news(&[1, 2], &[(1, true)]), start);
        memory.note(news(&[3], &[(2, false)]), Timestamp(start.0 + REMEMBERED_FOR_NS));
        check(&memory, &[1, 2, 3], &[(1, true), (2, false)]);
        let seen = memory.seen();
        assert_eq!(seen.resource(SeriesKey(1)), Remembered::Sound { has_target: true });
        assert_eq!(seen.resource(SeriesKey(3)), Remembered::Nothing);
        let later = Timestamp(start.0 + REMEMBERED_FOR_NS + 1);
        memory.note(news(&[4], &[]), later);
        check(&memory, &[4], &[]);
        assert!(seen.has_metric(SeriesKey(1)), "a request goes on with what it began with");
        let many: Vec<u128> = (0..METRICS_MAX as u128 + 9).collect();
        memory.note(news(&many, &[(5, true)]), later);
        check(&memory, &many[..METRICS_MAX], &[(5, true)]);
        memory.note(news(&[u128::MAX], &[]), later);
        check(&memory, &[u128::MAX], &[]);
    }
}
