//! A store as one worker sees it: slow, skewed, and dead after some operations, the last of which may be half done.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use care_shard::Clock;
use care_shard::object_store::path::Path;
use care_shard::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A clock that moves only when somebody sleeps or a store is slow.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimulatedClock(Arc<Mutex<Duration>>);

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
        std::thread::yield_now();
    }
}

/// What goes wrong, besides the end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// One write in so many takes ten minutes; 0: none.
    pub(crate) slow: u32,
    /// One claim in so many succeeds although another worker has it; 0: none.
    pub(crate) duplicated: u32,
    /// The store's clock is wrong by up to so many minutes.
    pub(crate) skew_minutes: i64,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    clock: SimulatedClock,
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: ChaCha8Rng,
    /// Operations until the worker is killed; none: it is not.
    left: Option<u32>,
}

/// How an operation ends.
#[derive(PartialEq)]
enum Fate {
    Done,
    /// Done in half, or not at all.
    Torn,
    /// Done, but the answer is lost.
    Unanswered,
}

impl Faulty {
    pub(crate) fn new(
        inner: Arc<dyn ObjectStore>,
        clock: SimulatedClock,
        faults: Faults,
        seed: u64,
        left: Option<u32>,
    ) -> Self {
        let state = Mutex::new(State { random: ChaCha8Rng::seed_from_u64(seed), left });
        Self { inner, clock, faults, state }
    }

    fn fate(&self) -> Result<Fate> {
        let mut state = self.state.lock().unwrap();
        let Some(left) = state.left else { return Ok(Fate::Done) };
        state.left = Some(left.saturating_sub(1));
        match left {
            0 => Err(killed()),
            1 if state.random.random_bool(0.5) => Ok(Fate::Torn),
            1 => Ok(Fate::Unanswered),
            _ => Ok(Fate::Done),
        }
    }

    fn one_in(&self, count: u32) -> bool {
        count > 0 && self.state.lock().unwrap().random.random_range(0..count) == 0
    }

    fn skewed(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let most = self.faults.skew_minutes;
        let minutes = self.state.lock().unwrap().random.random_range(-most..=most);
        meta.last_modified += chrono::Duration::minutes(minutes);
        meta
    }
}

fn killed() -> Error {
    Error::Generic { store: "faulty", source: "the worker was killed".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fate = self.fate()?;
        if self.one_in(self.faults.slow) {
            self.clock.sleep(Duration::from_secs(600));
        }
        let (is_commit, is_lease) = (at.as_ref().contains("/commits/"), at.as_ref().contains("/leases/"));
        match fate {
            Fate::Done => {}
            // A marker is created whole, or not at all: this is what stores promise.
            Fate::Torn if is_commit => return Err(killed()),
            Fate::Torn => {
                let content: Vec<u8> = payload.iter().flatten().copied().collect();
                let half = content[..content.len() / 2].to_vec();
                self.inner.put_opts(at, half.into(), options).await?;
                return Err(killed());
            }
            Fate::Unanswered => {
                self.inner.put_opts(at, payload, options).await?;
                return Err(killed());
            }
        }
        let create = options.mode == PutMode::Create;
        let result = self.inner.put_opts(at, payload.clone(), options).await;
        match result {
            Err(Error::AlreadyExists { .. }) if create && is_lease && self.one_in(self.faults.duplicated) => {
                self.inner.put(at, payload).await
            }
            result => result,
        }
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fate()? {
            Fate::Done => {
                let mut result = self.inner.get_opts(at, options).await?;
                if self.faults.skew_minutes > 0 && !at.as_ref().ends_with(".jsonl") {
                    result.meta = self.skewed(result.meta);
                }
                Ok(result)
            }
            _ => Err(killed()),
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.fate() {
            Ok(Fate::Done | Fate::Unanswered) => self.inner.delete_stream(paths),
            _ => futures_util::stream::once(async { Err(killed()) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fate() {
            Ok(Fate::Done) => self.inner.list(prefix),
            _ => futures_util::stream::once(async { Err(killed()) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
