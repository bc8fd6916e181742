//! What all requests share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;

use crate::failure::{Failure, Kind};
use crate::metrics::Metrics;
use crate::options::ServeOptions;
use crate::service::Service;

/// What all requests share.
pub(crate) struct App {
    pub(crate) options: ServeOptions,
    pub(crate) metrics: Arc<Metrics>,
    /// Requests that may still begin.
    pub(super) free: Arc<Semaphore>,
    /// The turn of a reranker's call.
    pub(super) reranking: Arc<Semaphore>,
    /// Seconds since 1970 at the start.
    pub(super) started: u64,
    /// The pair, once it is loaded.
    service: OnceLock<Arc<Service>>,
    ids: AtomicU64,
}

impl App {
    pub(crate) fn new(options: ServeOptions) -> Self {
        let free = Arc::new(Semaphore::new(options.max_concurrent_requests.min(Semaphore::MAX_PERMITS)));
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self {
            options,
            metrics: Arc::default(),
            free,
            reranking: Arc::new(Semaphore::new(1)),
            started,
            service: OnceLock::new(),
            ids: AtomicU64::new(0),
        }
    }

    /// An id that this server has not given yet, and another does not give at the same time.
    pub(super) fn next_id(&self) -> String {
        format!("{:x}-{:x}-{:x}", self.started, std::process::id(), self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets requests reach the pair. A second call changes nothing.
    pub(crate) fn set_service(&self, service: Service) {
        // The first pair stays.
        let _ = self.service.set(Arc::new(service));
    }

    /// The pair.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] until its weights are loaded.
    pub(crate) fn service(&self) -> Result<&Arc<Service>, Failure> {
        self.service.get().ok_or_else(|| {
            let loading = Failure::new(Kind::Unavailable, "the model is being loaded");
            loading.retry_after(std::time::Duration::from_secs(5))
        })
    }
}
