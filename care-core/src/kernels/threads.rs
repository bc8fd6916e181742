//! How many threads a kernel may divide its work among.

use std::cell::Cell;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with kernels that stay on this thread: for who keeps the other threads busy with work of the same kind.
pub(crate) fn on_this_thread<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(true));
    work()
}

/// The threads of rayon's pool, or 1 in [`on_this_thread`].
pub(super) fn threads() -> usize {
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_alone_until_its_work_ends_even_by_a_panic() {
        let shared = threads();
        assert_eq!(on_this_thread(|| on_this_thread(threads) + threads()), 2);
        assert!(std::panic::catch_unwind(|| on_this_thread(|| panic!("on purpose"))).is_err());
        assert_eq!(threads(), shared);
    }
}
