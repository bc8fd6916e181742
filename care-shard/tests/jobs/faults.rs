//! Four workers, of which a hundred are killed: every row has exactly one vector.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use care_shard::object_store::ObjectStore;
use care_shard::object_store::local::LocalFileSystem;
use care_shard::object_store::memory::InMemory;
use care_shard::{Job, Worker, WorkerOptions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::embedders::Hashing;
use super::faulty::{Faults, Faulty, SimulatedClock};
use super::{JOB, corpus, merged, options, plan, stores};

const KILLS: i64 = 100;
const TOWER: Hashing = Hashing("tower-1");

/// Starts workers one after the other; each is killed after some operations as long as there are kills left.
fn keep_working(store: &Arc<dyn ObjectStore>, clock: &SimulatedClock, faults: Faults, seed: u64, kills: &AtomicI64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let left = (kills.load(Ordering::SeqCst) > 0).then(|| random.random_range(1..25));
        let faulty = Faulty::new(store.clone(), clock.clone(), faults, random.random(), left);
        let stores = stores(Arc::new(faulty));
        let run = Job::open(&stores, JOB).and_then(|job| {
            let mut worker = Worker::with_clock(&job, &TOWER, WorkerOptions::default(), Box::new(clock.clone()))?;
            worker.run(&mut |_| ControlFlow::Continue(()))
        });
        match run {
            Ok(_) => return,
            Err(e) => {
                assert!(left.is_some(), "{e}");
                kills.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

fn check(store: Arc<dyn ObjectStore>, faults: Faults, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    let healthy = stores(store.clone());
    let job = plan(&healthy, folder.path(), &TOWER, &options().with_shard_bytes(Some(1000)));
    assert!(job.plan().shards.len() > 100);
    let (clock, kills) = (SimulatedClock::default(), AtomicI64::new(KILLS));
    thread::scope(|scope| {
        for worker in 0..4 {
            let (store, clock, kills) = (&store, &clock, &kills);
            scope.spawn(move || keep_working(store, clock, faults, 10 * seed + worker, kills));
        }
    });
    let found = job.verify(true, &mut |_| ()).unwrap();
    assert!(found.is_complete() && found.rows == corpus::ROWS as u64, "{found:?}");
    assert_eq!(merged(&job), corpus::expected(&TOWER), "seed {seed}");
    assert!(kills.load(Ordering::SeqCst) <= 0, "{kills:?} of {KILLS} workers were not killed");
    job.repair(&found).unwrap();
    let found = job.verify(true, &mut |_| ()).unwrap();
    assert!(found.is_complete() && found.leftovers.is_empty(), "{found:?}");
}

#[test]
fn a_hundred_killed_workers_lose_and_double_no_row_in_memory() {
    for seed in 0..5 {
        check(Arc::new(InMemory::new()), Faults::default(), seed);
    }
}

#[test]
fn a_hundred_killed_workers_lose_and_double_no_row_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    check(Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap()), Faults::default(), 7);
}

#[test]
fn wrong_clocks_slow_writes_and_doubled_claims_change_no_row() {
    for seed in 20..24 {
        let faults = Faults { slow: 5, duplicated: 2, skew_minutes: 60 };
        check(Arc::new(InMemory::new()), faults, seed);
    }
}
