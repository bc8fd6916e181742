//! The processes of `care train`: those of this machine, or this one among those of several.

use std::env;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use care_core::{Error, ErrorKind};
use care_train::{Alone, Collective, TcpGroup, Timeouts};

use crate::stderr::note;

#[derive(clap::Args)]
pub(super) struct ProcessArgs {
    /// Train with this many processes, which share the cores of this machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), conflicts_with_all = ["rank", "export"])]
    processes: Option<u16>,
    /// Number of this process, from 0, among those that train together on several machines; by default $RANK
    #[arg(long, value_name = "N", requires_all = ["world", "address"])]
    rank: Option<usize>,
    /// Number of these processes; by default $WORLD_SIZE
    #[arg(long, value_name = "N", requires = "rank", value_parser = clap::value_parser!(u16).range(1..))]
    world: Option<u16>,
    /// Where process 0 waits for the others; by default $MASTER_ADDR:$MASTER_PORT
    #[arg(long, value_name = "HOST:PORT", requires = "rank")]
    address: Option<String>,
}

/// The processes that train, as this one sees them.
pub(super) struct Processes {
    pub(super) group: Arc<dyn Collective>,
    children: Vec<Child>,
}

impl ProcessArgs {
    /// The processes of this machine.
    pub(super) fn count(&self) -> usize {
        self.processes.map_or(1, usize::from)
    }

    /// The options that are set, as words of a command line.
    pub(super) fn words(&self) -> Vec<String> {
        let options = [
            ("--processes", self.processes.map(|count| count.to_string())),
            ("--rank", self.rank.map(|rank| rank.to_string())),
            ("--world", self.world.map(|world| world.to_string())),
            ("--address", self.address.clone()),
        ];
        options.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten().collect()
    }

    /// Starts or finds the other processes. `same` are the arguments with which they do the same work. To be called
    /// before anything uses several threads.
    pub(super) fn start(&self, same: &[String]) -> Result<Processes> {
        match self.processes {
            Some(1) => Ok(Processes::alone()),
            Some(count) => Processes::spawn(usize::from(count), same),
            None => self.join(),
        }
    }

    /// Joins the processes that the options or the environment name.
    fn join(&self) -> Result<Processes> {
        let (rank, world, address) = match (self.rank, self.world, &self.address) {
            (Some(rank), Some(world), Some(address)) => (rank, usize::from(world), address.clone()),
            _ => match from_environment()? {
                Some(place) => place,
                None => return Ok(Processes::alone()),
            },
        };
        if rank >= world {
            bail!("`rank` is {rank}, allowed: 0 to {} in a world of {world}", world - 1);
        }
        let group = match rank {
            0 => {
                let listener =
                    TcpListener::bind(&address).with_context(|| format!("process 0 cannot listen at {address}"))?;
                TcpGroup::host(&listener, world, Timeouts::default(), &mut || Ok(()))?
            }
            _ => TcpGroup::join(&address, rank, world, Timeouts::default())?,
        };
        Ok(Processes { group: Arc::new(group), children: Vec::new() })
    }
}

/// Rank, world and address as launchers set them, if all are set and there are several processes.
fn from_environment() -> Result<Option<(usize, usize, String)>> {
    let names = ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"];
    let values: Option<Vec<String>> = names.iter().map(|name| env::var(name).ok()).collect();
    let Some([rank, world, address, port]) = values.as_deref() else { return Ok(None) };
    let number = |name: &str, value: &str| value.parse::<usize>().with_context(|| format!("${name} is {value:?}"));
    let (rank, world) = (number("RANK", rank)?, number("WORLD_SIZE", world)?);
    Ok((world > 1).then(|| (rank, world, format!("{address}:{port}"))))
}

impl Processes {
    fn alone() -> Self {
        Self { group: Arc::new(Alone), children: Vec::new() }
    }

    /// Starts all processes but this one, which is the first, and gives each its share of the cores.
    fn spawn(count: usize, same: &[String]) -> Result<Self> {
        let threads = available_parallelism().map_or(1, |cores| cores.get() / count).max(1);
        // Whoever sets the number of threads means that of each process.
        if env::var_os(THREADS).is_none() {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("threads run already")?;
        }
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen for the other processes")?;
        let port = listener.local_addr().context("cannot listen for the other processes")?.port();
        let program = env::current_exe().context("cannot find this program")?;
        let mut processes = Self::alone();
        for rank in 1..count {
            let child = child(&program, same, [rank, count, port.into()], threads).spawn();
            processes.children.push(child.with_context(|| format!("cannot start process {rank}"))?);
        }
        let children = &mut processes.children;
        let group = TcpGroup::host(&listener, count, Timeouts::default(), &mut || {
            children.iter_mut().zip(1..).try_for_each(|(child, rank)| match child.try_wait() {
                Ok(Some(status)) => Err(Error::new(
                    ErrorKind::Peer,
                    format!("process {rank} of {count} ended before the first step: {status}"),
                )),
                _ => Ok(()),
            })
        })?;
        processes.group = Arc::new(group);
        Ok(processes)
    }
}

/// The variable that rayon reads.
const THREADS: &str = "RAYON_NUM_THREADS";

fn child(program: &Path, arguments: &[String], [rank, world, port]: [usize; 3], threads: usize) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).envs(
        [("RANK", rank), ("WORLD_SIZE", world), ("MASTER_PORT", port)].map(|(name, value)| (name, value.to_string())),
    );
    command.env("MASTER_ADDR", "127.0.0.1");
    if env::var_os(THREADS).is_none() {
        command.env(THREADS, threads.to_string());
    }
    command
}

impl Drop for Processes {
    /// Lets go of the other processes and waits for those that this one has started.
    fn drop(&mut self) {
        self.group = Arc::new(Alone);
        let until = Instant::now() + Duration::from_secs(10);
        for (child, rank) in self.children.iter_mut().zip(1..) {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                sleep(Duration::from_millis(10));
            }
            if matches!(child.try_wait(), Ok(None)) {
                note!("process {rank} does not end and is killed");
                child.kill().ok();
                child.wait().ok();
            }
        }
    }
}
