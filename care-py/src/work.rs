//! Work without Python's lock: other Python threads run meanwhile, Ctrl-C stops it, and it survives a fork.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use care_core::Result;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::raise;

/// How often signals are looked for.
const INTERVAL: Duration = Duration::from_millis(50);

/// The process whose threads rayon's global pool has.
static FIRST: OnceLock<u32> = OnceLock::new();

/// The pool of a process that was forked off after the first use, which has none of its parent's threads.
static FORKED: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// Runs `work`, which calls its argument often. There an exception of a signal handler, e.g. of Ctrl-C, ends the work: it
/// unwinds like a panic, but is not reported as one.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut()) -> Result<T> + Send,
) -> PyResult<T> {
    let pool = forked_pool()?;
    let work = || {
        let mut looked = Instant::now();
        work(&mut || {
            if looked.elapsed() >= INTERVAL {
                looked = Instant::now();
                if let Err(exception) = Python::attach(|py| py.check_signals()) {
                    resume_unwind(Box::new(exception));
                }
            }
        })
    };
    let caught = py.detach(|| {
        catch_unwind(AssertUnwindSafe(|| match &pool {
            None => work(),
            Some(pool) => pool.install(work),
        }))
    });
    match caught {
        Ok(outcome) => outcome.map_err(raise),
        Err(panic) => match panic.downcast::<PyErr>() {
            Ok(exception) => Err(*exception),
            Err(panic) => resume_unwind(panic),
        },
    }
}

/// The pool of a process that was forked off after the first use; `None` in that of the first use.
fn forked_pool() -> PyResult<Option<Arc<ThreadPool>>> {
    let process = std::process::id();
    if *FIRST.get_or_init(|| process) == process {
        return Ok(None);
    }
    let mut forked = FORKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, pool)) = &*forked
        && *owner == process
    {
        return Ok(Some(pool.clone()));
    }
    let pool = ThreadPoolBuilder::new().build().map_err(|e| PyRuntimeError::new_err(e.to_string()))?;
    let pool = Arc::new(pool);
    // Dropping the pool of a parent would wake threads that are not here.
    std::mem::forget(forked.replace((process, pool.clone())));
    Ok(Some(pool))
}
