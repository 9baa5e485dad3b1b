//! Charts: pure functions for scales, ticks, thinning, stacking and colours, and a component that draws with them.

pub(crate) mod chart;
pub(crate) mod draw;
pub(crate) mod frame;
pub(crate) mod palette;
pub(crate) mod scale;
pub(crate) mod series;
pub(crate) mod sparkline;
pub(crate) mod ticks;
pub(crate) mod units;
