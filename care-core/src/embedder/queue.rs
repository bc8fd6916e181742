//! Encodes the queries of concurrent callers in shared batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
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
/// All callers share one set of weights. A caller that disappears while its query is encoded does not delay others.
/// Dropping the queue still answers the queries that wait in it.
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
    /// `None` while the queue is being dropped.
    sender: Option<SyncSender<Waiting>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// A query and the channel on which its caller waits for the vector.
struct Waiting {
    query: Query,
    since: Instant,
    answer: mpsc::Sender<(usize, Result<Vec<f32>>)>,
    /// The query's row in its caller's result.
    place: usize,
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
        let embedder = Arc::new(embedder);
        let (sender, receiver) = mpsc::sync_channel(options.capacity);
        let model = embedder.clone();
        let worker = std::thread::Builder::new()
            .name("care-queries".to_owned())
            .spawn(move || serve(&*model, &receiver, options))
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start a thread: {e}")).with_source(e))?;
        Ok(Self { embedder, sender: Some(sender), worker: Mutex::new(Some(worker)) })
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
        if rayon::current_thread_index().is_some() {
            // The encoding itself runs on rayon's pool: if all of its threads waited here, none could compute.
            return self.embedder.embed_queries(queries);
        }
        let gone = || Error::new(ErrorKind::Io, "the thread that encodes queries has ended");
        let (answer, answers) = mpsc::channel();
        for (place, query) in queries.iter().enumerate() {
            let waiting = Waiting { query: query.clone(), since: Instant::now(), answer: answer.clone(), place };
            self.sender.as_ref().ok_or_else(gone)?.send(waiting).map_err(|_| gone())?;
        }
        drop(answer);
        let mut embeddings = Embeddings::zeros(queries.len(), self.embedding_dim());
        for _ in queries {
            let (place, vector) = answers.recv().map_err(|_| gone())?;
            embeddings.set(place, &vector?);
        }
        Ok(embeddings)
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
        self.sender = None;
        if let Some(worker) = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // If it panicked, its callers have got an error.
            let _ = worker.join();
        }
    }
}

/// Encodes incoming queries until the queue is dropped.
fn serve(embedder: &dyn Embedder, receiver: &Receiver<Waiting>, options: QueueOptions) {
    while let Ok(first) = receiver.recv() {
        let deadline = first.since + options.wait;
        let mut batch = vec![first];
        while batch.len() < options.batch {
            // Queries that already wait join the batch even if the deadline has passed.
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(next) => batch.push(next),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        answer(embedder, batch);
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

/// Turns a panic into an error of the queries that caused it.
fn embed(embedder: &dyn Embedder, queries: &[Query]) -> Result<Embeddings> {
    catch_unwind(AssertUnwindSafe(|| embedder.embed_queries(queries)))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the embedder panicked")))
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
        let waiting = |answer: &mpsc::Sender<_>, place| Waiting {
            query: "7".into(),
            since: Instant::now(),
            answer: answer.clone(),
            place,
        };
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
            assert_eq!(error.to_string(), "the embedder panicked");
        }
        let refused = |options| QueryQueue::new(Broken, options).err().expect("refused").to_string();
        assert_eq!(refused(QueueOptions { batch: 0, ..Default::default() }), "`batch` is 0, allowed: at least 1");
        assert_eq!(refused(QueueOptions { capacity: 0, ..Default::default() }), "`capacity` is 0, allowed: at least 1");
        let options = QueueOptions { wait: Duration::from_secs(61), ..Default::default() };
        assert_eq!(refused(options), "`wait` is 61s, allowed: at most 60s");
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
