//! The small towers of the integration tests, for use in unit tests.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[path = "../tests/common/mod.rs"]
pub(crate) mod common;

/// Lock for tests with dropout, which draws from a process-wide random generator.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
