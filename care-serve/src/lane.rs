//! The queue in front of one tower: requests share batches, take turns by tokens, and are refused when it is full.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use care_core::guard::guarded;
use care_core::{Embeddings, Error, ErrorKind, Result, Text};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::failure::{Failure, Kind};
use crate::metrics::Metrics;
use crate::tower::{ServedTower, Tokens};

/// Texts per batch, at most.
const BATCH: usize = 64;
/// How long a piece of documents waits for queries, at most, so that it is computed even if there are always some.
const GIVES_WAY: Duration = Duration::from_millis(100);
/// For so long after the last query, documents are computed in smaller pieces.
const RECENT: Duration = Duration::from_secs(1);
/// How many times smaller: a query waits for less, and documents take longer per token.
const SMALLER: usize = 4;
/// Weight of the newest batch in the average speed.
const NEWEST: f64 = 0.2;

/// Limits of a lane, in tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneLimits {
    /// Tokens that may wait. A request that is larger is admitted when nothing else waits.
    pub(crate) waiting: usize,
    /// Tokens per batch, padding included, unless one text is longer.
    pub(crate) batch: usize,
}

/// Whether texts of a lane wait or are computed.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    texts: Mutex<Texts>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Texts {
    count: usize,
    /// When there were none any more.
    ended: Option<Instant>,
}

impl Traffic {
    fn change(&self, change: impl FnOnce(usize) -> usize) -> usize {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = texts.count;
        texts.count = change(before);
        if texts.count == 0 && before > 0 {
            texts.ended = Some(Instant::now());
            self.idle.notify_all();
        }
        texts.count
    }

    /// Waits until there are no texts, at most for `limit`. Returns whether there are some, or were not long ago.
    fn wait(&self, limit: Duration) -> bool {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.idle.wait_timeout_while(texts, limit, |texts| texts.count > 0);
        let (texts, _) = waited.unwrap_or_else(PoisonError::into_inner);
        texts.count > 0 || texts.ended.is_some_and(|ended| ended.elapsed() < RECENT)
    }
}

/// The queue in front of one tower, and the thread that computes.
///
/// Requests take turns so that each gets the same number of tokens: one with many long texts delays one with a short text
/// by the batch that is being computed, no more. A request whose future is dropped leaves the queue. The answer never
/// blocks a thread, so it may be awaited anywhere.
pub(crate) struct Lane<T: Text> {
    shared: Arc<Shared<T>>,
    worker: Option<JoinHandle<()>>,
}

struct Shared<T: Text> {
    tower: Arc<dyn ServedTower<T>>,
    limits: LaneLimits,
    /// Texts of this lane.
    traffic: Arc<Traffic>,
    /// The lane that goes first.
    first: Option<Arc<Traffic>>,
    metrics: Arc<Metrics>,
    label: String,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    callers: Vec<Caller>,
    /// Tokens of all callers.
    tokens: usize,
    /// Number of the next caller.
    next: u64,
    /// The turn of the text that was taken last.
    clock: u64,
    /// Tokens per second.
    speed: f64,
    closed: bool,
}

struct Caller {
    number: u64,
    /// Tokens it has got, counted from where the others were when it came.
    turn: u64,
    since: Instant,
    /// Each with its row in the result.
    texts: VecDeque<(usize, Tokens)>,
    answer: UnboundedSender<Done>,
}

/// A text whose turn has come.
struct Job {
    row: usize,
    tokens: Tokens,
    since: Instant,
    answer: UnboundedSender<Done>,
}

/// A row of a caller's result.
struct Done {
    row: usize,
    vector: Result<Vec<f32>>,
    queue: Duration,
    inference: Duration,
}

/// The vectors of a request, and the longest times that one of its texts waited and was computed for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Vec<f32>>,
    pub(crate) queue: Duration,
    pub(crate) inference: Duration,
}

/// A caller's place in the queue. Dropping it gives up what was not begun yet.
struct Ticket<T: Text> {
    shared: Arc<Shared<T>>,
    number: u64,
    answers: UnboundedReceiver<Done>,
}

