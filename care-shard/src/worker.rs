//! A worker: claims shards, encodes them and commits their vectors, until none is left.

use std::cmp::Reverse;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::time::Duration;

use care_core::files::sha256_hex;
use care_core::{Document, Embedder, Error, ErrorKind, Result};

use crate::claims::{Claim, Claims, Next};
use crate::clock::{Clock, SystemClock};
use crate::commit::{Commit, digest_of};
use crate::input::Rows;
use crate::job::Job;
use crate::state::{Failure, WorkerState};
use crate::table::{Origin, encode};

/// Most texts that are embedded together, as `care embed` has.
const MOST_TEXTS: usize = 4096;
/// Texts of the first call, while the speed is not known.
const FIRST_TEXTS: usize = 64;

/// How a worker works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// After this time without a sign of a worker, by the clock of who watches it, its shard is taken over; default 5
    /// minutes. Embedding 64 documents must take less.
    pub lease: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self { lease: Duration::from_secs(300) }
    }
}

impl WorkerOptions {
    /// Sets the lease.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }
}

/// The progress of a worker, for an observer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// What the worker has done.
    pub state: &'a WorkerState,
    /// The shard that it encodes; none while it waits for those of others.
    pub shard: Option<usize>,
    /// Rows of this shard that are embedded.
    pub embedded: usize,
    /// Rows of this shard.
    pub rows: usize,
}

/// Sees the progress of a worker, and may end it.
pub type Observer<'a> = dyn FnMut(&Progress<'_>) -> ControlFlow<()> + 'a;

/// A worker of a job.
///
/// Any number of workers may run, on any number of machines, and be added or killed at any time. A worker that is killed
/// loses the shard that it worked on, which another one takes over.
pub struct Worker<'a> {
    job: Job,
    embedder: &'a dyn Embedder,
    options: WorkerOptions,
    clock: Box<dyn Clock + 'a>,
    started: Duration,
    last_beat: Duration,
    claims: Claims,
    /// Texts that are embedded together.
    texts: usize,
    state: WorkerState,
}

/// The end of an attempt.
enum Attempt {
    Committed {
        rows: u64,
    },
    /// Another worker was faster.
    Lost,
    Stopped,
}

impl<'a> Worker<'a> {
    /// A worker that has not begun.
    ///
    /// # Errors
    /// If the model's document tower, instruction or dimensions are not those of the plan.
    pub fn new(job: &Job, embedder: &'a dyn Embedder, options: WorkerOptions) -> Result<Self> {
        Self::with_clock(job, embedder, options, Box::new(SystemClock::default()))
    }

    /// The same with another clock, for simulations.
    ///
    /// # Errors
    /// As [`Worker::new`].
    pub fn with_clock(
        job: &Job,
        embedder: &'a dyn Embedder,
        options: WorkerOptions,
        clock: Box<dyn Clock + 'a>,
    ) -> Result<Self> {
        job.plan.check(embedder)?;
        let (seed, more) = (random(), random());
        let state = WorkerState::new(format!("{seed:016x}{more:016x}"));
        let (now, claims) = (clock.now(), Claims::new(seed));
        let (job, texts) = (job.clone(), FIRST_TEXTS);
        Ok(Self { job, embedder, options, clock, started: now, last_beat: now, claims, texts, state })
    }

    /// Works until every shard is committed or cannot be encoded, or `observe` breaks. What this worker did is returned.
    ///
    /// A row that cannot be read or embedded fails its shard alone: it is noted beside the plan, and other shards go on.
    ///
    /// # Errors
    /// If a store cannot be read or written. What the worker had claimed is then free after the time of a lease.
    pub fn run(&mut self, observe: &mut Observer<'_>) -> Result<WorkerState> {
        // At first often, since the shards of workers that live end soon.
        let (first, longest) = (self.options.lease / 1500, self.options.lease / 20);
        let mut wait = first;
        loop {
            let (now, speed) = (self.clock.now(), self.speed());
            let plan = &self.job.plan;
            let seconds = |shard| speed.map(|speed| plan.bytes(shard) / speed);
            match self.claims.next(&self.job, &self.state, self.options.lease, now, &seconds)? {
                Next::Encode(claim) => {
                    if self.attempt(&claim, observe)?.is_break() {
                        break;
                    }
                    wait = first;
                }
                Next::Wait => {
                    let waiting = Progress { state: &self.state, shard: None, embedded: 0, rows: 0 };
                    if observe(&waiting).is_break() {
                        break;
                    }
                    self.clock.sleep(wait);
                    wait = longest.min(2 * wait);
                    self.beat_if_due()?;
                }
                Next::Done => break,
            }
        }
        self.state.ended = true;
        self.beat()?;
        Ok(self.state.clone())
    }

    /// Bytes per second, once a shard is committed.
    fn speed(&self) -> Option<f64> {
        let speed = self.state.bytes / self.state.busy_seconds;
        (speed.is_finite() && speed > 0.0).then_some(speed)
    }

    /// Encodes a claimed shard, and counts how that ended.
    fn attempt(&mut self, claim: &Claim, observe: &mut Observer<'_>) -> Result<ControlFlow<()>> {
        let begin = self.clock.now();
        self.state.attempts += 1;
        self.state.attempt = Some(claim.attempt.clone());
        self.beat()?;
        let ended = self.encode(claim, observe);
        self.state.attempt = None;
        match ended {
            Ok(Attempt::Committed { rows }) => {
                self.state.shards += 1;
                self.state.rows += rows;
                self.state.bytes += self.job.plan.bytes(claim.shard);
                self.state.busy_seconds += self.clock.now().saturating_sub(begin).as_secs_f64();
            }
            Ok(Attempt::Lost) => self.state.lost += 1,
            Ok(Attempt::Stopped) => {
                self.job.release(claim.shard, claim.generation)?;
                return Ok(ControlFlow::Break(()));
            }
            Err(e) if is_of_a_row(&e) => self.fail(claim.shard, &e)?,
            Err(e) => return Err(e),
        }
        self.job.release(claim.shard, claim.generation)?;
        Ok(ControlFlow::Continue(()))
    }

