//! The rows of a page that is being collected, column by column.

use super::rows::RowView;

/// Stands for no value in a column of keys.
pub(super) const NO_KEY: u32 = u32::MAX;

/// Texts one after the other.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    /// Forgets all; memory that one page made large is given back.
    fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Most memory of texts that a page keeps for the next one.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// A column of few distinct texts; the empty one is null.
#[derive(Debug, Default)]
pub(super) struct KeyedTexts {
    /// The number of the text, or [`NO_KEY`].
    pub(super) keys: Vec<u32>,
    pub(super) texts: Vec<String>,
}

impl KeyedTexts {
    /// Adds a text; returns how many bytes it takes.
    fn push(&mut self, text: &str) -> usize {
        if text.is_empty() {
            self.keys.push(NO_KEY);
            return 0;
        }
        // Rows come by stream, so that the last value is nearly always the one.
        if let Some(&last) = self.keys.last()
            && self.texts.get(last as usize).is_some_and(|have| have == text)
        {
            self.keys.push(last);
            return 0;
        }
        let known = self.texts.iter().rposition(|have| have == text);
        let key = known.unwrap_or_else(|| {
            self.texts.push(text.to_owned());
            self.texts.len() - 1
        });
        self.keys.push(u32::try_from(key).unwrap_or(NO_KEY));
        if known.is_some() { 0 } else { text.len() }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.texts.clear();
    }
}

/// The rows of a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) timestamps: Vec<i64>,
    /// Whether there is an observed timestamp, and how much later it is.
    pub(super) has_delay: Vec<bool>,
    pub(super) delays: Vec<i64>,
    pub(super) stream_ids: Vec<u64>,
    pub(super) streams: KeyedTexts,
    pub(super) severity_numbers: Vec<u8>,
    pub(super) severity_texts: KeyedTexts,
    pub(super) bodies: Texts,
    pub(super) body_types: KeyedTexts,
    pub(super) has_attributes: Vec<bool>,
    pub(super) attributes: Texts,
    pub(super) resources: KeyedTexts,
    pub(super) scopes: KeyedTexts,
    pub(super) has_trace_id: Vec<bool>,
    pub(super) trace_ids: Vec<[u8; 16]>,
    pub(super) has_span_id: Vec<bool>,
    pub(super) span_ids: Vec<[u8; 8]>,
    pub(super) flags: Vec<u32>,
    pub(super) event_names: KeyedTexts,
    pub(super) dropped: Vec<u32>,
    text_bytes: usize,
}

impl Page {
    pub(super) fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Returns the bytes of texts, equal ones of columns with few of them once.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    pub(super) fn push(&mut self, stream_id: u64, stream: &str, row: &RowView<'_>) {
        self.timestamps.push(row.timestamp);
        self.has_delay.push(row.observed_timestamp != 0);
        if row.observed_timestamp != 0 {
            self.delays.push(row.observed_timestamp.wrapping_sub(row.timestamp));
        }
        self.stream_ids.push(stream_id);
        self.severity_numbers.push(row.severity_number);
        self.bodies.push(row.body);
        self.has_attributes.push(!row.attributes.is_empty());
        if !row.attributes.is_empty() {
            self.attributes.push(row.attributes);
        }
        push_id(&mut self.has_trace_id, &mut self.trace_ids, row.trace_id);
        push_id(&mut self.has_span_id, &mut self.span_ids, row.span_id);
        self.flags.push(row.flags);
        self.dropped.push(row.dropped_attributes_count);
        self.text_bytes += row.body.len() + row.attributes.len();
        self.text_bytes += self.streams.push(stream);
        self.text_bytes += self.severity_texts.push(row.severity_text);
        self.text_bytes += self.body_types.push(row.body_type);
        self.text_bytes += self.resources.push(row.resource);
        self.text_bytes += self.scopes.push(row.scope);
        self.text_bytes += self.event_names.push(row.event_name);
    }

    /// Makes room for the next page.
    pub(super) fn clear(&mut self) {
        self.timestamps.clear();
        self.has_delay.clear();
        self.delays.clear();
        self.stream_ids.clear();
        self.severity_numbers.clear();
        self.bodies.clear();
        self.has_attributes.clear();
        self.attributes.clear();
        self.has_trace_id.clear();
        self.trace_ids.clear();
        self.has_span_id.clear();
        self.span_ids.clear();
        self.flags.clear();
        self.dropped.clear();
        for texts in [
            &mut self.streams,
            &mut self.severity_texts,
            &mut self.body_types,
            &mut self.resources,
            &mut self.scopes,
            &mut self.event_names,
        ] {
            texts.clear();
        }
        self.text_bytes = 0;
    }
}

/// Adds an id; all zeros are none.
fn push_id<const N: usize>(has: &mut Vec<bool>, ids: &mut Vec<[u8; N]>, id: [u8; N]) {
    let is_there = id != [0; N];
    has.push(is_there);
    if is_there {
        ids.push(id);
    }
}
