//! Small towers for unit tests: those of the integration tests.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[path = "../tests/common/mod.rs"]
pub(crate) mod common;

/// To be held by a test with dropout, which draws from a generator that the whole process shares.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
