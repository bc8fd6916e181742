//! Work on threads that may block, within the limits of the request that it is for.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use crate::failure::{Failure, Kind};

tokio::task_local! {
    /// The request's place among those that are answered at once; `None` for one that needs none.
    pub(crate) static PLACE: Option<Arc<OwnedSemaphorePermit>>;
}

/// Runs `work` on a thread that may block. Once begun it ends, also if the request is given up, and keeps the request's
/// place until then; what was not begun for a request that is given up is never run.
///
/// # Errors
/// As `work`; [`Kind::Backend`] if it panics.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let place = PLACE.try_with(Clone::clone).ok().flatten();
    // Dropping the set cancels a task that was not begun.
    let mut task = JoinSet::new();
    task.spawn_blocking(move || {
        let _place = place;
        work()
    });
    let done = task.join_next().await.expect("a task was spawned");
    done.map_err(|e| Failure::new(Kind::Backend, e))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use tokio::sync::{Semaphore, oneshot};

    #[test]
    fn what_has_begun_keeps_its_place_and_what_has_not_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("starts");
        runtime.block_on(async {
            let places = Arc::new(Semaphore::new(2));
            let place = || Some(Arc::new(places.clone().try_acquire_owned().expect("a free place")));
            let ((begin, begun), (open, gate)) = (oneshot::channel(), mpsc::channel());
            let first = tokio::spawn(PLACE.scope(
                place(),
                blocking(move || {
                    begin.send(()).expect("the test waits");
                    gate.recv().expect("the test opens the gate");
                    Ok(())
                }),
            ));
            begun.await.expect("begins");
            let ran = Arc::new(AtomicBool::new(false));
            let runs = ran.clone();
            let second = tokio::spawn(PLACE.scope(
                place(),
                blocking(move || {
                    runs.store(true, Ordering::Relaxed);
                    Ok(())
                }),
            ));
            // It waits behind the first one.
            tokio::task::yield_now().await;
            for given_up in [first, second] {
                given_up.abort();
                assert!(given_up.await.expect_err("aborted").is_cancelled());
            }
            assert!(places.available_permits() < 2, "the first one is still at work");
            open.send(()).expect("it waits at the gate");
            while places.available_permits() < 2 {
                tokio::task::yield_now().await;
            }
            // The pool's only thread is free, so what waited would have run.
            blocking(|| Ok(())).await.expect("runs");
            assert!(!ran.load(Ordering::Relaxed));
        });
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let failure = blocking::<()>(|| panic!("no such row")).await.expect_err("panics");
        assert_eq!(failure.kind, Kind::Backend);
        assert!(failure.message.contains("no such row"), "{}", failure.message);
    }
}
