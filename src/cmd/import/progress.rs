//! Tells how far an import is, for those who wait for it.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line is drawn anew on a terminal, and how often one is written elsewhere.
const REDRAW: Duration = Duration::from_millis(500);
const REPEAT: Duration = Duration::from_secs(10);

/// Writes to stderr, so that stdout stays parseable. Short imports say nothing.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    told: Instant,
    /// The bytes of the text, where they are known.
    total: Option<u64>,
    is_terminal: bool,
    is_drawn: bool,
}

impl Progress {
    pub(super) fn new(total: Option<u64>) -> Self {
        let now = Instant::now();
        Self { started: now, told: now, total, is_terminal: std::io::stderr().is_terminal(), is_drawn: false }
    }

    /// Tells how much was read and stored, if it is time to.
    pub(super) fn tell(&mut self, bytes: u64, samples: u64) {
        if self.told.elapsed() < if self.is_terminal { REDRAW } else { REPEAT } {
            return;
        }
        self.told = Instant::now();
        let text = line(bytes, samples, self.total, self.started.elapsed());
        // A message that cannot be written is no reason to stop.
        drop(match self.is_terminal {
            true => write!(std::io::stderr(), "\r\x1b[K{text}"),
            false => writeln!(std::io::stderr(), "{text}"),
        });
        self.is_drawn = self.is_terminal;
    }

    /// Takes the line away, so that others can follow.
    pub(super) fn end(&self) {
        if self.is_drawn {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn line(bytes: u64, samples: u64, total: Option<u64>, elapsed: Duration) -> String {
    let megabytes = bytes as f64 / 1e6;
    let part = match total {
        Some(total) if total > 0 => format!("{:.0} %, ", (bytes as f64 / total as f64 * 100.0).min(100.0)),
        _ => String::new(),
    };
    let rate = samples as f64 / elapsed.as_secs_f64().max(0.001);
    format!("{part}{megabytes:.0} MB read, {samples} samples imported, {rate:.0}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_is_known() {
        let seconds = Duration::from_secs(2);
        assert_eq!(line(1 << 21, 10_000, Some(1 << 23), seconds), "25 %, 2 MB read, 10000 samples imported, 5000/s");
        assert_eq!(line(900_000, 10, None, seconds), "1 MB read, 10 samples imported, 5/s");
        assert_eq!(line(9, 1, Some(3), seconds), "100 %, 0 MB read, 1 samples imported, 0/s");
    }
}