impl<T: Text> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(at) = state.callers.iter().position(|caller| caller.number == self.number) {
            let gone = state.callers.swap_remove(at);
            state.tokens -= gone.texts.iter().map(|(_, tokens)| tokens.ids.len()).sum::<usize>();
            self.shared.leave(gone.texts.len(), state.tokens);
        }
    }
}

impl<T: Text> Lane<T> {
    /// Starts the thread that computes. It waits for the lane `first` to be idle before each batch, up to a limit.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn new(
        tower: Arc<dyn ServedTower<T>>,
        limits: LaneLimits,
        first: Option<Arc<Traffic>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let (traffic, state, work) = Default::default();
        let label = format!("role=\"{}\"", T::ROLE.as_str());
        let shared = Arc::new(Shared { tower, limits, traffic, first, metrics, label, state, work });
        let computing = shared.clone();
        let worker = std::thread::Builder::new()
            .name(format!("care-{}", T::ROLE.as_str()))
            .spawn(move || computing.run())
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start a thread: {e}")).with_source(e))?;
        Ok(Self { shared, worker: Some(worker) })
    }

    /// The texts of this lane, for another that gives way to it.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        self.shared.traffic.clone()
    }

    /// The vectors of texts, in order.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] if there is no room for all of them, with the time after which there should be; errors of
    /// the tower.
    pub(crate) async fn embed(&self, texts: Vec<Tokens>) -> std::result::Result<Answer, Failure> {
        let mut answer = Answer { rows: vec![Vec::new(); texts.len()], ..Answer::default() };
        let mut left = texts.len();
        let mut ticket = Shared::enter(&self.shared, texts)?;
        while left > 0 {
            let ended = || Failure::new(Kind::Unavailable, "the server is stopping");
            let done = ticket.answers.recv().await.ok_or_else(ended)?;
            answer.rows[done.row] = done.vector?;
            answer.queue = answer.queue.max(done.queue);
            answer.inference = answer.inference.max(done.inference);
            left -= 1;
        }
        Ok(answer)
    }
}

impl<T: Text> Drop for Lane<T> {
    /// Still answers what waits.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        if let Some(worker) = self.worker.take() {
            // If it panicked, its callers have got an error.
            let _ = worker.join();
        }
    }
}

