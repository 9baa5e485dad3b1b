//! The three indexes of a block, all at page granularity. Each says only "perhaps": the page is decoded and its rows
//! are tested by whoever asked. Layout: docs/format/logs-block.md.

mod bits;
mod builder;
mod filters;
mod ids;
mod marks;
mod page_set;
mod place;
mod search;
mod seen;
mod trigrams;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use builder::IndexBuilder;
pub(crate) use ids::Ids;
pub(crate) use page_set::PageSet;
pub(crate) use place::{Place, ReadAt};
pub(crate) use search::{Sections, Unusable, pages_of};
pub(crate) use trigrams::Trigrams;
pub(crate) use words::Words;