    /// Notes that a shard cannot be encoded.
    fn fail(&mut self, shard: usize, error: &Error) -> Result<()> {
        self.state.failed += 1;
        let failure = Failure { error: error.to_string() };
        let json = serde_json::to_vec(&failure);
        let json = json.map_err(|e| Error::new(ErrorKind::Format, "a failure cannot be written").with_source(e))?;
        self.job.storage.put(&self.job.failure(shard), json)
    }

    fn encode(&mut self, claim: &Claim, observe: &mut Observer<'_>) -> Result<Attempt> {
        let (input, part) = self.job.plan.part(claim.shard);
        let Rows { rows, range } = input.read(&self.job.stores, &self.job.plan.fields, part)?;
        let texts = digest_of(&rows);
        let (ids, documents): (Vec<String>, Vec<Document>) = rows.into_iter().map(|row| (row.id, row.document)).unzip();
        let vectors = match self.embed(claim, &documents, observe)? {
            Embedded::All(vectors) => vectors,
            Embedded::Lost => return Ok(Attempt::Lost),
            Embedded::Stopped => return Ok(Attempt::Stopped),
        };
        let (plan, id) = (&self.job.plan, &self.job.id);
        let (tower, texts_of) = (plan.tower.clone(), Some(texts.clone()));
        let origin = Origin { plan: id.clone(), tower, shard: Some(claim.shard), texts: texts_of };
        let content = encode(&ids, &vectors, plan.dim, plan.dtype, &origin)?;
        let commit = Commit {
            plan: id.clone(),
            shard: claim.shard,
            attempt: claim.attempt.clone(),
            rows: ids.len() as u64,
            start: range.start,
            end: range.end,
            texts,
            bytes: content.len() as u64,
            sha256: sha256_hex(&content),
        };
        let name = self.job.vectors(claim.shard, &claim.attempt);
        self.job.storage.put(&name, content)?;
        if commit.create(&self.job)? {
            return Ok(Attempt::Committed { rows: commit.rows });
        }
        self.job.storage.delete(&name)?;
        Ok(Attempt::Lost)
    }

    /// The vectors of a shard's documents, `[documents, dim]`. Long ones are embedded first, together with others of their
    /// length, so that little is padding.
    fn embed(&mut self, claim: &Claim, documents: &[Document], observe: &mut Observer<'_>) -> Result<Embedded> {
        let dim = self.job.plan.dim;
        let mut order: Vec<usize> = (0..documents.len()).collect();
        order.sort_by_key(|at| Reverse(documents[*at].title().len() + documents[*at].text().len()));
        let (mut vectors, mut embedded) = (vec![0.0; documents.len() * dim], 0);
        while embedded < order.len() {
            let group = &order[embedded..order.len().min(embedded + self.texts)];
            let begin = self.clock.now();
            let texts: Vec<Document> = group.iter().map(|at| documents[*at].clone()).collect();
            let computed = self.embedder.embed_documents(&texts)?;
            if (computed.len(), computed.dim()) != (texts.len(), dim) {
                let shape = format!("[{}, {}]", computed.len(), computed.dim());
                let problem = format!("the model gave vectors of shape {shape}, not [{}, {dim}]", texts.len());
                return Err(Error::new(ErrorKind::Dimension, problem));
            }
            for (row, at) in group.iter().enumerate() {
                vectors[at * dim..(at + 1) * dim].iter_mut().zip(computed.row(row)).for_each(|(to, from)| *to = *from);
            }
            embedded += group.len();
            self.adapt(self.clock.now().saturating_sub(begin));
            let (state, shard) = (&self.state, Some(claim.shard));
            if observe(&Progress { state, shard, embedded, rows: documents.len() }).is_break() {
                return Ok(Embedded::Stopped);
            }
            if self.beat_if_due()? && self.job.storage.head(&self.job.commit(claim.shard))?.is_some() {
                return Ok(Embedded::Lost);
            }
        }
        Ok(Embedded::All(vectors))
    }

    /// As many texts per call as take a small part of a lease, so that signs of life come in time.
    fn adapt(&mut self, took: Duration) {
        let part = self.options.lease / 30;
        if took < part / 2 {
            self.texts = MOST_TEXTS.min(2 * self.texts);
        } else if took > part {
            self.texts = 1.max(self.texts / 2);
        }
    }

    /// Writes a sign of life if the last one is a tenth of a lease ago. Returns whether it did.
    fn beat_if_due(&mut self) -> Result<bool> {
        let due = self.clock.now().saturating_sub(self.last_beat) >= self.options.lease / 10;
        if due {
            self.beat()?;
        }
        Ok(due)
    }

    fn beat(&mut self) -> Result<()> {
        let now = self.clock.now();
        self.last_beat = now;
        self.state.beat += 1;
        self.state.seconds = now.saturating_sub(self.started).as_secs_f64();
        let json = serde_json::to_vec(&self.state);
        let json = json.map_err(|e| Error::new(ErrorKind::Format, "a state cannot be written").with_source(e))?;
        self.job.storage.put(&self.job.worker(&self.state.worker), json)
    }
}

/// The vectors of a shard, or why there are none.
enum Embedded {
    All(Vec<f32>),
    Lost,
    Stopped,
}

/// Whether the cause is a row, so that other shards can be encoded.
fn is_of_a_row(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Format | ErrorKind::Tokenizer | ErrorKind::NonFinite)
}

/// A number from the system's random ones.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}
