//! Whether what lies beside a block's rows says the same as they do: its counts are theirs, and its indexes lead to them.

use std::collections::BTreeMap;

use storage_api::{Needle, Result};

use crate::block::{Block, Counts, MINUTE_NS, RowView, line_of};
use crate::json;
use crate::metadata::{Names, Pair, hex};

/// Of so many rows one is looked up in the indexes, beside the first one of a page: each costs a search.
const LOOK_UP_EVERY: u32 = 128;

/// Records and bytes of their lines by severity, its text, and half minute.
type Sums = BTreeMap<(u8, String, i64), (u64, u64)>;

/// Checks rows as they come, one after the other.
pub(crate) struct CrossCheck<'a> {
    block: &'a Block,
    counts: &'a Counts,
    /// The number of the stream whose rows come.
    stream: usize,
    sums: Sums,
}

impl<'a> CrossCheck<'a> {
    pub(crate) fn new(block: &'a Block, counts: &'a Counts) -> Self {
        Self { block, counts, stream: 0, sums: Sums::new() }
    }

    /// Looks at a row: `number` is its own in the page `page`.
    pub(crate) fn row(&mut self, row: &RowView<'_>, page: usize, number: u32) -> Result<()> {
        let line = line_of(row.body_type, row.body).map_err(|error| self.block.malformed(error.0))?;
        let at_start = row.timestamp.rem_euclid(MINUTE_NS) == 0;
        let key = row.timestamp.div_euclid(MINUTE_NS) * 2 + i64::from(!at_start);
        let sum = self.sums.entry((row.severity_number, row.severity_text.to_owned(), key)).or_default();
        *sum = (sum.0 + 1, sum.1 + line.len() as u64);
        if !number.is_multiple_of(LOOK_UP_EVERY) {
            return Ok(());
        }
        let mut fields: Vec<Pair> = Vec::new();
        for (name, value) in json::parse_pairs(row.attributes).map_err(|error| self.block.malformed(error.0))? {
            Names::default().flatten(&mut fields, "", &name, &value);
        }
        let fields = fields.into_iter().map(|(name, value)| (name.to_string(), Some(value.into())));
        let ids = [("trace_id", hex(&row.trace_id)), ("span_id", hex(&row.span_id))];
        let ids = ids.into_iter().map(|(name, value)| (name.to_owned(), value));
        let of_field = |(name, value)| Some(Needle::Field { name, value: value? });
        for needle in ids.chain(fields).filter_map(of_field).chain([Needle::Line(line.to_string())]) {
            let page = u32::try_from(page).unwrap_or(u32::MAX);
            if self.block.candidates(&[needle]).is_none_or(|pages| !pages.contains(page)) {
                return Err(self.block.malformed("an index that leads to every row"));
            }
        }
        Ok(())
    }

    /// Compares the counts of a stream all of whose rows have come.
    pub(crate) fn stream_ends(&mut self) -> Result<()> {
        let mut kept = Sums::new();
        for counts in self.counts.streams.get(self.stream).map(Vec::as_slice).unwrap_or_default() {
            for (i, key) in counts.keys.iter().enumerate() {
                let sum = (counts.records(i, i + 1), counts.bytes(i, i + 1));
                kept.insert((counts.severity_number, self.counts.text(counts.text).to_owned(), *key), sum);
            }
        }
        self.stream += 1;
        let sums = std::mem::take(&mut self.sums);
        // The first version knew no texts, and a minute only as a whole.
        let is_first = || kept.keys().all(|(_, text, key)| text.is_empty() && key % 2 != 0);
        if kept == sums || is_first() && kept == coarse(sums) {
            Ok(())
        } else {
            Err(self.block.malformed("counts that are those of the rows"))
        }
    }
}

/// Sums up over texts, and over minutes.
fn coarse(sums: Sums) -> Sums {
    let mut out = Sums::new();
    for ((severity, _, key), (records, bytes)) in sums {
        let sum = out.entry((severity, String::new(), key | 1)).or_default();
        *sum = (sum.0 + records, sum.1 + bytes);
    }
    out
}
