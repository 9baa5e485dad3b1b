//! The records of the page: the newest first, older ones page by page.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::Place;
use crate::api::{Failure, Load, Request, fetch, load, log_records};
use crate::state::records::{Record, append_older, next_page_end_ns, prepend_newer};

/// Records asked for at once.
const PAGE_SIZE: usize = 500;
/// Most records at one instant that are paged through.
const PAGE_SIZE_MAX: usize = 5_000;
/// Most records kept: some hundred megabytes with long lines.
pub(super) const RECORDS_MAX: usize = 100_000;
/// Most records kept while following.
pub(super) const RECORDS_LIVE_MAX: usize = 10_000;

/// The records and how far they go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feed {
    /// The newest page.
    pub(super) first: Load<Vec<Record>>,
    /// All records so far, newest first.
    pub(super) records: RwSignal<Arc<Vec<Record>>>,
    /// Whether an older page is on its way.
    pub(super) is_loading_older: RwSignal<bool>,
    /// Why the last older page did not come.
    pub(super) older_failure: RwSignal<Option<Failure>>,
    is_complete: RwSignal<bool>,
    trimmed: RwSignal<usize>,
    page_size: StoredValue<usize>,
    /// Counts first pages, so that an older page for another query is not taken.
    generation: StoredValue<u64>,
    place: Place,
}

fn nanoseconds(ms: i64) -> i64 {
    ms.saturating_mul(1_000_000)
}

impl Feed {
    /// Follows the query and the time range.
    pub(super) fn new(place: Place) -> Self {
        let span = place.app.span();
        let first = load(
            move || {
                let span = span.get();
                let (from, to) = (nanoseconds(span.from_ms), nanoseconds(span.to_ms));
                Some(Request::log_page(&place.query.read(), from, to, PAGE_SIZE))
            },
            log_records,
        );
        let feed = Self {
            first,
            records: RwSignal::new(Arc::default()),
            is_loading_older: RwSignal::new(false),
            older_failure: RwSignal::new(None),
            is_complete: RwSignal::new(false),
            trimmed: RwSignal::new(0),
            page_size: StoredValue::new(PAGE_SIZE),
            generation: StoredValue::new(0),
            place,
        };
        Effect::new(move |_| {
            let page = first.value.get().unwrap_or_default();
            feed.generation.update_value(|n| *n += 1);
            feed.page_size.set_value(PAGE_SIZE);
            feed.is_complete.set(page.len() < PAGE_SIZE);
            feed.trimmed.set(0);
            feed.older_failure.set(None);
            feed.records.set(page);
        });
        // The rows of another query must not stay under the new one while it fails.
        Effect::new(move |before: Option<String>| {
            let query = place.query.get();
            if before.is_some_and(|before| before != query) {
                first.value.set(None);
            }
            query
        });
        feed
    }

    /// Asks for the next older page, unless there is none, or one is on its way already, or the last one failed.
    pub(super) fn load_older(self) {
        let is_full = self.records.with_untracked(|records| records.len() >= RECORDS_MAX);
        if self.is_complete.get_untracked()
            || self.is_loading_older.get_untracked()
            || self.first.is_loading.get_untracked()
            || is_full
        {
            return;
        }
        let Some(end_ns) = self.records.with_untracked(|records| next_page_end_ns(records)) else { return };
        let (query, span) = (self.place.query.get_untracked(), self.place.app.span().get_untracked());
        let (generation, size) = (self.generation.get_value(), self.page_size.get_value());
        self.is_loading_older.set(true);
        self.older_failure.set(None);
        spawn_local(async move {
            let request = Request::log_page(&query, nanoseconds(span.from_ms), end_ns, size);
            let outcome = fetch(request, log_records).await;
            // The page may have been left, or the query changed.
            if self.is_loading_older.try_set(false).is_some() || self.generation.try_get_value() != Some(generation) {
                return;
            }
            match outcome {
                Ok(page) => self.take(page, size),
                Err(failure) => self.older_failure.set(Some(failure)),
            }
        });
    }

    fn take(self, page: Vec<Record>, asked: usize) {
        let is_last = page.len() < asked;
        let mut added = 0;
        self.records.update(|records| added = append_older(Arc::make_mut(records), page));
        if is_last {
            self.is_complete.set(true);
        } else if added == 0 {
            // A whole page at one instant: only a larger one can get past it.
            if asked >= PAGE_SIZE_MAX {
                self.is_complete.set(true);
                let message =
                    format!("more than {PAGE_SIZE_MAX} records at one instant; narrow the query to see older ones");
                self.older_failure.set(Some(Failure { message, is_bad_query: true }));
            } else {
                self.page_size.set_value((asked * 2).min(PAGE_SIZE_MAX));
                self.load_older();
            }
        }
    }

    /// Puts records that have just come at the top.
    pub(super) fn take_newer(self, newer: Vec<Record>) {
        let mut dropped = 0;
        self.records.update(|records| dropped = prepend_newer(Arc::make_mut(records), newer, RECORDS_LIVE_MAX));
        if dropped > 0 {
            // The list no longer reaches back to where older pages start.
            self.is_complete.set(false);
            self.trimmed.update(|n| *n += dropped);
        }
    }

    /// Returns what is to be said about the end of the list.
    pub(super) fn note(self) -> Option<String> {
        let count = self.records.with(|records| records.len());
        let trimmed = self.trimmed.get();
        if trimmed > 0 {
            Some(format!("The newest {count} records are shown; {trimmed} older ones left the list while following."))
        } else if count >= RECORDS_MAX {
            Some(format!("The newest {count} records are shown; narrow the time range to see older ones."))
        } else if count > 0 && self.is_complete.get() {
            Some(format!("All {count} records of this range are shown."))
        } else {
            None
        }
    }
}
