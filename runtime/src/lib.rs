//! What every part runs on: a clock, shutdown, the CPU pool, memory budgets, and the stack's own telemetry.
//!
//! It knows nothing of labels, logs or storage.

mod budget;
mod clock;
mod cpu;
mod ledger;
mod shutdown;
mod telemetry;

pub use budget::{MemoryBudget, OverBudget, Reservation};
pub use clock::Clock;
pub use cpu::CpuPool;
pub use ledger::{Ledger, LedgerEntry, Signal};
pub use shutdown::Shutdown;
pub use telemetry::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, LogFormat, Telemetry, init_logs};
