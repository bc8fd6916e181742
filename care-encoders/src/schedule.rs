//! Scheduling: divides texts into forward passes and passes among threads.
//!
//! A [`Schedule`] follows from the lengths of the texts, the device and the number of threads. Kernels call
//! [`kernel_threads`] for the number of threads they may use.
//!
//! With the CPU's kernels, a pass is small enough for its activations to stay in a core's cache, and each pass runs on
//! one thread: no thread waits for another inside a layer. If there are too few passes for that, threads share the
//! layers of each pass; a short query to a small network stays on the thread that asks. Everywhere else (GPUs, 16-bit weights, training) passes are padded batches under a token
//! budget.

use std::cell::Cell;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, TryRecvError};

use burn::tensor::Device;

use crate::batch::length_buckets;
use crate::device::is_cpu;

/// Tokens per pass with the CPU's kernels: few enough for a layer's activations to stay in a core's cache.
const KERNEL_PASS_TOKENS: usize = 128;

/// Multiplications that are worth several threads: about 0.3 ms of work, where waking and joining threads costs 0.1 ms.
const WORTH_SHARING: usize = 1 << 26;

/// Largest number of concurrent passes outside the pool; more gain little and cost memory.
const MAX_CONCURRENT: usize = 8;

/// Tokens per pass of a training step with the CPU's kernels: enough for fast matmuls on every thread.
const TRAINING_PASS_TOKENS: usize = 4096;

/// Largest chunk of a training pass on the CPU in tokens, unless one text is longer: enough for fast matmuls.
const MAX_CHUNK_TOKENS: usize = 2048;
/// Smallest chunk of a training pass on the CPU in tokens.
const MIN_CHUNK_TOKENS: usize = 256;
/// Number of chunks of a training batch on the CPU, if its size allows.
const CHUNKS: usize = 4;

thread_local! {
    static SINGLE_THREADED: Cell<bool> = const { Cell::new(false) };
}

/// Number of threads that a kernel may use: those of rayon's pool, or 1 inside a single-threaded pass.
pub(crate) fn kernel_threads() -> usize {
    if SINGLE_THREADED.get() { 1 } else { rayon::current_num_threads() }
}

/// Runs `work` with kernels restricted to this thread.
fn single_threaded<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SINGLE_THREADED.set(self.0);
        }
    }
    let _restore = Restore(SINGLE_THREADED.replace(true));
    work()
}

/// Runs work on a thread of rayon's pool. From any other thread, every kernel would have to wake one and wait for it.
pub fn on_pool_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// Which passes run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Indices of the texts of each pass; every text is in one pass.
    passes: Vec<Vec<usize>>,
    threads: Threads,
}

/// How passes share the threads of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Threads {
    /// On the calling thread, one pass after the other.
    Caller,
    /// Each pass on one thread of rayon's pool, as many concurrently as there are threads.
    PassPerThread,
    /// Passes on rayon's pool that share its threads within each layer.
    Shared,
    /// This many concurrent passes, each on its own thread outside the pool, results in order. Their operations use the
    /// pool. For burn's operations, which leave cores idle between matmuls, and for passes that take a lock: a waiting
    /// thread of the pool may pick up another pass, a thread outside it does not.
    Outside(usize),
}

impl Schedule {
    /// The passes of inference. `varlen` states whether the network reads packed sequences, as it does on the CPU's
    /// kernels, and `token_cost` how many multiplications a token takes; `token_budget` is the largest number of tokens per
    /// pass, padding included, unless one text is longer.
    pub fn inference(lengths: &[usize], varlen: bool, device: &Device, token_cost: usize, token_budget: usize) -> Self {
        if !varlen {
            return Self { passes: length_buckets(lengths, token_budget), threads: outside(device) };
        }
        Self::kernels(lengths, rayon::current_num_threads(), token_cost, token_budget)
    }

