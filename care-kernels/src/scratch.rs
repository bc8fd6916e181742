//! Memory that kernels pack into, reused from call to call.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Buffers that are kept for later calls, and their largest size in numbers; together at most 32 MB.
const KEPT: usize = 32;
const LARGEST: usize = 1 << 18;

/// The system takes back memory of this size when it is freed and hands out new pages later, which costs a kernel up to a
/// third of its time. So buffers are kept.
static SPARE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer of numbers of any value, for the caller to overwrite.
pub(crate) struct Scratch {
    memory: Vec<f32>,
    size: usize,
}

impl Scratch {
    pub(crate) fn new(size: usize) -> Self {
        let spare = if size > LARGEST { None } else { SPARE.lock().ok().and_then(|mut spare| spare.pop()) };
        let mut memory = spare.unwrap_or_default();
        if memory.len() < size {
            // Not `resize`, which would copy what nobody reads.
            memory = vec![0.0; size];
        }
        Self { memory, size }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[..self.size]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.size]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.memory.len() > LARGEST {
            return;
        }
        if let Ok(mut spare) = SPARE.lock()
            && spare.len() < KEPT
        {
            spare.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_the_size_asked_for_and_are_not_shared() {
        for sizes in [[3, 5], [100, 0], [7, 7], [LARGEST + 1, 2]] {
            let [mut first, mut second] = sizes.map(Scratch::new);
            assert_eq!([first.len(), second.len()], sizes);
            first.fill(1.0);
            second.fill(2.0);
            assert!(first.iter().all(|&x| x == 1.0) && second.iter().all(|&x| x == 2.0));
        }
    }
}
