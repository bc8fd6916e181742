//! How processes find each other: all but the first connect to the first, which tells each where the others are.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use care_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::frame::{self, Kind};

/// Changes with the frames and their order.
const PROTOCOL: u32 = 1;
/// The longest introduction.
const LONGEST: u64 = 1 << 16;
/// How long a connection may take to introduce itself. Nobody else is answered meanwhile.
const INTRODUCTION: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// A connection to each of the other processes, by rank.
pub(super) type Links = Vec<Option<TcpStream>>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    version: String,
    rank: usize,
    world: usize,
    /// The port on which the process waits for those of higher rank.
    port: u16,
    /// The number of the run, once the first process has told it.
    run: u128,
}

impl Hello {
    fn new(rank: usize, world: usize, port: u16, run: u128) -> Self {
        Self { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned(), rank, world, port, run }
    }

    /// Why this process cannot take part, if `taken` ranks are already here.
    fn misfit(&self, first: &Self, taken: &[bool]) -> Option<String> {
        if (self.protocol, &self.version) != (first.protocol, &first.version) {
            return Some(format!("it is of version {}, process 0 of version {}", self.version, first.version));
        }
        if self.world != first.world {
            return Some(format!("it is one of {} processes, process 0 one of {}", self.world, first.world));
        }
        match taken.get(self.rank) {
            Some(false) => None,
            Some(true) => Some("there are two of this rank".to_owned()),
            None => Some(format!("ranks are 0 to {}", first.world - 1)),
        }
    }
}

/// What the first process answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// The number of the run, and where the processes from rank 1 on wait.
    Peers {
        run: u128,
        addresses: Vec<SocketAddr>,
    },
    Refused(String),
}

/// Waits for all other processes. `check` is called again and again, and its error ends the wait.
pub(super) fn host(
    listener: &TcpListener,
    world: usize,
    patience: Duration,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Links> {
    let run = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() ^ u128::from(std::process::id()) << 64;
    let own = Hello::new(0, world, 0, run);
    let mut links: Links = (0..world).map(|_| None).collect();
    let mut addresses = vec![None; world];
    let until = Instant::now() + patience;
    while links.iter().flatten().count() + 1 < world {
        check()?;
        let Some((mut stream, hello)) = next_hello(listener)? else {
            if Instant::now() > until {
                let is_missing = |rank: &usize| links[*rank].is_none();
                let missing: Vec<String> = (1..world).filter(is_missing).map(|rank| rank.to_string()).collect();
                let message = format!("waited {} s for process {}", patience.as_secs(), missing.join(", "));
                return Err(Error::new(ErrorKind::Peer, message));
            }
            continue;
        };
        let taken: Vec<bool> = (0..world).map(|rank| rank == 0 || links[rank].is_some()).collect();
        if let Some(misfit) = hello.misfit(&own, &taken) {
            let problem = format!("process {} cannot take part: {misfit}", hello.rank);
            let everyone = links.iter_mut().flatten().chain([&mut stream]);
            everyone.for_each(|stream| drop(say(stream, &Answer::Refused(problem.clone()))));
            return Err(Error::new(ErrorKind::Peer, problem));
        }
        let from = stream.peer_addr().map_err(|e| failed("connect to", hello.rank, e))?;
        addresses[hello.rank] = Some(SocketAddr::new(from.ip(), hello.port));
        links[hello.rank] = Some(stream);
    }
    let addresses: Vec<SocketAddr> = addresses.into_iter().flatten().collect();
    for (rank, stream) in links.iter_mut().enumerate() {
        let Some(stream) = stream else { continue };
        let answer = Answer::Peers { run, addresses: addresses.clone() };
        say(stream, &answer).map_err(|e| failed("answer", rank, e))?;
    }
    Ok(links)
}

/// Connects to the first process and by its answer to all others.
pub(super) fn join(address: &str, rank: usize, world: usize, patience: Duration) -> Result<Links> {
    let until = Instant::now() + patience;
    let mut first = connect(address, until).map_err(|e| {
        let message = format!("cannot reach process 0 at {address} within {} s", patience.as_secs());
        Error::new(ErrorKind::Peer, message).with_source(e)
    })?;
    // Where the first process reaches this one, the others do.
    let local = first.local_addr().map_err(|e| failed("connect to", 0, e))?;
    let listener = TcpListener::bind((local.ip(), 0)).map_err(|e| failed("listen for", rank + 1, e))?;
    let port = listener.local_addr().map_err(|e| failed("listen for", rank + 1, e))?.port();
    say(&mut first, &Hello::new(rank, world, port, 0)).map_err(|e| failed("connect to", 0, e))?;
    // Until all are here.
    first.set_read_timeout(Some(patience)).map_err(|e| failed("connect to", 0, e))?;
    let (run, addresses) = match hear(&mut first).map_err(|e| failed("get an answer of", 0, e))? {
        Answer::Peers { run, addresses } => (run, addresses),
        Answer::Refused(problem) => return Err(Error::new(ErrorKind::Peer, problem)),
    };
    let mut links: Links = (0..world).map(|_| None).collect();
    links[0] = Some(first);
    for (other, address) in (1..rank).zip(addresses) {
        let mut stream = connect(address, until).map_err(|e| failed("connect to", other, e))?;
        say(&mut stream, &Hello::new(rank, world, port, run)).map_err(|e| failed("connect to", other, e))?;
        links[other] = Some(stream);
    }
    while let Some(missing) = (rank + 1..world).find(|other| links[*other].is_none()) {
        match next_hello(&listener)? {
            // Others that come by are not of this run.
            Some((stream, hello)) if hello.run == run && hello.rank < world => links[hello.rank] = Some(stream),
            _ if Instant::now() > until => {
                let message = format!("waited {} s for process {missing}", patience.as_secs());
                return Err(Error::new(ErrorKind::Peer, message));
            }
            _ => {}
        }
    }
    Ok(links)
}

/// The next process that introduces itself, if one has come.
fn next_hello(listener: &TcpListener) -> Result<Option<(TcpStream, Hello)>> {
    let broken = |e| Error::new(ErrorKind::Peer, "cannot accept connections").with_source(e);
    listener.set_nonblocking(true).map_err(broken)?;
    let mut stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            sleep(PAUSE);
            return Ok(None);
        }
        Err(e) => return Err(broken(e)),
    };
    let set = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(INTRODUCTION)));
    // Who says something else is no process of a run.
    Ok(set.and_then(|()| hear(&mut stream)).ok().map(|hello| (stream, hello)))
}

/// Connects as soon as somebody listens.
fn connect(address: impl ToSocketAddrs, until: Instant) -> io::Result<TcpStream> {
    loop {
        match TcpStream::connect(&address) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > until || e.kind() == io::ErrorKind::InvalidInput => return Err(e),
            Err(_) => sleep(PAUSE),
        }
    }
}

fn say(stream: &mut TcpStream, message: &impl Serialize) -> io::Result<()> {
    frame::write(stream, Kind::Hello, &serde_json::to_vec(message)?)
}

fn hear<T: for<'de> Deserialize<'de>>(stream: &mut TcpStream) -> io::Result<T> {
    match frame::read(stream, LONGEST)? {
        Some((Kind::Hello, bytes)) => Ok(serde_json::from_slice(&bytes)?),
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn failed(what: &str, rank: usize, error: io::Error) -> Error {
    Error::new(ErrorKind::Peer, format!("cannot {what} process {rank}")).with_source(error)
}
