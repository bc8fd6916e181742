//! The frozen document tower's vectors, computed once and cached.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use care_core::Result;
use care_core::store::EmbeddingStore;
use care_encoders::tower_fingerprint;

use crate::config::CheckedStage;
use crate::dataset::Source;
use crate::stage::StageKind;
use crate::towers::Towers;

/// Texts per shard: the most that a kill can lose.
const SHARD: usize = 512;

/// The texts of a stage that the frozen document tower encodes, in shards of texts of similar length.
///
/// Shards depend on the texts alone, so that a run that was killed while it filled the store computes bit-identical
/// shards when it resumes.
pub(crate) struct TeacherTexts {
    texts: Vec<String>,
    next: usize,
    /// Files of the store that are incomplete, modified or foreign.
    pub(crate) refused: Vec<PathBuf>,
}

impl TeacherTexts {
    /// The texts of a stage's rows that the document tower encodes.
    pub(crate) fn new(towers: &Towers, stage: &CheckedStage, sources: &[Source], refused: Vec<PathBuf>) -> Self {
        let mut texts = BTreeSet::new();
        for example in sources.iter().flat_map(Source::examples) {
            let reads_query = stage.kind == StageKind::QueryAlignment;
            let negatives = if stage.group_size > 1 { example.negatives.as_slice() } else { &[] };
            let read = reads_query.then_some(&example.query).into_iter().chain(&example.positives).chain(negatives);
            let read: Vec<String> = read.cloned().collect();
            texts.extend(match reads_query {
                true => towers.prepare_for_teacher(stage, &read),
                false => towers.prepare_documents(stage, example.row_type, &[example.prompt.as_ref()], &read),
            });
        }
        let mut texts: Vec<String> = texts.into_iter().collect();
        // Stable: texts of one length stay in their order.
        texts.sort_by_key(String::len);
        Self { texts, next: 0, refused }
    }

    /// Number of texts.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Computes the missing vectors of the next shard. Returns the number of texts done so far, or `None` once all are.
    ///
    /// # Errors
    /// Returns an error if a text cannot be encoded or a shard cannot be written.
    pub(crate) fn fill_next(&mut self, towers: &Towers) -> Result<Option<usize>> {
        let lot = &self.texts[self.next..self.texts.len().min(self.next + SHARD)];
        let Some(store) = towers.teacher.as_ref().filter(|_| !lot.is_empty()) else { return Ok(None) };
        towers.known_vectors(store, lot)?;
        self.next += lot.len();
        Ok(Some(self.next))
    }
}

/// Opens the store of a frozen document tower's vectors; also returns the files in it that are ignored.
///
/// # Errors
/// Returns an error if the folder cannot be read or created.
pub(crate) fn open_store(folder: &Path, towers: &Towers) -> Result<(Mutex<EmbeddingStore>, Vec<PathBuf>)> {
    let fingerprint = tower_fingerprint(&towers.document)?;
    let store = EmbeddingStore::open(folder, &fingerprint, towers.document.embedding_dim())?;
    let refused = store.refused().to_vec();
    Ok((Mutex::new(store), refused))
}
