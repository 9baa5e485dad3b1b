//! What the editors know of the query languages: tokens, what to offer next, how to put a log query together.

pub(crate) mod completion;
pub(crate) mod functions;
pub(crate) mod highlight;
pub(crate) mod logql;
pub(crate) mod token;