    fn kernels(lengths: &[usize], threads: usize, token_cost: usize, token_budget: usize) -> Self {
        let total: usize = lengths.iter().sum();
        let order = longest_first(lengths);
        let passes = consecutive(&order, lengths, KERNEL_PASS_TOKENS.min(token_budget));
        if total.saturating_mul(token_cost) < WORTH_SHARING {
            return Self { passes, threads: Threads::Caller };
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        // Several passes per thread, and no text so long that the other threads wait for it.
        if passes.len() >= 2 * threads && longest * threads <= total {
            return Self { passes, threads: Threads::PassPerThread };
        }
        // About one pass per thread if there are enough tokens; idle threads help with the passes of others.
        let parts = (total / KERNEL_PASS_TOKENS).clamp(1, threads);
        let passes = consecutive(&order, lengths, total.div_ceil(parts).min(token_budget));
        Self { passes, threads: Threads::Shared }
    }

    /// The passes of a training step. They depend only on the texts and the kind of device, so that dropout and sums
    /// are the same on any number of cores. `varlen` states whether the network trains on the CPU's kernels: then passes
    /// follow one another, each on all threads.
    ///
    /// With `grad_cache`, at most that many texts are in memory at a time; without, chunks are as large as is fast.
    pub fn training(
        lengths: &[usize],
        grad_cache: Option<usize>,
        varlen: bool,
        device: &Device,
        token_budget: usize,
    ) -> Self {
        let order = longest_first(lengths);
        match (varlen, grad_cache) {
            (true, Some(size)) => {
                let passes = order.chunks(size).map(<[usize]>::to_vec).collect();
                return Self { passes, threads: Threads::Outside(1) };
            }
            (true, None) => {
                let passes = consecutive(&order, lengths, TRAINING_PASS_TOKENS);
                return Self { passes, threads: Threads::Outside(1) };
            }
            (false, _) => {}
        }
        let threads = outside(device);
        match (grad_cache, threads) {
            (Some(size), Threads::Outside(at_once)) => {
                // Two concurrent halves hold no more texts than requested.
                let half = (size / 2).max(1);
                let passes = longest_first(lengths).chunks(half).map(<[usize]>::to_vec).collect();
                Self { passes, threads: Threads::Outside(at_once.min(size / half)) }
            }
            _ if is_cpu(device) => {
                let share = lengths.iter().sum::<usize>() / CHUNKS;
                Self { passes: length_buckets(lengths, share.clamp(MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS)), threads }
            }
            _ => Self { passes: length_buckets(lengths, token_budget), threads },
        }
    }

    /// The passes of a frozen network in a training step. Like [`Schedule::training`], they are the same on any number of
    /// cores.
    pub fn frozen(lengths: &[usize], varlen: bool, device: &Device, token_budget: usize) -> Self {
        if !varlen {
            return Self::training(lengths, None, false, device, token_budget);
        }
        let passes = consecutive(&longest_first(lengths), lengths, KERNEL_PASS_TOKENS);
        Self { passes, threads: Threads::PassPerThread }
    }

    /// The same texts in the same order, cut anew so that each of so many processes gets passes of about the same number of
    /// tokens. No pass is much larger than before.
    #[must_use]
    pub fn cut_for(self, processes: usize, lengths: &[usize]) -> Self {
        if processes == 1 {
            return self;
        }
        let (parts, order) = (self.passes.len().next_multiple_of(processes), self.passes.concat());
        let costs: Vec<usize> = order.iter().map(|&index| lengths[index]).collect();
        let cuts = even_cuts(&costs, parts).into_iter().filter(|cut| !cut.is_empty());
        Self { passes: cuts.map(|cut| order[cut].to_vec()).collect(), threads: self.threads }
    }

    /// Some of the passes, run in the same way.
    #[must_use]
    pub fn only(&self, passes: &[usize]) -> Self {
        Self { passes: passes.iter().map(|&pass| self.passes[pass].clone()).collect(), threads: self.threads }
    }

    /// Indices of the texts of each pass.
    pub fn passes(&self) -> &[Vec<usize>] {
        &self.passes
    }

    /// Calls `work` with the index of each pass, and `take` with each result on the calling thread. After the first
    /// error no further passes start.
    ///
    /// May be called from any thread, including those of rayon's pool.
    ///
    /// # Errors
    /// If `work` or `take` fails.
    ///
    /// # Panics
    /// Panics if `work` or `take` panics; after that no further passes start either.
    pub fn run<T: Send, E: Send>(
        &self,
        work: &(dyn Fn(usize) -> Result<T, E> + Sync),
        take: &mut dyn FnMut(usize, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let count = self.passes.len();
        match self.threads {
            Threads::Caller => in_order(count, 1, &|pass| single_threaded(|| work(pass)), take),
            Threads::PassPerThread => on_pool(count, &|pass| single_threaded(|| work(pass)), take),
            Threads::Shared => on_pool(count, work, take),
            // Threads outside the pool might need the pool's thread that waits for them here.
            Threads::Outside(_) if rayon::current_thread_index().is_some() => in_order(count, 1, work, take),
            Threads::Outside(at_once) => in_order(count, at_once, work, take),
        }
    }
}

/// One pass per thread of the CPU, up to [`MAX_CONCURRENT`]; one at a time elsewhere.
fn outside(device: &Device) -> Threads {
    Threads::Outside(if is_cpu(device) { rayon::current_num_threads().min(MAX_CONCURRENT) } else { 1 })
}

fn longest_first(lengths: &[usize]) -> Vec<usize> {
    length_buckets(lengths, usize::MAX).concat()
}

/// Cuts a list of costs into `parts` runs of about the same cost, some of which may be empty: each item is in the part in
/// which its middle lies.
pub fn even_cuts(costs: &[usize], parts: usize) -> Vec<Range<usize>> {
    let total = costs.iter().sum::<usize>().max(1);
    let (mut ends, mut before) = (vec![0; parts], 0);
    for (end, cost) in (1..).zip(costs) {
        let part = (2 * before + cost) * parts / (2 * total);
        ends[part.min(parts - 1)..].fill(end);
        before += cost;
    }
    let starts: Vec<usize> = [0].into_iter().chain(ends.iter().copied()).take(parts).collect();
    starts.into_iter().zip(ends).map(|(start, end)| start..end).collect()
}

/// Cuts a list of texts into groups of at most `tokens` tokens each, unless one text is longer.
fn consecutive(order: &[usize], lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut filled = 0;
    for &index in order {
        match groups.last_mut() {
            Some(group) if filled + lengths[index] <= tokens => group.push(index),
            _ => {
                groups.push(vec![index]);
                filled = 0;
            }
        }
        filled += lengths[index];
    }
    groups
}

/// Runs passes on rayon's pool; results are taken as they arrive.
fn on_pool<T: Send, E: Send>(
    count: usize,
    work: &(dyn Fn(usize) -> Result<T, E> + Sync),
    take: &mut dyn FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let stopped = AtomicBool::new(false);
    rayon::in_place_scope_fifo(|scope| {
        // However this ends, also by a panic of `take`: the scope waits for passes that have started.
        let _stop = StopOnDrop(&stopped);
        let (sender, results) = mpsc::channel();
        for pass in 0..count {
            let (sender, stopped) = (sender.clone(), &stopped);
            scope.spawn_fifo(move |_| {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let result = work(pass);
                if result.is_err() {
                    stopped.store(true, Ordering::Relaxed);
                }
                // Nobody listens after an error.
                sender.send((pass, result)).ok();
            });
        }
        drop(sender);
        loop {
            // A thread of the pool runs other work while it waits.
            let next = match rayon::current_thread_index() {
                None => results.recv().map_err(|_| TryRecvError::Disconnected),
                Some(_) => results.try_recv().inspect_err(|_| {
                    if rayon::yield_now() != Some(rayon::Yield::Executed) {
                        std::thread::yield_now();
                    }
                }),
            };
            let step = match next {
                Ok((pass, result)) => match result.and_then(|result| take(pass, result)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break(Err(error)),
                },
                Err(TryRecvError::Empty) => ControlFlow::Continue(()),
                // All passes are done, or one panicked; leaving the scope then propagates the panic.
                Err(TryRecvError::Disconnected) => ControlFlow::Break(Ok(())),
            };
            if let ControlFlow::Break(outcome) = step {
                break outcome;
            }
        }
    })
}

/// Keeps passes that have not started from starting.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs passes on `workers` threads outside the pool; results are taken in order.
///
/// Worker `n % workers` runs pass `n` and waits until its result is taken, so results do not pile up.
fn in_order<T: Send, E: Send>(
    count: usize,
    workers: usize,
    work: &(dyn Fn(usize) -> Result<T, E> + Sync),
    take: &mut dyn FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let workers = workers.min(count);
    if workers <= 1 {
        return (0..count).try_for_each(|pass| take(pass, work(pass)?));
    }
    std::thread::scope(|scope| {
        let worker = |first: usize| {
            let (sender, results) = mpsc::sync_channel(0);
            scope.spawn(move || (first..count).step_by(workers).all(|pass| sender.send(work(pass)).is_ok()));
            results
        };
        let results: Vec<_> = (0..workers).map(worker).collect();
        for pass in 0..count {
            match results[pass % workers].recv() {
                Ok(result) => take(pass, result?)?,
                // The worker panicked; leaving the scope propagates the panic.
                Err(mpsc::RecvError) => break,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;

    fn schedule(count: usize, threads: Threads) -> Schedule {
        Schedule { passes: vec![vec![]; count], threads }
    }

    const MODES: [Threads; 6] = [
        Threads::Caller,
        Threads::PassPerThread,
        Threads::Shared,
        Threads::Outside(0),
        Threads::Outside(1),
        Threads::Outside(3),
    ];

    #[test]
    fn every_pass_is_run_once_from_inside_the_pool_and_outside() {
        for threads in MODES {
            for count in [0, 1, 2, 25] {
                let run = || {
                    let mut squares = Vec::new();
                    let outcome: Result<(), String> = schedule(count, threads).run(&|n| Ok(n * n), &mut |n, square| {
                        squares.push((n, square));
                        Ok(())
                    });
                    assert_eq!(outcome, Ok(()));
                    if matches!(threads, Threads::Outside(_)) {
                        assert!(squares.is_sorted(), "results must arrive in order");
                    }
                    squares.sort_unstable();
                    assert_eq!(squares, (0..count).map(|n| (n, n * n)).collect::<Vec<_>>());
                };
                run();
                // Concurrent callers on every thread of the pool.
                rayon::broadcast(|_| run());
                let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
                one.install(run);
            }
        }
    }

    #[test]
    fn an_error_stops_the_work() {
        for threads in MODES {
            let done = AtomicUsize::new(0);
            let work = |n: usize| {
                done.fetch_add(1, Ordering::Relaxed);
                if n == 3 { Err("third") } else { Ok(n) }
            };
            assert_eq!(schedule(100_000, threads).run(&work, &mut |_, _| Ok(())), Err("third"));
            assert!(done.load(Ordering::Relaxed) < 50_000);
            let take = &mut |n, _| if n > 5 { Err("taken") } else { Ok(()) };
            assert_eq!(schedule(1000, threads).run(&|n| Ok(n), take), Err("taken"));
        }
    }

    #[test]
    fn a_panic_in_a_pass_reaches_the_caller() {
        for threads in [Threads::PassPerThread, Threads::Outside(3)] {
            let work = |n: usize| if n == 2 { panic!("on purpose") } else { Ok::<_, ()>(n) };
            let outcome = std::panic::catch_unwind(|| schedule(9, threads).run(&work, &mut |_, _| Ok(())));
            assert!(outcome.is_err());
        }
    }

    #[test]
    fn a_panic_of_the_caller_stops_the_work() {
        for threads in MODES {
            let done = AtomicUsize::new(0);
            // All passes would take seconds.
            let work = |n: usize| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                Ok::<_, ()>(done.fetch_add(n.min(1), Ordering::Relaxed))
            };
            let take = &mut |n, _| if n > 5 { std::panic::resume_unwind(Box::new("stop")) } else { Ok(()) };
            let run = std::panic::AssertUnwindSafe(|| schedule(10_000, threads).run(&work, take));
            let panic = std::panic::catch_unwind(run).expect_err("passes on");
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"stop"));
            assert!(done.load(Ordering::Relaxed) < 5_000);
        }
    }

    #[test]
    fn a_pass_on_its_own_thread_has_kernels_on_one_thread_even_after_a_panic() {
        let shared = kernel_threads();
        assert_eq!(single_threaded(|| single_threaded(kernel_threads) + kernel_threads()), 2);
        assert!(std::panic::catch_unwind(|| single_threaded(|| panic!("on purpose"))).is_err());
        assert_eq!(kernel_threads(), shared);
        let threads = |threads| {
            let mut seen = Vec::new();
            let outcome: Result<(), ()> = schedule(4, threads).run(&|_| Ok(kernel_threads()), &mut |_, threads| {
                seen.push(threads);
                Ok(())
            });
            outcome.expect("no error");
            seen
        };
        assert_eq!(threads(Threads::Caller), [1; 4]);
        assert_eq!(threads(Threads::PassPerThread), [1; 4]);
        assert_eq!(threads(Threads::Shared), [shared; 4]);
    }

    #[test]
    fn many_texts_make_a_pass_per_thread_and_few_share_the_threads() {
        let schedule = |lengths: &[usize]| Schedule::kernels(lengths, 4, 1 << 24, 4096);
        assert_eq!(schedule(&[20; 100]).threads, Threads::PassPerThread);
        assert_eq!(schedule(&[20; 100]).passes.len(), 17, "six texts of 20 tokens per pass");
        // Eight passes' worth of tokens, half of them in one text.
        let uneven: Vec<usize> = [vec![512], vec![16; 32]].concat();
        assert_eq!(schedule(&uneven).threads, Threads::Shared);
        let one = schedule(&[7]);
        assert_eq!((one.passes, one.threads), (vec![vec![0]], Threads::Shared));
        assert_eq!(schedule(&[]).passes, Vec::<Vec<usize>>::new());
        let small = Schedule::kernels(&[7], 4, 1 << 20, 4096);
        assert_eq!((small.passes, small.threads), (vec![vec![0]], Threads::Caller));
    }

    #[test]
    fn costs_are_cut_evenly() {
        let cuts = |costs: &[usize], parts| even_cuts(costs, parts);
        assert_eq!(cuts(&[1; 6], 3), [0..2, 2..4, 4..6]);
        assert_eq!(cuts(&[1; 5], 2), [0..2, 2..5]);
        assert_eq!(cuts(&[8, 1, 1, 1, 1], 2), [0..1, 1..5]);
        assert_eq!(cuts(&[5], 3), [0..0, 0..1, 1..1]);
        assert_eq!(cuts(&[0, 0], 2), [0..2, 2..2]);
        assert_eq!(cuts(&[], 2), [0..0, 0..0]);
    }

    #[test]
    fn processes_get_passes_of_equal_size_in_the_same_order() {
        let lengths: Vec<usize> = (0..90).map(|text| 20 + text % 13).collect();
        let order = longest_first(&lengths);
        for size in [7, 40, 90] {
            let whole =
                Schedule { passes: order.chunks(size).map(<[usize]>::to_vec).collect(), threads: Threads::Outside(1) };
            assert_eq!(whole.clone().cut_for(1, &lengths), whole);
            for processes in [2, 3, 4] {
                let cut = whole.clone().cut_for(processes, &lengths);
                assert_eq!(cut.passes.concat(), order);
                assert!(cut.passes.len().is_multiple_of(processes) && cut.passes.len() >= whole.passes.len());
                let tokens = |pass: &Vec<usize>| pass.iter().map(|&text| lengths[text]).sum::<usize>();
                let share = 2334 / cut.passes.len();
                assert!(cut.passes.iter().all(|pass| tokens(pass).abs_diff(share) <= 33), "{processes} of {size}");
                assert_eq!(cut.only(&[1, 0]).passes, [cut.passes[1].clone(), cut.passes[0].clone()]);
            }
        }
        let two = Schedule { passes: vec![vec![0, 1]], threads: Threads::Outside(1) };
        assert_eq!(two.cut_for(4, &[5, 5]).passes, [[0], [1]], "no pass is empty");
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_pass_within_the_budget(
            lengths in proptest::collection::vec(1usize..300, 0..80),
            budget in 1usize..600,
            threads in 1usize..9,
        ) {
            let passes = Schedule::kernels(&lengths, threads, usize::MAX, budget).passes;
            let mut seen: Vec<usize> = passes.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for pass in passes {
                let tokens: usize = pass.iter().map(|&index| lengths[index]).sum();
                prop_assert!(pass.len() == 1 || tokens <= budget);
            }
        }
    }
}
