//! Embedding texts group by group, with progress and the vector cache.

use std::path::Path;

use care_core::store::{EmbeddingStore, SHARD};
use care_core::{Embeddings, Error, ErrorKind, Text};
use care_encoders::{AnyEncoder, EmbedProgress, Tower};

use crate::model::warn_of;
use crate::progress::Progress;

/// Embeds the texts of a file. What it does is shown after every pass of the network, however large the groups are.
pub(crate) struct Embedding<'a, T: Text> {
    tower: &'a Tower<T, AnyEncoder>,
    token_budget: usize,
    store: Option<EmbeddingStore>,
    /// The file, for messages.
    input: &'a Path,
    progress: Progress,
    /// What was computed.
    cost: EmbedProgress,
    /// Number of texts whose vectors were stored.
    stored: usize,
}

impl<'a, T: Text> Embedding<'a, T> {
    /// Starts with no text embedded; vectors that `store` has are not computed.
    pub(crate) fn start(
        tower: &'a Tower<T, AnyEncoder>,
        token_budget: usize,
        store: Option<EmbeddingStore>,
        input: &'a Path,
        progress: Progress,
    ) -> Self {
        Self { tower, token_budget, store, input, progress, cost: EmbedProgress::default(), stored: 0 }
    }

    /// Number of texts that have their vectors.
    fn done(&self) -> usize {
        self.cost.texts + self.stored
    }

    /// The vectors of the next group; with a store, those that it lacks are computed and added.
    pub(crate) fn embed(&mut self, texts: &[T]) -> care_core::Result<Embeddings> {
        let (prepared, before) = (self.tower.prepare(texts), self.done());
        let mut store = self.store.take();
        let embedded = match store.as_mut().map(|store| self.embed_stored(&prepared, store)) {
            Some(Ok(vectors)) => Ok(vectors),
            // Without the store, whose order of missing texts is its own, the message names the text.
            Some(Err(e)) if e.kind() != ErrorKind::NonFinite => Err(e),
            _ => self.compute(&prepared),
        };
        self.store = store;
        embedded.map_err(|e| self.after(before, e))
    }

    fn embed_stored(&mut self, prepared: &[String], store: &mut EmbeddingStore) -> care_core::Result<Embeddings> {
        let mut vectors = Embeddings::zeros(0, store.dim());
        for shard in prepared.chunks(SHARD) {
            let computed = store.fill(shard, &mut |missing| self.compute(missing))?;
            let found = store.get(shard);
            self.progress.suspend(|| warn_of(store.take_refused()));
            vectors.append(&found?)?;
            self.stored += shard.len() - computed;
            self.progress.set(self.done());
        }
        Ok(vectors)
    }

    fn compute<S: AsRef<str> + Sync>(&mut self, prepared: &[S]) -> care_core::Result<Embeddings> {
        let (tower, before) = (self.tower, self.cost);
        tower.embed_prepared(prepared, self.token_budget, &mut |now| {
            self.cost = before + *now;
            self.progress.set(self.done());
            // The kernels compute none.
            if self.cost.padding > 0 {
                self.progress.set_message(format!("{:.1} % padding", 100.0 * self.cost.padding_ratio()));
            }
        })
    }

    /// An error of a group of texts, whose indices in the message are relative to the group.
    fn after(&self, before: usize, error: Error) -> Error {
        match before {
            0 => error,
            _ => {
                let message = format!("{}, after the first {before} texts: {error}", self.input.display());
                Error::new(error.kind(), message).with_source(error)
            }
        }
    }

    /// Removes the bar. Returns what was computed and, with a store, the number of texts whose vectors it had.
    pub(crate) fn finish(self) -> (EmbedProgress, Option<usize>) {
        self.progress.finish();
        (self.cost, self.store.map(|_| self.stored))
    }
}
