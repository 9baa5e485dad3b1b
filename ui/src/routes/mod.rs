//! The pages, one for each path.

pub(crate) mod home;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod not_found;
