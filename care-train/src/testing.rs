//! The small towers of the integration tests, for use in unit tests.

use std::net::TcpListener;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::collective::{TcpGroup, Timeouts};

#[path = "../tests/common/mod.rs"]
pub(crate) mod common;

/// Lock for tests with dropout, which draws from a process-wide random generator.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` in as many processes as `count`, each a thread, connected over loopback. Returns the results by rank.
pub(crate) fn world<T: Send>(count: usize, timeouts: Timeouts, work: impl Fn(Arc<TcpGroup>) -> T + Sync) -> Vec<T> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port").to_string();
    let (address, work) = (&address, &work);
    thread::scope(|scope| {
        let join =
            |rank| scope.spawn(move || work(Arc::new(TcpGroup::join(address, rank, count, timeouts).expect("joined"))));
        let others: Vec<_> = (1..count).map(join).collect();
        let first = work(Arc::new(TcpGroup::host(&listener, count, timeouts, &mut || Ok(())).expect("all came")));
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        [first].into_iter().chain(others).collect()
    })
}
