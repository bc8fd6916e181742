//! Calls of libraries that panic on damaged input.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `call`. A panic in it becomes an error: the panic's message.
///
/// The panic hook runs all the same, and by default writes to stderr. A program that reports the error instead installs a
/// hook that asks [`is_guarded`]:
///
/// ```
/// use care_core::guard::{guarded, is_guarded};
///
/// let default = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |info| {
///     if !is_guarded() {
///         default(info);
///     }
/// }));
/// assert_eq!(guarded(|| u8::try_from(300).expect("page 3")), Err("page 3: TryFromIntError(())".to_owned()));
/// assert_eq!(guarded(|| 3), Ok(3));
/// ```
///
/// # Errors
/// The panic's message, or "panic" if it has none.
pub fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(before);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        text.unwrap_or("panic").to_owned()
    })
}

/// Whether this thread is inside [`guarded`].
pub fn is_guarded() -> bool {
    GUARDED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_ends_with_its_call_and_holds_for_its_thread_alone() {
        assert!(!is_guarded());
        let inside = guarded(|| {
            let inner: Result<(), String> = guarded(|| panic!("in a page"));
            let other = std::thread::spawn(is_guarded).join();
            (inner, is_guarded(), other.expect("no panic"))
        });
        assert_eq!(inside, Ok((Err("in a page".to_owned()), true, false)));
        assert_eq!(guarded(|| std::panic::panic_any(7)), Err("panic".to_owned()));
        assert!(!is_guarded());
    }
}
