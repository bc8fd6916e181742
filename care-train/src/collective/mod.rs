//! What the processes of a run send to each other.

mod frame;
mod handshake;
mod tcp;

use care_core::{Error, ErrorKind, Result};

pub use tcp::{TcpGroup, Timeouts};

/// The processes that train together, as one of them sees them. Ranks count from 0.
///
/// All processes make the same calls in the same order. Everything is built on [`send`](Collective::send) and
/// [`receive`](Collective::receive), so that the order of every sum is the caller's.
pub trait Collective: Send + Sync {
    /// The number of this process.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn world(&self) -> usize;

    /// Sends bytes to another process, without waiting until it receives them.
    ///
    /// # Errors
    /// [`ErrorKind::Peer`] if a process has ended, failed or fallen silent; the message names it.
    fn send(&self, to: usize, bytes: &[u8]) -> Result<()>;

    /// The next bytes from another process. Waits for as long as all processes are alive.
    ///
    /// # Errors
    /// As [`Collective::send`].
    fn receive(&self, from: usize) -> Result<Vec<u8>>;

    /// Tells the other processes why this one ends, so that theirs end with the same message.
    fn abort(&self, reason: &str);

    /// The bytes of every process, by rank.
    ///
    /// # Errors
    /// As [`Collective::send`].
    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let (rank, world) = (self.rank(), self.world());
        // Everyone begins with its successor, so that no process is sent everything at once.
        for step in 1..world {
            self.send((rank + step) % world, &own)?;
        }
        let mut own = Some(own);
        (0..world)
            .map(|from| if from == rank { Ok(own.take().unwrap_or_default()) } else { self.receive(from) })
            .collect()
    }

    /// The bytes of the process `from`; what the others pass is ignored.
    ///
    /// # Errors
    /// As [`Collective::send`].
    fn broadcast(&self, from: usize, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if self.rank() != from {
            return self.receive(from);
        }
        (0..self.world()).filter(|to| *to != from).try_for_each(|to| self.send(to, &bytes))?;
        Ok(bytes)
    }

    /// Waits until every process is here.
    ///
    /// # Errors
    /// As [`Collective::send`].
    fn barrier(&self) -> Result<()> {
        self.all_gather(Vec::new()).map(drop)
    }
}

/// A process that trains alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn send(&self, to: usize, _bytes: &[u8]) -> Result<()> {
        Err(no_such(to))
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        Err(no_such(from))
    }

    fn abort(&self, _reason: &str) {}
}

fn no_such(rank: usize) -> Error {
    Error::new(ErrorKind::Peer, format!("there is no process {rank}: this one trains alone"))
}

/// f32 values as bytes, in the order of this processor.
pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * values.len()];
    bytes.chunks_exact_mut(4).zip(values).for_each(|(four, value)| four.copy_from_slice(&value.to_ne_bytes()));
    bytes
}

/// The f32 values of [`bytes_of`].
pub(crate) fn values_of(bytes: &[u8]) -> Vec<f32> {
    let (fours, _) = bytes.as_chunks::<4>();
    fours.iter().map(|four| f32::from_ne_bytes(*four)).collect()
}

/// A message of another process that is none of this protocol.
pub(crate) fn garbled(from: usize, problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Peer, format!("a message of process {from} cannot be read: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_gathers_its_own_bytes_and_waits_for_nobody() {
        assert_eq!(Alone.all_gather(vec![1, 2]).expect("alone"), [vec![1, 2]]);
        assert_eq!(Alone.broadcast(0, vec![3]).expect("alone"), [3]);
        Alone.barrier().expect("alone");
        let error = Alone.receive(1).expect_err("nobody");
        assert_eq!((error.kind(), error.to_string().contains("process 1")), (ErrorKind::Peer, true));
    }

    #[test]
    fn values_keep_every_bit() {
        let values = [0.0, -0.0, f32::NAN, f32::INFINITY, 1e-40, 0.1];
        let back = values_of(&bytes_of(&values));
        assert_eq!(values.map(f32::to_bits).to_vec(), back.into_iter().map(f32::to_bits).collect::<Vec<_>>());
    }
}
