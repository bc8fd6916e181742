//! The frozen document tower's vectors, computed once and cached, some steps ahead of their use.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use care_core::Result;
use care_core::store::{EmbeddingStore, SHARD};
use care_encoders::tower_fingerprint;

use crate::batcher::Batcher;
use crate::config::CheckedStage;
use crate::stage::StageKind;
use crate::towers::Towers;

/// Texts per lot, about: enough to sort them by length, few enough to keep in memory.
const LOT: usize = 4096;

/// Divides the batches of a stage into lots, whose texts are encoded together before the first step that needs one.
///
/// A lot is the same batches however often a run was interrupted, so that a run that was killed while it filled the
/// store computes bit-identical shards when it resumes.
pub(crate) struct TeacherLots {
    /// Batches per lot.
    batches: usize,
    /// The first lot that was not handed out yet.
    next: usize,
}

/// The texts of a lot, in shards of texts of similar length.
pub(crate) struct TeacherLot {
    texts: Vec<String>,
    next: usize,
}

impl TeacherLots {
    pub(crate) fn new(batcher: &Batcher<'_>) -> Self {
        Self::of(LOT.div_ceil(batcher.most_documents()))
    }

    /// Lots of this many batches.
    pub(crate) fn of(batches: usize) -> Self {
        Self { batches, next: 0 }
    }

    /// The texts that the document tower encodes in the lot that the step with these batches reaches, or `None` if they
    /// were handed out before or are all in the store. `end` is the end of the stage's batches.
    ///
    /// # Errors
    /// Returns an error if rows cannot be read.
    pub(crate) fn coming(
        &mut self,
        step: Range<usize>,
        end: usize,
        batcher: &mut Batcher<'_>,
        towers: &Towers,
        stage: &CheckedStage,
    ) -> Result<Option<TeacherLot>> {
        let lots = step.start / self.batches..(step.end - 1) / self.batches + 1;
        for lot in lots.start.max(self.next)..lots.end {
            let first = lot * self.batches;
            let texts = texts(first..end.min(first + self.batches), batcher, towers, stage)?;
            self.next = lot + 1;
            if !texts.is_empty() {
                return Ok(Some(TeacherLot { texts, next: 0 }));
            }
        }
        Ok(None)
    }
}

/// The texts of these batches that the document tower encodes, by length; none if the store has them all.
fn texts(
    batches: Range<usize>,
    batcher: &mut Batcher<'_>,
    towers: &Towers,
    stage: &CheckedStage,
) -> Result<Vec<String>> {
    let mut texts = BTreeSet::new();
    for number in batches {
        let batch = batcher.batch(number)?;
        texts.extend(match stage.kind {
            StageKind::QueryAlignment => towers.prepare_for_teacher(stage, &[batch.queries, batch.documents].concat()),
            _ => {
                let prompts: Vec<Option<&String>> = batch.prompts.iter().map(Option::as_ref).collect();
                towers.prepare_documents(stage, batch.row_type, &prompts, &batch.documents)
            }
        });
    }
    let mut texts: Vec<String> = texts.into_iter().collect();
    if towers.teacher_has(&texts)? {
        return Ok(Vec::new());
    }
    // Stable: texts of one length stay in their order.
    texts.sort_by_key(String::len);
    Ok(texts)
}

impl TeacherLot {
    /// Number of texts.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Computes the missing vectors of the next shard. Returns the number of texts done so far, or `None` once all are.
    ///
    /// # Errors
    /// Returns an error if a text cannot be encoded or a shard cannot be written.
    pub(crate) fn fill_next(&mut self, towers: &Towers) -> Result<Option<usize>> {
        let shard = &self.texts[self.next..self.texts.len().min(self.next + SHARD)];
        let Some(store) = towers.teacher.as_ref().filter(|_| !shard.is_empty()) else { return Ok(None) };
        towers.known_vectors(store, shard, &mut |missing| towers.encode_together(missing))?;
        self.next += shard.len();
        Ok(Some(self.next))
    }
}

/// Opens the store of a frozen document tower's vectors.
///
/// # Errors
/// Returns an error if the folder cannot be read or created.
pub(crate) fn open_store(folder: &Path, towers: &Towers) -> Result<Mutex<EmbeddingStore>> {
    let fingerprint = tower_fingerprint(&towers.document)?;
    EmbeddingStore::open(folder, &fingerprint, towers.document.embedding_dim()).map(Mutex::new)
}
