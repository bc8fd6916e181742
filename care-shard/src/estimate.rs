//! What encoding a corpus will take: hours, bytes and money, from a measurement on a sample of it.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use care_core::{Document, Embedder, Error, ErrorKind, Result};
use serde::Serialize;

use crate::input::{InputFormat, Row};
use crate::plan::Plan;
use crate::storage::Stores;

/// Bytes that are read at each place of the sample.
const PLACE: u64 = 32 << 10;
/// Documents of the first round, which grow until a round takes long enough.
const FIRST_ROUND: usize = 32;
/// Most documents of a round, those that a worker embeds together.
const MOST_TEXTS: usize = 4096;
/// Rounds of which a measurement consists at least.
const ROUNDS: usize = 3;

/// Counts the tokens of documents, as the document tower reads them.
pub type CountTokens<'a> = &'a dyn Fn(&[Document]) -> Result<usize>;

/// How an estimate is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EstimateOptions {
    /// How long documents are embedded for the measurement; default 30 s.
    pub time: Duration,
    /// Where in the corpus the sample is; default 0.
    pub seed: u64,
}

impl Default for EstimateOptions {
    fn default() -> Self {
        Self { time: Duration::from_secs(30), seed: 0 }
    }
}

impl EstimateOptions {
    /// Sets the time of the measurement.
    #[must_use]
    pub fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets where the sample is.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// What encoding a corpus will take with workers like the one that measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// Documents that were measured.
    pub sample: usize,
    /// Seconds that embedding them took.
    pub sample_seconds: f64,
    /// Tokens of a document, if they were counted.
    pub tokens_per_document: Option<f64>,
    /// Documents of the corpus.
    pub documents: f64,
    /// Seconds per document of one worker.
    pub seconds_per_document: f64,
    /// Two standard errors of the seconds per document, relative to it: what the choice of the sample leaves open.
    pub relative_error: f64,
    /// Bytes of input.
    pub input_bytes: f64,
    /// Bytes of the stored vectors and ids.
    pub output_bytes: f64,
    /// Shards of the plan.
    pub shards: usize,
}

impl Estimate {
    /// Hours of one worker.
    pub fn worker_hours(&self) -> f64 {
        self.documents * self.seconds_per_document / 3600.0
    }

    /// Hours until the last shard is committed. The last shards are not shared, so more workers than shards are of no use.
    pub fn hours(&self, workers: usize) -> f64 {
        let rounds = self.shards.div_ceil(workers.max(1)) as f64;
        self.worker_hours() * rounds / self.shards as f64
    }
}

/// One round of the measurement.
struct Round {
    documents: usize,
    seconds: f64,
}

/// What is known of the sample.
#[derive(Default)]
struct Sample {
    rounds: Vec<Round>,
    tokens: usize,
    documents: usize,
    id_bytes: usize,
}

impl Plan {
    /// Embeds documents of random places for a while, and extends what that took to the corpus.
    ///
    /// # Errors
    /// If an input cannot be read, a document cannot be embedded, or the sample has none.
    pub fn estimate(
        &self,
        stores: &Stores,
        embedder: &dyn Embedder,
        tokens: Option<CountTokens<'_>>,
        options: &EstimateOptions,
    ) -> Result<Estimate> {
        self.check(embedder)?;
        let mut source = Source { plan: self, stores, state: options.seed, rows: 0, bytes: 0 };
        // Buffers are allocated, and kernels compiled, before time counts.
        embedder.embed_documents(&documents_of(source.rows(FIRST_ROUND)?))?;
        let (mut sample, mut size, begin) = (Sample::default(), FIRST_ROUND, Instant::now());
        while sample.rounds.len() < ROUNDS || begin.elapsed() < options.time {
            let rows = source.rows(size)?;
            let seconds = sample.measure(rows, embedder, tokens)?;
            // At least ten rounds, so that their spread tells how far the mean can be trusted.
            if seconds < options.time.as_secs_f64() / 20.0 && size < MOST_TEXTS {
                size *= 2;
                // Small calls are slower than a worker's.
                sample.rounds.clear();
            }
        }
        Ok(self.extend(&sample, &source))
    }

