//! State that views share: where the user is, the time range, refreshing, the theme; and the records of a list.

pub(crate) mod context;
pub(crate) mod hosts;
pub(crate) mod location;
pub(crate) mod records;
pub(crate) mod services;
pub(crate) mod severity;
pub(crate) mod time;
pub(crate) mod window;
