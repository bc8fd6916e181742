//! Ctrl-C ends work in order the first time, and the program the second time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::stderr::note;

/// A flag that Ctrl-C sets. The first time, work goes on to the end of `unfinished`, which a line names if it is set; the
/// second time, the program exits immediately.
pub(crate) fn stop_on_ctrl_c(unfinished: Option<&'static str>) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        if let Some(unfinished) = unfinished {
            note!("stopping after {unfinished}; press Ctrl-C again to stop immediately");
        }
    })
    .context("cannot install a handler for Ctrl-C")?;
    Ok(stop)
}
