//! The time that a worker measures by itself.

use std::thread;
use std::time::{Duration, Instant};

/// Measures time on this machine. Leases never compare it with another machine's.
pub trait Clock: Send + Sync {
    /// The time since some moment; it never runs backwards.
    fn now(&self) -> Duration;

    /// Lets time pass.
    fn sleep(&self, time: Duration);
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}