    fn extend(&self, sample: &Sample, source: &Source<'_>) -> Estimate {
        let documents: usize = sample.rounds.iter().map(|round| round.documents).sum();
        let seconds: f64 = sample.rounds.iter().map(|round| round.seconds).sum();
        let (mean, rounds) = (seconds / documents as f64, sample.rounds.len() as f64);
        let deviation = |round: &Round| round.seconds - mean * round.documents as f64;
        let squares: f64 = sample.rounds.iter().map(|round| deviation(round).powi(2)).sum();
        let error = (squares / (rounds - 1.0).max(1.0) * rounds).sqrt() / seconds;
        let count = |format| self.inputs.iter().filter(move |input| input.format == format);
        let lines: u64 = count(InputFormat::Jsonl).map(|input| input.bytes).sum();
        let rows: u64 = count(InputFormat::Parquet).map(|input| input.len()).sum();
        let per_byte = if source.bytes == 0 { 0.0 } else { source.rows as f64 / source.bytes as f64 };
        let total = rows as f64 + lines as f64 * per_byte;
        // In the table, an id has its length in front.
        let row_bytes = self.dtype.row_bytes(self.dim) as f64 + 4.0 + sample.id_bytes as f64 / sample.documents as f64;
        Estimate {
            sample: documents,
            sample_seconds: seconds,
            tokens_per_document: (sample.tokens > 0).then_some(sample.tokens as f64 / sample.documents as f64),
            documents: total,
            seconds_per_document: mean,
            relative_error: 2.0 * error,
            input_bytes: self.inputs.iter().map(|input| input.bytes as f64).sum(),
            output_bytes: total * row_bytes,
            shards: self.shards.len(),
        }
    }
}

impl Sample {
    /// Embeds documents as a worker does; returns the seconds.
    fn measure(&mut self, rows: Vec<Row>, embedder: &dyn Embedder, tokens: Option<CountTokens<'_>>) -> Result<f64> {
        self.id_bytes += rows.iter().map(|row| row.id.len()).sum::<usize>();
        let mut documents = documents_of(rows);
        documents.sort_by_key(|document| Reverse(document.title().len() + document.text().len()));
        let begin = Instant::now();
        embedder.embed_documents(&documents)?;
        let seconds = begin.elapsed().as_secs_f64();
        if let Some(count) = tokens {
            self.tokens += count(&documents)?;
        }
        self.documents += documents.len();
        self.rounds.push(Round { documents: documents.len(), seconds });
        Ok(seconds)
    }
}

fn documents_of(rows: Vec<Row>) -> Vec<Document> {
    rows.into_iter().map(|row| row.document).collect()
}

/// Rows of random places of the corpus.
struct Source<'a> {
    plan: &'a Plan,
    stores: &'a Stores,
    state: u64,
    /// Rows of JSON Lines that were read, and their bytes.
    rows: usize,
    bytes: u64,
}

impl Source<'_> {
    /// At least one and at most `count` rows; each place gives a few.
    fn rows(&mut self, count: usize) -> Result<Vec<Row>> {
        let (mut rows, mut empty) = (Vec::new(), 0);
        // Rows next to each other are alike, so many places are better than few.
        let of_place = (count / 8).max(1);
        while rows.len() < count && empty < 1000 {
            let taken = self.place()?;
            empty += usize::from(taken.is_empty());
            rows.extend(taken.into_iter().take(of_place));
        }
        rows.truncate(count);
        match rows.is_empty() {
            true => Err(Error::new(ErrorKind::Format, "the sample of the corpus has no documents")),
            false => Ok(rows),
        }
    }

    /// The rows after a random place.
    fn place(&mut self) -> Result<Vec<Row>> {
        let shard = (self.next() % self.plan.shards.len() as u64) as usize;
        let (input, part) = self.plan.part(shard);
        let start = part.start + self.next() % (part.end - part.start).max(1);
        let length = if input.format == InputFormat::Jsonl { PLACE } else { 64 };
        let read = input.read(self.stores, &self.plan.fields, start..input.len().min(start + length))?;
        if input.format == InputFormat::Jsonl {
            self.rows += read.rows.len();
            self.bytes += read.range.end - read.range.start;
        }
        Ok(read.rows)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
