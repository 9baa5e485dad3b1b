//! What pages are made of.

pub(crate) mod host_card;
pub(crate) mod icon;
pub(crate) mod ledger_strip;
pub(crate) mod legend;
pub(crate) mod lines_around;
pub(crate) mod link;
pub(crate) mod log_row;
pub(crate) mod observe;
pub(crate) mod pick;
pub(crate) mod promql_editor;
pub(crate) mod record_detail;
pub(crate) mod severity_filter;
pub(crate) mod shell;
pub(crate) mod shortcuts;
pub(crate) mod states;
pub(crate) mod stream_builder;
pub(crate) mod time_picker;
pub(crate) mod value_table;
pub(crate) mod virtual_list;
