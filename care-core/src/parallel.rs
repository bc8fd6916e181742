//! Independent pieces of work on the CPU, side by side.
//!
//! One forward pass leaves cores idle: matrix products use all of them, what lies between uses one. Several
//! passes at once fill the gaps.

use std::sync::mpsc;

use burn::tensor::Device;

/// More passes at once than this gain little and cost memory.
const MOST: usize = 8;

/// How many passes a device is given at once: one for each thread on the CPU, up to 8, else one.
pub fn passes_at_once(device: &Device) -> usize {
    if is_cpu(device) { rayon::current_num_threads().min(MOST) } else { 1 }
}

/// Whether a device is the CPU.
pub fn is_cpu(device: &Device) -> bool {
    crate::Device::Cpu.open().is_ok_and(|cpu| cpu == device.clone().inner())
}

/// Calls `work` with each number below `count`, `workers` of them at a time, and `take` with each result, in
/// order. The first error ends it when the pieces under way are done.
///
/// Piece `n` is worker `n % workers`'s, and a worker waits until its result is wanted, so results do not pile up.
///
/// # Errors
/// What `work` or `take` return.
///
/// # Panics
/// When `work` does.
pub fn run_pieces<T: Send, E: Send>(
    count: usize,
    workers: usize,
    work: &(dyn Fn(usize) -> Result<T, E> + Sync),
    take: &mut dyn FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let workers = workers.min(count);
    if workers <= 1 {
        return (0..count).try_for_each(|piece| take(piece, work(piece)?));
    }
    std::thread::scope(|scope| {
        let worker = |first: usize| {
            let (sender, results) = mpsc::sync_channel(0);
            scope.spawn(move || (first..count).step_by(workers).all(|piece| sender.send(work(piece)).is_ok()));
            results
        };
        let results: Vec<_> = (0..workers).map(worker).collect();
        for piece in 0..count {
            match results[piece % workers].recv() {
                Ok(result) => take(piece, result?)?,
                // The worker panicked; leaving the scope passes its panic on.
                Err(mpsc::RecvError) => break,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_piece_is_done_once_and_in_order_whatever_the_number_of_workers() {
        for workers in [0, 1, 2, 7] {
            for count in [0, 1, 2, 25] {
                let mut squares = Vec::new();
                let outcome: Result<(), String> = run_pieces(count, workers, &|n| Ok(n * n), &mut |n, square| {
                    squares.push((n, square));
                    Ok(())
                });
                assert_eq!(outcome, Ok(()));
                assert_eq!(squares, (0..count).map(|n| (n, n * n)).collect::<Vec<_>>(), "in order");
            }
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        for workers in [1, 4] {
            let done = AtomicUsize::new(0);
            let work = |n: usize| {
                done.fetch_add(1, Ordering::Relaxed);
                if n == 3 { Err("third") } else { Ok(n) }
            };
            assert_eq!(run_pieces(1000, workers, &work, &mut |_, _| Ok(())), Err("third"));
            assert!(done.load(Ordering::Relaxed) < 20);
            assert_eq!(
                run_pieces(1000, workers, &|n| Ok(n), &mut |n, _| if n > 5 { Err("taken") } else { Ok(()) }),
                Err("taken")
            );
        }
    }
}