impl<T: Text> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, texts: usize, tokens_left: usize) {
        self.measure(self.traffic.change(|all| all - texts), tokens_left);
    }

    fn measure(&self, texts: usize, tokens: usize) {
        self.metrics.set("te_queue_size", &self.label, texts as f64);
        self.metrics.set("care_queue_tokens", &self.label, tokens as f64);
    }

    fn enter(shared: &Arc<Self>, texts: Vec<Tokens>) -> std::result::Result<Ticket<T>, Failure> {
        let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
        let (sender, answers) = mpsc::unbounded_channel();
        let mut state = shared.lock();
        let limit = shared.limits.waiting;
        if state.tokens > 0 && state.tokens + tokens > limit {
            let message = format!("no room for {tokens} more tokens: {} of {limit} wait", state.tokens);
            let time = if state.speed > 0.0 { state.tokens as f64 / state.speed } else { 1.0 };
            return Err(Failure::new(Kind::Overloaded, message).retry_after(Duration::from_secs_f64(time.min(60.0))));
        }
        let number = state.next;
        state.next += 1;
        state.tokens += tokens;
        shared.measure(shared.traffic.change(|all| all + texts.len()), state.tokens);
        let turn = state.clock;
        let texts: VecDeque<_> = texts.into_iter().enumerate().collect();
        if !texts.is_empty() {
            state.callers.push(Caller { number, turn, since: Instant::now(), texts, answer: sender });
            shared.work.notify_one();
        }
        Ok(Ticket { shared: shared.clone(), number, answers })
    }

    fn run(&self) {
        while self.wait_for_work() {
            let beside = self.first.as_ref().is_some_and(|first| first.wait(GIVES_WAY));
            let batch = self.next_batch(if beside { self.limits.batch / SMALLER } else { self.limits.batch });
            if batch.is_empty() {
                continue;
            }
            let (begun, texts) = (Instant::now(), batch.len());
            let tokens: usize = batch.iter().map(|job| job.tokens.ids.len()).sum();
            self.metrics.size("te_batch_next_size", &self.label, texts);
            self.metrics.size("te_batch_next_tokens", &self.label, tokens);
            self.compute(batch, begun);
            let speed = tokens as f64 / begun.elapsed().as_secs_f64().max(1e-6);
            let mut state = self.lock();
            state.speed = if state.speed > 0.0 { state.speed + NEWEST * (speed - state.speed) } else { speed };
            self.leave(texts, state.tokens);
        }
    }

    /// Waits for texts; false once the lane is dropped and none wait.
    fn wait_for_work(&self) -> bool {
        let state = self.lock();
        let waits = |state: &mut State| state.callers.is_empty() && !state.closed;
        let state = self.work.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        !state.callers.is_empty()
    }

    /// The next batch, of `limit` tokens unless one text is longer: text by text of the caller that has got the fewest
    /// tokens. A text for which there is no room is the first of the batch after.
    fn next_batch(&self, limit: usize) -> Vec<Job> {
        let mut state = self.lock();
        let (mut batch, mut longest): (Vec<Job>, usize) = (Vec::new(), 0);
        while batch.len() < BATCH {
            let next = state.callers.iter().enumerate().min_by_key(|(_, caller)| (caller.turn, caller.number));
            let Some((at, caller)) = next else { break };
            let size = caller.texts.front().map_or(0, |(_, tokens)| tokens.ids.len());
            longest = longest.max(size);
            if !batch.is_empty() && longest * (batch.len() + 1) > limit {
                break;
            }
            state.clock = state.callers[at].turn;
            state.tokens -= size;
            let caller = &mut state.callers[at];
            caller.turn += size as u64;
            let (since, answer) = (caller.since, caller.answer.clone());
            batch.extend(caller.texts.pop_front().map(|(row, tokens)| Job { row, tokens, since, answer }));
            if caller.texts.is_empty() {
                state.callers.swap_remove(at);
            }
        }
        batch
    }

    /// Computes a batch. If that fails, computes each text on its own, so that one bad text does not fail the others.
    fn compute(&self, batch: Vec<Job>, begun: Instant) {
        let texts: Vec<Tokens> = batch.iter().map(|job| job.tokens.clone()).collect();
        let vectors: Vec<Result<Vec<f32>>> = match self.vectors(&texts) {
            Ok(vectors) => (0..texts.len()).map(|row| Ok(vectors.row(row).to_vec())).collect(),
            Err(error) if texts.len() == 1 => vec![Err(error)],
            Err(_) => {
                let alone = |text| self.vectors(std::slice::from_ref(text)).map(|vector| vector.row(0).to_vec());
                texts.iter().map(alone).collect()
            }
        };
        // The tower numbers the texts of a batch, the caller those of its request.
        let of_text = |row, error: Error| match error.kind() {
            ErrorKind::NonFinite => {
                let message = format!("the vector of text {row} is not finite");
                Error::new(ErrorKind::NonFinite, message).with_source(error)
            }
            _ => error,
        };
        let inference = begun.elapsed();
        for (job, vector) in batch.into_iter().zip(vectors) {
            let vector = vector.map_err(|error| of_text(job.row, error));
            // The caller may be gone.
            let _ = job.answer.send(Done { row: job.row, vector, queue: begun - job.since, inference });
        }
    }

    /// Turns a panic, and an answer of another size, into an error.
    fn vectors(&self, texts: &[Tokens]) -> Result<Embeddings> {
        let vectors = guarded(|| self.tower.embed(texts));
        let vectors = vectors.map_err(|panic| Error::new(ErrorKind::Io, format!("the tower panicked: {panic}")))??;
        let (rows, dim, wanted) = (vectors.len(), vectors.dim(), self.tower.about().dim);
        if (rows, dim) != (texts.len(), wanted) {
            let message = format!("{rows} vectors of {dim} dimensions, expected {} of {wanted}", texts.len());
            // Not the client's: `Dimension` would be.
            return Err(Error::new(ErrorKind::Io, format!("the tower gave {message}")));
        }
        if vectors.first_not_finite().is_some() {
            return Err(Error::new(ErrorKind::NonFinite, "a vector is not finite"));
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tower::{About, Side};
    use care_core::{Document, Query};

    /// Gives the first token id of a text. Waits in front of each batch until the test lets it go on; records batches.
    #[derive(Default)]
    struct Fake {
        gate: Mutex<Gate>,
        moved: Condvar,
        about: std::sync::OnceLock<About>,
    }

    #[derive(Default)]
    struct Gate {
        /// Batches that may be computed.
        allowed: usize,
        batches: Vec<Vec<u32>>,
    }

    impl Fake {
        fn open(&self, batches: usize) {
            self.gate.lock().expect("not poisoned").allowed += batches;
            self.moved.notify_all();
        }

        /// Waits until so many batches were begun.
        fn begun(&self, batches: usize) {
            let gate = self.gate.lock().expect("not poisoned");
            drop(self.moved.wait_while(gate, |gate| gate.batches.len() < batches).expect("not poisoned"));
        }

        fn batches(&self) -> Vec<Vec<u32>> {
            self.gate.lock().expect("not poisoned").batches.clone()
        }
    }

    impl<T: Text> ServedTower<T> for Fake {
        fn about(&self) -> &About {
            self.about.get_or_init(|| About {
                fingerprint: "f".into(),
                instruction: String::new(),
                dim: 1,
                unit_length: false,
                max_length: 100,
                vocab_size: 1000,
                special_tokens: Vec::new(),
                dtype: "f32".into(),
                pooling: "mean".into(),
                device: "cpu".into(),
                architecture: "fake".into(),
            })
        }

        fn tokenize(&self, _texts: &[T], _limit: usize, _side: Option<Side>) -> Result<Vec<Tokens>> {
            Ok(Vec::new())
        }

        fn embed(&self, texts: &[Tokens]) -> Result<Embeddings> {
            let mut gate = self.gate.lock().expect("not poisoned");
            gate.batches.push(texts.iter().map(|text| text.ids[0]).collect());
            self.moved.notify_all();
            let mut gate = self.moved.wait_while(gate, |gate| gate.allowed == 0).expect("not poisoned");
            gate.allowed -= 1;
            drop(gate);
            if texts.iter().any(|text| text.ids[0] == 666) {
                panic!("bad text");
            }
            let vector = |text: &Tokens| [if text.ids[0] == 777 { f32::NAN } else { text.ids[0] as f32 }];
            Embeddings::from_rows(1, texts.iter().map(vector))
        }

        fn token(&self, _id: u32) -> Option<String> {
            None
        }
    }

    const FREE: usize = 1 << 20;

    fn lane<T: Text>(tower: &Arc<Fake>, waiting: usize, batch: usize, first: Option<Arc<Traffic>>) -> Lane<T> {
        let limits = LaneLimits { waiting, batch };
        Lane::new(tower.clone(), limits, first, Arc::default()).expect("starts")
    }

    /// Texts whose first ids are these, of `size` tokens each.
    fn texts(firsts: impl IntoIterator<Item = u32>, size: usize) -> Vec<Tokens> {
        let text = |first| Tokens { ids: [vec![first], vec![0; size - 1]].concat(), types: None };
        firsts.into_iter().map(text).collect()
    }

    fn spawn<T: Text>(
        lane: &Arc<Lane<T>>,
        texts: Vec<Tokens>,
    ) -> tokio::task::JoinHandle<std::result::Result<Answer, Failure>> {
        let lane = lane.clone();
        tokio::spawn(async move { lane.embed(texts).await })
    }

    /// Waits until so many texts are in the lane.
    async fn entered<T: Text>(lane: &Lane<T>, texts: usize) {
        while lane.shared.traffic.texts.lock().expect("not poisoned").count != texts {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn everybody_gets_their_own_vectors_and_batches_are_shared() {
        let tower = Arc::new(Fake::default());
        let lane = Arc::new(lane::<Query>(&tower, FREE, FREE, None));
        let running = spawn(&lane, texts([0], 1));
        tower.begun(1);
        let callers: Vec<_> = (1..5).map(|caller| spawn(&lane, texts(caller * 10..caller * 10 + 3, 2))).collect();
        entered(&lane, 1 + 12).await;
        tower.open(2);
        assert_eq!(running.await.expect("joins").expect("embeds").rows, [[0.0]]);
        for (caller, answer) in (1..5).zip(callers) {
            let rows = answer.await.expect("joins").expect("embeds").rows;
            assert_eq!(rows.concat(), [0, 1, 2].map(|row| (caller * 10 + row) as f32));
        }
        assert_eq!(tower.batches().iter().map(Vec::len).collect::<Vec<_>>(), [1, 12]);
        assert_eq!(lane.embed(Vec::new()).await.expect("nothing to do"), Answer::default());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn turns_are_counted_in_tokens() {
        let tower = Arc::new(Fake::default());
        let lane = Arc::new(lane::<Query>(&tower, FREE, 50, None));
        let running = spawn(&lane, texts([0], 1));
        tower.begun(1);
        let long = spawn(&lane, texts(100..110, 50));
        entered(&lane, 11).await;
        let short = spawn(&lane, texts(200..210, 5));
        entered(&lane, 21).await;
        tower.open(100);
        for caller in [running, long, short] {
            caller.await.expect("joins").expect("embeds");
        }
        // One long text, then as many short ones as have its tokens.
        let batches = tower.batches();
        assert_eq!(batches[1], [100], "{batches:?}");
        assert_eq!(batches[2], (200..210).collect::<Vec<u32>>(), "{batches:?}");
        assert!(batches[3..].iter().all(|batch| batch.len() == 1 && batch[0] > 100 && batch[0] < 110));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_lane_refuses_and_says_when_to_return() {
        let tower = Arc::new(Fake::default());
        let lane = Arc::new(lane::<Query>(&tower, 10, FREE, None));
        let running = spawn(&lane, texts([0], 1));
        tower.begun(1);
        // Larger than the lane, and nothing else waits.
        let large = spawn(&lane, texts([1, 2, 3], 9));
        entered(&lane, 4).await;
        let refused = lane.embed(texts([4], 1)).await.expect_err("full");
        assert_eq!(refused.message, "no room for 1 more tokens: 27 of 10 wait");
        assert_eq!((refused.kind, refused.retry_after), (Kind::Overloaded, Some(1)));
        tower.open(3);
        for caller in [running, large] {
            caller.await.expect("joins").expect("embeds");
        }
        assert_eq!(lane.embed(texts([4], 1)).await.expect("room again").rows, [[4.0]]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_given_up_is_not_computed() {
        let tower = Arc::new(Fake::default());
        let lane = Arc::new(lane::<Query>(&tower, 100, FREE, None));
        let running = spawn(&lane, texts([0], 1));
        tower.begun(1);
        let gone = spawn(&lane, texts(10..20, 10));
        entered(&lane, 11).await;
        gone.abort();
        entered(&lane, 1).await;
        let other = spawn(&lane, texts([7], 100));
        entered(&lane, 2).await;
        tower.open(2);
        running.await.expect("joins").expect("embeds");
        assert_eq!(other.await.expect("joins").expect("embeds").rows, [[7.0]]);
        assert_eq!(tower.batches(), [[0], [7]]);
        assert_eq!(lane.shared.lock().tokens, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bad_text_fails_alone() {
        let tower = Arc::new(Fake::default());
        tower.open(1000);
        let lane = Arc::new(lane::<Query>(&tower, FREE, FREE, None));
        let error = lane.embed(texts([666], 1)).await.expect_err("panics");
        assert_eq!((error.kind, error.message.as_str()), (Kind::Backend, "the tower panicked: bad text"));
        let (bad, good) = (spawn(&lane, texts([1, 666], 1)), spawn(&lane, texts([2], 1)));
        bad.await.expect("joins").expect_err("panics");
        assert_eq!(good.await.expect("joins").expect("embeds").rows, [[2.0]]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_error_names_a_text_by_its_number_in_the_request() {
        let tower = Arc::new(Fake::default());
        let lane = Arc::new(lane::<Query>(&tower, FREE, FREE, None));
        let running = spawn(&lane, texts([0], 1));
        tower.begun(1);
        // Both wait, and share a batch.
        let good = spawn(&lane, texts([1, 2], 1));
        entered(&lane, 3).await;
        let bad = spawn(&lane, texts([3, 4, 777], 1));
        entered(&lane, 6).await;
        tower.open(1000);
        let error = bad.await.expect("joins").expect_err("not finite");
        assert_eq!((error.kind, error.message.as_str()), (Kind::Backend, "the vector of text 2 is not finite"));
        assert_eq!(good.await.expect("joins").expect("embeds").rows, [[1.0], [2.0]]);
        running.await.expect("joins").expect("embeds");
        assert_eq!(tower.batches()[1].len(), 5);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn documents_give_way_and_are_computed_in_the_end() {
        let (queries, documents) = (Arc::new(Fake::default()), Arc::new(Fake::default()));
        let first = Arc::new(lane::<Query>(&queries, FREE, FREE, None));
        let second = Arc::new(lane::<Document>(&documents, FREE, 10, Some(first.traffic())));
        documents.open(100);
        // A query that is never done does not hold documents up for ever.
        let query = spawn(&first, texts([0], 1));
        queries.begun(1);
        let rows = second.embed(texts(0..3, 10)).await.expect("embeds").rows;
        assert_eq!(rows.concat(), [0.0, 1.0, 2.0]);
        // Pieces of one text each: a query would have gone between any two.
        assert_eq!(documents.batches(), [[0], [1], [2]]);
        queries.open(1);
        query.await.expect("joins").expect("embeds");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn documents_are_computed_in_smaller_batches_while_there_are_queries() {
        let (queries, documents) = (Arc::new(Fake::default()), Arc::new(Fake::default()));
        let first = Arc::new(lane::<Query>(&queries, FREE, FREE, None));
        let second = Arc::new(lane::<Document>(&documents, FREE, 40, Some(first.traffic())));
        queries.open(100);
        documents.open(100);
        second.embed(texts(0..4, 10)).await.expect("embeds");
        first.embed(texts([0], 1)).await.expect("embeds");
        second.embed(texts(4..6, 10)).await.expect("embeds");
        assert_eq!(documents.batches(), [vec![0, 1, 2, 3], vec![4], vec![5]]);
        tokio::time::sleep(RECENT).await;
        second.embed(texts(6..8, 10)).await.expect("embeds");
        assert_eq!(documents.batches()[3..], [[6, 7]]);
    }

    #[test]
    fn any_thread_may_wait_and_dropping_a_lane_answers_what_waits() {
        use rayon::prelude::*;
        let tower = Arc::new(Fake::default());
        tower.open(1000);
        let lane = Arc::new(lane::<Query>(&tower, FREE, FREE, None));
        // All threads of the pool that towers compute on.
        let rows: Vec<f32> = (0..64u32)
            .into_par_iter()
            .map(|first| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("starts");
                runtime.block_on(lane.embed(texts([first], 1))).expect("embeds").rows[0][0]
            })
            .collect();
        assert_eq!(rows, (0..64).map(|first| first as f32).collect::<Vec<_>>());
        let ticket = Shared::enter(&lane.shared, texts([5], 1)).expect("room");
        drop(lane);
        let mut ticket = ticket;
        assert_eq!(ticket.answers.blocking_recv().expect("answered").row, 0);
    }
}
