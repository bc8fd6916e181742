//! When a shard is taken over, and what its first owner does then.

use std::ops::ControlFlow;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use care_shard::{Clock, Job, Worker, WorkerOptions, WorkerState};

use super::embedders::{Before, Hashing};
use super::faulty::SimulatedClock;
use super::{corpus, in_memory, merged, options, plan, work};

const TOWER: Hashing = Hashing("tower-1");

/// A job, and the folder of its corpus.
fn job() -> (tempfile::TempDir, Job) {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    let job = plan(&in_memory(), folder.path(), &TOWER, &options());
    (folder, job)
}

fn with_clock<'a>(job: &Job, embedder: &'a dyn care_core::Embedder, clock: &SimulatedClock) -> Worker<'a> {
    Worker::with_clock(job, embedder, WorkerOptions::default(), Box::new(clock.clone())).unwrap()
}

#[test]
fn a_shard_whose_owner_is_silent_for_a_lease_is_taken_over_and_the_owner_notices() {
    let ((_folder, job), clock, second) = (job(), SimulatedClock::default(), Mutex::new(WorkerState::default()));
    // While the first worker embeds its first group, the second one does everything.
    let slow = Before::new(|| {
        let state = with_clock(&job, &TOWER, &clock).run(&mut |_| ControlFlow::Continue(())).unwrap();
        assert!(clock.now() >= Duration::from_secs(300), "{:?}", clock.now());
        *second.lock().unwrap() = state;
    });
    let first = with_clock(&job, &slow, &clock).run(&mut |_| ControlFlow::Continue(())).unwrap();
    let second = second.lock().unwrap().clone();
    assert_eq!((first.shards, first.lost, second.lost), (0, 1, 0));
    assert_eq!((second.shards as usize, second.rows), (job.plan().shards.len(), 1000));
    assert_eq!(merged(&job), corpus::expected(&TOWER));
    assert!(job.verify(false, &mut |_| ()).unwrap().leftovers.is_empty());
}

#[test]
fn a_shard_whose_owner_was_seen_lately_is_left_alone() {
    let ((_folder, job), clock) = (job(), SimulatedClock::default());
    let busy = Before::new(|| {
        let begin = clock.now();
        let mut second = with_clock(&job, &TOWER, &clock);
        // It gives up just before the time of a lease has passed.
        let state = second.run(&mut |progress| match progress.shard {
            None if clock.now() > begin + Duration::from_secs(270) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        assert_eq!(state.unwrap().shards as usize, job.plan().shards.len() - 1);
    });
    let first = with_clock(&job, &busy, &clock).run(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((first.shards, first.lost), (1, 0));
}

#[test]
fn the_end_of_the_last_shard_is_noticed_within_a_second() {
    let ((_folder, job), clock) = (job(), SimulatedClock::default());
    let ((started, has_started), (release, is_released)) = (mpsc::channel(), mpsc::channel());
    // The first worker is in its first shard until the second has nothing left but to wait for it.
    let first = Before::new(move || {
        started.send(()).unwrap();
        is_released.recv().unwrap();
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| with_clock(&job, &first, &clock).run(&mut |_| ControlFlow::Continue(())).unwrap());
        has_started.recv().unwrap();
        let mut first = Some(first);
        let second = with_clock(&job, &TOWER, &clock).run(&mut |progress| {
            if let Some(first) = first.take_if(|_| progress.shard.is_none()) {
                release.send(()).unwrap();
                assert_eq!(first.join().unwrap().shards, 1);
            }
            ControlFlow::Continue(())
        });
        assert_eq!(second.unwrap().shards as usize, job.plan().shards.len() - 1);
    });
    assert!(clock.now() < Duration::from_secs(1), "{:?}", clock.now());
    assert_eq!(merged(&job), corpus::expected(&TOWER));
}

#[test]
fn a_worker_that_is_stopped_leaves_its_shard_free() {
    let ((_folder, job), clock) = (job(), SimulatedClock::default());
    let mut shards = 0;
    let state = with_clock(&job, &TOWER, &clock).run(&mut |progress| {
        shards = progress.state.shards;
        if shards == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(state.unwrap().ended);
    let second = with_clock(&job, &TOWER, &clock).run(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((clock.now(), second.shards as usize), (Duration::ZERO, job.plan().shards.len() - 3));
}

#[test]
fn status_counts_shards_rows_and_workers() {
    let (_folder, job) = job();
    let lease = Duration::from_secs(300);
    let before = job.status(lease).unwrap();
    assert_eq!((before.committed, before.rows, before.seconds_left), (0, 0, None));
    let stopped = Worker::new(&job, &TOWER, WorkerOptions::default()).unwrap().run(&mut |progress| {
        let status = job.status(lease).unwrap();
        assert_eq!((status.claimed, status.workers.len()), (1, 1));
        assert_eq!(status.seconds_left.is_some(), status.committed > 0);
        if progress.state.shards == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let half = job.status(lease).unwrap();
    assert_eq!((half.committed, half.claimed, half.seconds_left), (2, 0, None));
    assert!(half.committed_bytes > 0.0 && half.committed_bytes < half.bytes);
    let second = work(&job, &TOWER).unwrap();
    let done = job.status(lease).unwrap();
    assert_eq!((done.committed, done.shards, done.rows), (done.shards, job.plan().shards.len(), 1000));
    assert!((done.committed_bytes - done.bytes).abs() < 1.0);
    assert!((done.worker_seconds - stopped.unwrap().seconds - second.seconds).abs() < 1e-6);
    assert!((done.cost(3600.0) - done.worker_seconds).abs() < 1e-9);
}
