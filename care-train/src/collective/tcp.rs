//! Processes that are connected by TCP, each with each.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use care_core::{Error, ErrorKind, Result};

use super::Collective;
use super::frame::{self, Kind};
use super::handshake::{self, Links};

/// How long processes wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until all processes are connected. Default 10 minutes.
    pub connect: Duration,
    /// Until a process that is not heard of counts as dead. A living process is heard of five times as often, however long
    /// its work takes. Default 60 seconds.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(600), silence: Duration::from_secs(60) }
    }
}

impl Timeouts {
    /// These timeouts with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A [`Collective`] of processes that are connected by TCP, each with each, on one machine or several.
///
/// A process that ends, fails or falls silent is noticed by all others at once, and their calls return an error that
/// names it. Connections are neither encrypted nor authenticated: use them on one machine, or in a network that you
/// trust.
pub struct TcpGroup {
    rank: usize,
    /// The connection to each other process, for writing.
    links: Arc<Vec<Option<Mutex<TcpStream>>>>,
    inbox: Mutex<Inbox>,
    silence: Duration,
    sent: AtomicU64,
    /// Dropped to end the thread that says that this process is alive.
    _alive: Sender<()>,
}

/// What has come and was not received yet.
struct Inbox {
    events: Receiver<(usize, Event)>,
    /// The bytes of each process, in order.
    waiting: Vec<VecDeque<Vec<u8>>>,
    ended: Vec<bool>,
    /// The process that failed first, and how.
    failure: Option<(usize, String)>,
}

enum Event {
    Data(Vec<u8>),
    Ended,
    Failed(usize, String),
}

impl TcpGroup {
    /// The first process of `world`, rank 0. Waits for the others, which [`join`](TcpGroup::join) at the listener's
    /// address. `check` is called again and again meanwhile; its error ends the wait.
    ///
    /// # Errors
    /// [`ErrorKind::Peer`] if a process is missing after the timeout, or of another version or world.
    pub fn host(
        listener: &TcpListener,
        world: usize,
        timeouts: Timeouts,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        Self::over(0, handshake::host(listener, world, timeouts.connect, check)?, timeouts.silence)
    }

    /// The process `rank` > 0 of `world`. `address` is that of the first process, e.g. `10.0.0.1:29500`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such rank, [`ErrorKind::Peer`] if a process cannot be reached or refuses this
    /// one.
    pub fn join(address: &str, rank: usize, world: usize, timeouts: Timeouts) -> Result<Self> {
        if rank == 0 || rank >= world {
            return Err(Error::setting(
                "rank",
                rank,
                &format!("1 to {} in a world of {world}", world.saturating_sub(1)),
            ));
        }
        Self::over(rank, handshake::join(address, rank, world, timeouts.connect)?, timeouts.silence)
    }

    fn over(rank: usize, links: Links, silence: Duration) -> Result<Self> {
        let world = links.len();
        let broken = |e| Error::new(ErrorKind::Peer, "cannot set up connections").with_source(e);
        let (sender, events) = mpsc::channel();
        for (peer, stream) in links.iter().enumerate() {
            let Some(stream) = stream else { continue };
            stream.set_nodelay(true).map_err(broken)?;
            stream.set_read_timeout(Some(silence)).map_err(broken)?;
            stream.set_write_timeout(Some(silence)).map_err(broken)?;
            let (stream, sender) = (stream.try_clone().map_err(broken)?, sender.clone());
            thread::spawn(move || listen(stream, peer, silence, &sender));
        }
        let links: Arc<Vec<_>> = Arc::new(links.into_iter().map(|link| link.map(Mutex::new)).collect());
        let (alive, ended) = mpsc::channel();
        let beating = Arc::clone(&links);
        thread::spawn(move || {
            while ended.recv_timeout(silence / 5) == Err(RecvTimeoutError::Timeout) {
                // Who is being written to hears enough.
                for link in beating.iter().flatten().flat_map(Mutex::try_lock) {
                    frame::write(&mut &*link, Kind::Beat, &[]).ok();
                }
            }
        });
        let waiting = vec![VecDeque::new(); world];
        let inbox = Mutex::new(Inbox { events, waiting, ended: vec![false; world], failure: None });
        Ok(Self { rank, links, inbox, silence, sent: AtomicU64::new(0), _alive: alive })
    }

