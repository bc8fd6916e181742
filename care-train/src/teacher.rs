//! The frozen tower's vectors, computed once and kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use care_core::{EmbeddingStore, Result};
use care_encoders::tower_fingerprint;

use crate::config::CheckedStage;
use crate::dataset::Source;
use crate::stage::StageKind;
use crate::towers::{Towers, prepare};

/// Texts of a shard: what a kill costs at most.
const SHARD: usize = 512;

/// The texts of a stage that the frozen document tower reads, in lots of similar length.
///
/// Lots follow from the texts alone, so that a run that was killed while it filled the store computes the
/// same lots when it goes on, to the last bit.
pub(crate) struct TeacherTexts {
    texts: Vec<String>,
    next: usize,
    /// Files of the store that are torn, changed or foreign.
    pub(crate) refused: Vec<PathBuf>,
}

impl TeacherTexts {
    /// What the document tower reads of a stage's rows.
    pub(crate) fn new(towers: &Towers, stage: &CheckedStage, sources: &[Source], refused: Vec<PathBuf>) -> Self {
        let mut texts = BTreeSet::new();
        for example in sources.iter().flat_map(Source::examples) {
            let reads_query = stage.kind == StageKind::QueryAlignment;
            let negatives = if stage.group_size > 1 { example.negatives.as_slice() } else { &[] };
            let read = reads_query.then_some(&example.query).into_iter().chain(&example.positives).chain(negatives);
            let read: Vec<String> = read.cloned().collect();
            texts.extend(match reads_query {
                true => prepare(towers.document.instruction(), &read),
                false => towers.prepare_documents(stage, example.row_type, &[example.prompt.as_ref()], &read),
            });
        }
        let mut texts: Vec<String> = texts.into_iter().collect();
        // Stable: texts of one length stay in their order.
        texts.sort_by_key(String::len);
        Self { texts, next: 0, refused }
    }

    /// How many texts there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Computes what the next lot lacks. The texts that have been seen to, or `None` when all are.
    ///
    /// # Errors
    /// When a text cannot be encoded or a shard cannot be written.
    pub(crate) fn fill_next(&mut self, towers: &Towers) -> Result<Option<usize>> {
        let lot = &self.texts[self.next..self.texts.len().min(self.next + SHARD)];
        let Some(store) = towers.teacher.as_ref().filter(|_| !lot.is_empty()) else { return Ok(None) };
        towers.known_vectors(store, lot)?;
        self.next += lot.len();
        Ok(Some(self.next))
    }
}

/// The store of a frozen document tower's vectors, and the files in it that are not used.
///
/// # Errors
/// When the folder cannot be read or made.
pub(crate) fn open_store(folder: &Path, towers: &Towers) -> Result<(Mutex<EmbeddingStore>, Vec<PathBuf>)> {
    let fingerprint = tower_fingerprint(&towers.document)?;
    let store = EmbeddingStore::open(folder, &fingerprint, towers.document.embedding_dim())?;
    let refused = store.refused().to_vec();
    Ok((Mutex::new(store), refused))
}
