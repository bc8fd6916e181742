//! Encodes the queries of concurrent callers in shared batches.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Embedder;
use crate::embeddings::Embeddings;
use crate::error::{Error, ErrorKind, Result};
use crate::text::{Document, Query, Role};

/// How a [`QueryQueue`] batches queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueOptions {
    /// Queries that may wait, >= 1; further callers block until there is room. Default 1024.
    pub capacity: usize,
    /// Largest batch, >= 1. Default 32.
    pub batch: usize,
    /// How long a query waits for others to join its batch, at most a minute. Default 0: a batch takes the queries that
    /// arrived while the previous one was encoded; if nothing is being encoded, a query starts immediately.
    pub wait: Duration,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { capacity: 1024, batch: 32, wait: Duration::ZERO }
    }
}

impl QueueOptions {
    /// Sets [`QueueOptions::capacity`].
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Sets [`QueueOptions::batch`].
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Sets [`QueueOptions::wait`].
    #[must_use]
    pub fn with_wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}

/// No caller benefits from a longer wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An embedder for concurrent callers: queries that arrive together are encoded in one batch.
///
/// All callers share one set of weights. They take turns, query by query, so that one with many queries does not hold up
/// one with a single query. What a caller has given up is not computed. Dropping the queue still answers the queries that
/// wait in it.
///
/// ```
/// use std::sync::Arc;
/// use care_core::Embedder;
/// use care_core::embedder::{QueryQueue, QueueOptions};
/// # use care_core::{Document, Embeddings, Query, Result};
/// # struct Model;
/// # impl Embedder for Model {
/// #     fn embedding_dim(&self) -> usize { 1 }
/// #     fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> { Ok(Embeddings::zeros(queries.len(), 1)) }
/// #     fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> { Ok(Embeddings::zeros(documents.len(), 1)) }
/// # }
/// let queue = Arc::new(QueryQueue::new(Model, QueueOptions::default())?);
/// let callers: Vec<_> = ["头痛怎么办", "发烧怎么办"].into_iter().map(|text| {
///     let queue = queue.clone();
///     std::thread::spawn(move || queue.embed_queries(&[text.into()]))
/// }).collect();
/// for caller in callers {
///     assert_eq!(caller.join().expect("not panicked")?.len(), 1);
/// }
/// # Ok::<(), care_core::Error>(())
/// ```
pub struct QueryQueue<E> {
    embedder: Arc<E>,
    line: Arc<Line>,
    options: QueueOptions,
    worker: Option<JoinHandle<()>>,
}

/// The queries that wait.
#[derive(Default)]
struct Line {
    state: Mutex<State>,
    /// Queries have come, or the queue is being dropped.
    work: Condvar,
    /// Queries have left.
    room: Condvar,
}

#[derive(Default)]
struct State {
    /// In the order of their turns; none without a query.
    callers: VecDeque<Caller>,
    /// Queries of all callers.
    waiting: usize,
    /// Number of the next caller.
    next: u64,
    closed: bool,
}

/// A row of a caller's result, and its vector.
type Answer = (usize, Result<Vec<f32>>);

struct Caller {
    number: u64,
    since: Instant,
    /// Each with its row in the result.
    queries: VecDeque<(usize, Query)>,
    answer: mpsc::Sender<Answer>,
}

/// A query and the channel on which its caller waits for the vector.
struct Waiting {
    query: Query,
    place: usize,
    answer: mpsc::Sender<Answer>,
}

/// A caller's place in the line. Dropping it gives up what was not computed yet.
struct Ticket<'a> {
    line: &'a Line,
    number: u64,
    answers: Receiver<Answer>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        if let Some(at) = state.callers.iter().position(|caller| caller.number == self.number) {
            let gone = state.callers.remove(at).map_or(0, |caller| caller.queries.len());
            state.waiting -= gone;
            self.line.room.notify_all();
        }
    }
}

/// What a caller does when there is no room.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Instant),
    Endless,
}