    /// Bytes that this process has sent, without the few of every frame's head.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, peer: usize, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let Some(link) = &self.links[peer] else { return Err(io::ErrorKind::NotConnected.into()) };
        frame::write(&mut &*link.lock().unwrap_or_else(PoisonError::into_inner), kind, bytes)
    }

    fn tell_all(&self, kind: Kind, bytes: &[u8]) {
        (0..self.world()).filter(|peer| *peer != self.rank).for_each(|peer| drop(self.tell(peer, kind, bytes)));
    }

    fn failure(&self, (rank, how): (usize, String)) -> Error {
        Error::new(ErrorKind::Peer, format!("process {rank} of {} {how}", self.world()))
    }

    /// Ends all connections as a kill would.
    #[cfg(test)]
    pub(crate) fn die(&self) {
        for link in self.links.iter().flatten() {
            link.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both).ok();
        }
    }
}

/// Passes on what a process sends, until its end.
fn listen(mut stream: TcpStream, peer: usize, silence: Duration, events: &Sender<(usize, Event)>) {
    loop {
        let event = match frame::read(&mut stream, u64::MAX) {
            Ok(Some((Kind::Data, bytes))) => Event::Data(bytes),
            Ok(Some((Kind::Beat, _))) => continue,
            Ok(Some((Kind::Bye, _))) => Event::Ended,
            Ok(Some((Kind::Abort, bytes))) => {
                let (rank, how) = bytes.split_at(bytes.len().min(8));
                let rank = rank.try_into().map_or(peer, |rank| u64::from_le_bytes(rank) as usize);
                Event::Failed(rank, String::from_utf8_lossy(how).into_owned())
            }
            Ok(Some((Kind::Hello, _))) => Event::Failed(peer, "introduced itself twice".to_owned()),
            Ok(None) => Event::Failed(peer, "ended without a word; was it killed?".to_owned()),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Event::Failed(peer, format!("was not heard of for {} s", silence.as_secs_f32()))
            }
            Err(e) => Event::Failed(peer, format!("was lost: {e}")),
        };
        let is_last = !matches!(event, Event::Data(_));
        if events.send((peer, event)).is_err() || is_last {
            return;
        }
    }
}

impl Inbox {
    /// Takes in one event.
    fn take(&mut self, (peer, event): (usize, Event)) {
        match event {
            Event::Data(bytes) => self.waiting[peer].push_back(bytes),
            Event::Ended => self.ended[peer] = true,
            Event::Failed(rank, how) => {
                self.failure.get_or_insert((rank, how));
            }
        }
    }
}

impl Collective for TcpGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.links.len()
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        let Err(error) = self.tell(to, Kind::Data, bytes) else {
            self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            return Ok(());
        };
        // What it said last tells more.
        let mut inbox = self.inbox();
        while inbox.failure.is_none()
            && let Ok(event) = inbox.events.recv_timeout(self.silence.min(Duration::from_secs(1)))
        {
            inbox.take(event);
        }
        let failure = inbox.failure.get_or_insert_with(|| (to, format!("was lost: {error}"))).clone();
        Err(self.failure(failure).with_source(error))
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        let mut inbox = self.inbox();
        loop {
            if let Some(bytes) = inbox.waiting.get_mut(from).and_then(VecDeque::pop_front) {
                return Ok(bytes);
            }
            if inbox.ended.get(from) == Some(&true) {
                inbox.failure.get_or_insert((from, "ended before the others".to_owned()));
            }
            if let Some(failure) = inbox.failure.clone() {
                return Err(self.failure(failure));
            }
            // Threads that listen end with an event.
            let event = inbox.events.recv().map_err(|_| self.failure((from, "has ended".to_owned())))?;
            inbox.take(event);
        }
    }

    fn abort(&self, reason: &str) {
        // Whoever failed first is the one to look at.
        let (rank, how) = self.inbox().failure.clone().unwrap_or((self.rank, format!("failed: {reason}")));
        self.tell_all(Kind::Abort, &[&(rank as u64).to_le_bytes(), how.as_bytes()].concat());
    }
}

impl Drop for TcpGroup {
    fn drop(&mut self) {
        // Others may not have heard of a failure yet, and would take this end for another.
        let failed = self.inbox().failure.is_some();
        match thread::panicking() || failed {
            true => self.abort("it panicked"),
            false => self.tell_all(Kind::Bye, &[]),
        }
        for link in self.links.iter().flatten() {
            link.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Write).ok();
        }
    }
}

#[cfg(test)]
mod tests;
