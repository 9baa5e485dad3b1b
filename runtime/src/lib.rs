//! What every part runs on: a clock, shutdown, the CPU pool, memory budgets, and the stack's own telemetry.
//!
//! It knows nothing of labels, logs or storage.

mod budget;
mod clock;
mod cpu;
mod events;
mod ledger;
mod shutdown;
mod telemetry;

pub use budget::{MemoryBudget, OverBudget, Reservation};
pub use clock::Clock;
pub use cpu::CpuPool;
pub use events::{EventCopy, LogFormat, OwnEvent, init_logs};
pub use ledger::{Ledger, LedgerEntry, Signal};
pub use shutdown::Shutdown;
pub use telemetry::{Counter, CounterVec, FloatCounter, Gauge, GaugeVec, Histogram, HistogramVec, Telemetry};
