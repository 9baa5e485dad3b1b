//! Immutable blocks: a folder with rows in Parquet, three indexes, counts and a catalog of pages and streams.
//! Layout: docs/format/logs-block.md.

mod cache;
mod catalog;
mod checked_file;
mod chunk;
mod counts;
mod delta;
mod encode;
mod fields;
mod files;
mod meta;
mod numbers;
mod page;
mod page_cache;
mod page_header;
mod pages;
mod reader;
mod rows;
mod rows_file;
mod rows_writer;
mod runs;
mod scratch;
mod sections;
mod writer;

pub(crate) use cache::Cache;
pub(crate) use catalog::{Catalog, StreamInfo};
pub(crate) use counts::{Counts, MINUTE_NS, SeverityCounts};
pub(crate) use files::{corrupt, read_checked, remove_block, remove_dir, rename, seal, sync_dir, unseal, write_file};
#[cfg(test)]
pub(crate) use meta::FileMeta;
pub(crate) use meta::{BlockMeta, META_FILE, Sequence};
pub(crate) use page_cache::PageCache;
pub(crate) use pages::LinesPage;
pub(crate) use reader::{Block, Detail, list};
pub(crate) use rows::{BODY_STR, Columns, RowView, line_of};
pub(crate) use writer::{BlockWriter, WriterOptions};

/// Rows in a page of any column; the unit of reading and of the indexes.
pub(crate) const PAGE_ROWS: u32 = 1024;