impl Patience {
    /// The time that is left; `None` if it has passed.
    fn left(self) -> Option<Duration> {
        match self {
            Self::None => None,
            // A thread that is woken without a reason looks and sleeps again.
            Self::Endless => Some(LONGEST_WAIT),
            Self::Until(limit) => Some(limit.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()),
        }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines up queries, whose rows begin with `first`, as soon as there is room for all of them.
    fn enter(&self, first: usize, queries: &[Query], capacity: usize, patience: Patience) -> Result<Ticket<'_>> {
        let mut state = self.lock();
        while state.waiting + queries.len() > capacity {
            let Some(left) = patience.left() else {
                let message =
                    format!("no room for {} more queries: {} of {capacity} wait", queries.len(), state.waiting);
                return Err(Error::new(ErrorKind::Busy, message));
            };
            state = self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (answer, answers) = mpsc::channel();
        let number = state.next;
        state.next += 1;
        state.waiting += queries.len();
        let queries = queries.iter().cloned().enumerate().map(|(place, query)| (first + place, query)).collect();
        state.callers.push_back(Caller { number, since: Instant::now(), queries, answer });
        self.work.notify_one();
        Ok(Ticket { line: self, number, answers })
    }

    /// The next batch, one query of each caller in turn; `None` once the queue is dropped and nothing waits.
    fn next_batch(&self, options: QueueOptions) -> Option<Vec<Waiting>> {
        let mut state = self.lock();
        loop {
            let Some(oldest) = state.callers.iter().map(|caller| caller.since).min() else {
                if state.closed {
                    return None;
                }
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = (oldest + options.wait).saturating_duration_since(Instant::now());
            if state.waiting >= options.batch || left.is_zero() || state.closed {
                break;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut batch = Vec::new();
        while batch.len() < options.batch
            && let Some(mut caller) = state.callers.pop_front()
        {
            let answer = caller.answer.clone();
            batch.extend(caller.queries.pop_front().map(|(place, query)| Waiting { query, place, answer }));
            if !caller.queries.is_empty() {
                state.callers.push_back(caller);
            }
        }
        state.waiting -= batch.len();
        self.room.notify_all();
        Some(batch)
    }
}

impl<E: Embedder + 'static> QueryQueue<E> {
    /// Starts the encoding thread.
    ///
    /// # Errors
    /// If an option is out of range, or the thread cannot be started.
    pub fn new(embedder: E, options: QueueOptions) -> Result<Self> {
        for (name, value) in [("capacity", options.capacity), ("batch", options.batch)] {
            if value == 0 {
                return Err(Error::setting(name, value, "at least 1"));
            }
        }
        if options.wait > LONGEST_WAIT {
            return Err(Error::setting("wait", format!("{:?}", options.wait), "at most 60s"));
        }
        let (embedder, line) = (Arc::new(embedder), Arc::new(Line::default()));
        let (model, shared) = (embedder.clone(), line.clone());
        let worker = std::thread::Builder::new()
            .name("care-queries".to_owned())
            .spawn(move || {
                while let Some(batch) = shared.next_batch(options) {
                    answer(&*model, batch);
                }
            })
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start a thread: {e}")).with_source(e))?;
        Ok(Self { embedder, line, options, worker: Some(worker) })
    }
}

impl<E: Embedder> QueryQueue<E> {
    /// [`Embedder::embed_queries`] that does not wait for room in the queue, for servers that would rather refuse a request.
    ///
    /// # Errors
    /// Those of `embed_queries`; [`ErrorKind::Busy`] if there is no room for all the queries.
    pub fn try_embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        self.embed(queries, queries.len(), Patience::None)
    }

    /// [`Embedder::embed_queries`] that waits no longer than `limit`, for room in the queue and for the answers together.
    /// Queries that were not begun by then are not computed.
    ///
    /// On a thread of rayon's pool, which computes itself, there is no limit.
    ///
    /// # Errors
    /// Those of `embed_queries`; [`ErrorKind::Busy`] if the time has passed.
    pub fn embed_queries_within(&self, queries: &[Query], limit: Duration) -> Result<Embeddings> {
        // A limit beyond the clock's range is none.
        let patience = Instant::now().checked_add(limit).map_or(Patience::Endless, Patience::Until);
        self.embed(queries, self.at_once(), patience)
    }

    /// A caller lines up no more queries than make a batch, so that they leave room for others.
    fn at_once(&self) -> usize {
        self.options.batch.min(self.options.capacity)
    }

    fn embed(&self, queries: &[Query], at_once: usize, patience: Patience) -> Result<Embeddings> {
        if rayon::current_thread_index().is_some() {
            // The encoding itself runs on rayon's pool: if all of its threads waited here, none could compute.
            return embed(&*self.embedder, queries);
        }
        let mut embeddings = Embeddings::zeros(queries.len(), self.embedding_dim());
        for (number, part) in queries.chunks(at_once.max(1)).enumerate() {
            let ticket = self.line.enter(number * at_once, part, self.options.capacity, patience)?;
            for _ in part {
                let answer = match patience {
                    Patience::Until(limit) => {
                        ticket.answers.recv_timeout(limit.saturating_duration_since(Instant::now()))
                    }
                    _ => ticket.answers.recv().map_err(RecvTimeoutError::from),
                };
                let (place, vector) = answer.map_err(|error| match error {
                    RecvTimeoutError::Timeout => Error::new(ErrorKind::Busy, "the queries were not encoded in time"),
                    RecvTimeoutError::Disconnected => {
                        Error::new(ErrorKind::Io, "the thread that encodes queries has ended")
                    }
                })?;
                embeddings.set(place, &vector?);
            }
        }
        Ok(embeddings)
    }
}

impl<E> QueryQueue<E> {
    /// The embedder that encodes the queries.
    pub fn embedder(&self) -> &E {
        &self.embedder
    }
}

impl<E: Embedder> Embedder for QueryQueue<E> {
    fn embedding_dim(&self) -> usize {
        self.embedder.embedding_dim()
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        self.embed(queries, self.at_once(), Patience::Endless)
    }

    /// Documents bypass the queue.
    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        self.embedder.embed_documents(documents)
    }

    fn fingerprint(&self, role: Role) -> Result<Option<String>> {
        self.embedder.fingerprint(role)
    }

    fn query_key(&self, query: &Query) -> String {
        self.embedder.query_key(query)
    }

    fn document_key(&self, document: &Document) -> String {
        self.embedder.document_key(document)
    }
}

impl<E> Drop for QueryQueue<E> {
    fn drop(&mut self) {
        self.line.lock().closed = true;
        self.line.work.notify_all();
        if let Some(worker) = self.worker.take() {
            // If it panicked, its callers have got an error.
            let _ = worker.join();
        }
    }
}

/// Encodes a batch. If that fails, encodes each query on its own, so that one bad query does not fail the others.
fn answer(embedder: &dyn Embedder, batch: Vec<Waiting>) {
    let queries: Vec<Query> = batch.iter().map(|waiting| waiting.query.clone()).collect();
    let vectors: Vec<Result<Vec<f32>>> = match embed(embedder, &queries) {
        Ok(embeddings) => (0..batch.len()).map(|row| Ok(embeddings.row(row).to_vec())).collect(),
        Err(error) if batch.len() == 1 => vec![Err(error)],
        Err(_) => {
            let alone = |query| embed(embedder, std::slice::from_ref(query)).map(|vector| vector.row(0).to_vec());
            queries.iter().map(alone).collect()
        }
    };
    for (waiting, vector) in batch.into_iter().zip(vectors) {
        // The caller may be gone.
        let _ = waiting.answer.send((waiting.place, vector));
    }
}

/// Turns a panic, and an answer of another size, into an error of the queries that caused it.
fn embed(embedder: &dyn Embedder, queries: &[Query]) -> Result<Embeddings> {
    let answer = catch_unwind(AssertUnwindSafe(|| (embedder.embed_queries(queries), embedder.embedding_dim())));
    let (embeddings, dim) = answer
        .map_err(|panic| Error::new(ErrorKind::Io, format!("the embedder panicked: {}", panic_message(&*panic))))?;
    let embeddings = embeddings?;
    if (embeddings.len(), embeddings.dim()) != (queries.len(), dim) {
        let (rows, width, wanted) = (embeddings.len(), embeddings.dim(), queries.len());
        let message = format!("the embedder gave {rows} vectors of {width} dimensions, expected {wanted} of {dim}");
        return Err(Error::new(ErrorKind::Dimension, message));
    }
    Ok(embeddings)
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    /// Slow enough for queries to queue up; records batch sizes and rejects texts that are not numbers.
    #[derive(Default)]
    struct Slow {
        batches: Mutex<Vec<usize>>,
    }

    impl Embedder for Slow {
        fn embedding_dim(&self) -> usize {
            1
        }

        fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
            std::thread::sleep(Duration::from_millis(5));
            self.batches.lock().expect("not poisoned").push(queries.len());
            let mut embeddings = Embeddings::zeros(queries.len(), 1);
            for (row, query) in queries.iter().enumerate() {
                let number = query.content().parse::<f32>();
                embeddings.set(row, &[number.map_err(|e| Error::new(ErrorKind::Tokenizer, e.to_string()))?]);
            }
            Ok(embeddings)
        }

        fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
            Ok(Embeddings::zeros(documents.len(), 1))
        }
    }

    fn numbers(count: usize) -> Vec<Query> {
        (0..count).map(|number| number.to_string().into()).collect()
    }

    #[test]
    fn everybody_gets_their_own_vectors_and_queries_are_put_together() {
        for (capacity, batch) in [(1, 1), (1, 8), (64, 3), (64, 64)] {
            let queue = QueryQueue::new(Slow::default(), QueueOptions { capacity, batch, ..Default::default() });
            let queue = queue.expect("starts");
            std::thread::scope(|scope| {
                for _caller in 0..4 {
                    scope.spawn(|| {
                        let embeddings = queue.embed_queries(&numbers(10)).expect("encodes");
                        for row in 0..10 {
                            assert_eq!(embeddings.row(row)[0], row as f32);
                        }
                    });
                }
            });
            let batches = queue.embedder().batches.lock().expect("not poisoned");
            assert_eq!(batches.iter().sum::<usize>(), 40);
            assert!(batches.iter().all(|&size| size <= batch));
            assert!(capacity < 64 || batches.len() < 30, "batch sizes: {batches:?}");
        }
    }

    #[test]
    fn a_query_waits_for_others_as_long_as_it_is_told() {
        let options = QueueOptions { wait: Duration::from_secs(60), batch: 2, ..Default::default() };
        let queue = QueryQueue::new(Slow::default(), options).expect("starts");
        std::thread::scope(|scope| {
            scope.spawn(|| queue.embed_queries(&numbers(1)).expect("encodes"));
            scope.spawn(|| queue.embed_queries(&numbers(1)).expect("encodes"));
        });
        assert_eq!(*queue.embedder().batches.lock().expect("not poisoned"), [2]);
    }

    #[test]
    fn a_bad_query_spoils_no_other() {
        let options = QueueOptions { wait: Duration::from_millis(50), ..Default::default() };
        let queue = QueryQueue::new(Slow::default(), options).expect("starts");
        std::thread::scope(|scope| {
            let bad = scope.spawn(|| queue.embed_queries(&["bad".into()]));
            let good = scope.spawn(|| queue.embed_queries(&numbers(3)));
            assert_eq!(good.join().expect("no panic").expect("encodes").len(), 3);
            assert!(bad.join().expect("no panic").expect_err("bad").to_string().contains("invalid float"));
        });
    }

    #[test]
    fn a_caller_that_is_gone_holds_nobody_up() {
        let (gone, receiver) = mpsc::channel();
        drop(receiver);
        let (answer_to, answers) = mpsc::channel();
        let waiting = |answer: &mpsc::Sender<_>, place| Waiting { query: "7".into(), answer: answer.clone(), place };
        answer(&Slow::default(), vec![waiting(&gone, 0), waiting(&answer_to, 5)]);
        let (place, vector) = answers.recv().expect("an answer");
        assert_eq!((place, vector.expect("encodes")), (5, vec![7.0]));
    }

    #[test]
    fn a_panic_is_an_error_for_who_waits() {
        struct Broken;
        impl Embedder for Broken {
            fn embedding_dim(&self) -> usize {
                1
            }
            fn embed_queries(&self, _queries: &[Query]) -> Result<Embeddings> {
                panic!("broken")
            }
            fn embed_documents(&self, _documents: &[Document]) -> Result<Embeddings> {
                panic!("broken")
            }
        }
        let queue = QueryQueue::new(Broken, QueueOptions::default()).expect("starts");
        for _ in 0..2 {
            let error = queue.embed_queries(&numbers(1)).expect_err("broken");
            assert_eq!(error.to_string(), "the embedder panicked: broken");
        }
        let refused = |options| QueryQueue::new(Broken, options).err().expect("refused").to_string();
        assert_eq!(refused(QueueOptions { batch: 0, ..Default::default() }), "`batch` is 0, allowed: at least 1");
        assert_eq!(refused(QueueOptions { capacity: 0, ..Default::default() }), "`capacity` is 0, allowed: at least 1");
        let options = QueueOptions { wait: Duration::from_secs(61), ..Default::default() };
        assert_eq!(refused(options), "`wait` is 61s, allowed: at most 60s");
    }

    #[test]
    fn a_short_answer_is_an_error_and_the_next_call_works() {
        /// Gives one vector too few, or vectors that are too short, for texts of these.
        struct Short;
        impl Embedder for Short {
            fn embedding_dim(&self) -> usize {
                2
            }
            fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
                let has = |text: &str| queries.iter().any(|query| query.content() == text);
                Ok(Embeddings::zeros(queries.len() - usize::from(has("few")), 2 - usize::from(has("narrow"))))
            }
            fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
                Ok(Embeddings::zeros(documents.len(), 2))
            }
        }
        let queue = QueryQueue::new(Short, QueueOptions::default()).expect("starts");
        for (text, problem) in [("few", "0 vectors of 2 dimensions"), ("narrow", "1 vectors of 1 dimensions")] {
            let error = queue.embed_queries(&["good".into(), text.into()]).expect_err("short");
            assert_eq!(error.to_string(), format!("the embedder gave {problem}, expected 1 of 2"));
            assert_eq!(queue.embed_queries(&["good".into()]).expect("encodes").len(), 1);
        }
    }

    #[test]
    fn a_single_query_overtakes_a_long_list() {
        for bulk in [1, 3] {
            let options = QueueOptions { batch: 4, ..Default::default() };
            let queue = QueryQueue::new(Slow::default(), options).expect("starts");
            let batches = || queue.embedder().batches.lock().expect("not poisoned").len();
            std::thread::scope(|scope| {
                (0..bulk).for_each(|_| drop(scope.spawn(|| queue.embed_queries(&numbers(200)).expect("encodes"))));
                while batches() < 3 {
                    std::thread::yield_now();
                }
                let before = batches();
                queue.embed_queries(&numbers(1)).expect("encodes");
                // The batch that runs, and the next; this thread may be slow to look.
                assert!(batches() - before < 20, "waited for {} batches", batches() - before);
            });
        }
    }

    #[test]
    fn what_is_refused_or_late_is_not_computed() {
        let options = QueueOptions { batch: 1, capacity: 2, ..Default::default() };
        let queue = QueryQueue::new(Slow::default(), options).expect("starts");
        let error = queue.try_embed_queries(&numbers(3)).expect_err("no room for three");
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Busy, "no room for 3 more queries: 0 of 2 wait")
        );
        assert_eq!(queue.try_embed_queries(&numbers(2)).expect("room for two").row(1)[0], 1.0);
        let error = queue.embed_queries_within(&numbers(500), Duration::from_millis(40)).expect_err("late");
        assert_eq!(error.kind(), ErrorKind::Busy);
        let late = queue.embed_queries_within(&numbers(1), Duration::ZERO).expect_err("late");
        assert_eq!(late.to_string(), "the queries were not encoded in time");
        assert_eq!(queue.embed_queries_within(&numbers(2), Duration::MAX).expect("no limit").len(), 2);
        assert_eq!(queue.line.lock().waiting, 0);
        let computed: usize = queue.embedder().batches.lock().expect("not poisoned").iter().sum();
        assert!((4..20).contains(&computed), "{computed} of 505 were computed");
    }

    #[test]
    fn the_threads_that_compute_do_not_wait_for_each_other() {
        use rayon::prelude::*;
        let queue = QueryQueue::new(Slow::default(), QueueOptions::default()).expect("starts");
        let vectors: Vec<f32> = numbers(20)
            .par_iter()
            .map(|query| queue.embed_queries(std::slice::from_ref(query)).expect("encodes").row(0)[0])
            .collect();
        assert_eq!(vectors, (0..20).map(|number| number as f32).collect::<Vec<_>>());
    }
}
