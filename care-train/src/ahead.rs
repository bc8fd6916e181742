//! The next batch, read while the current one is computed.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use care_core::Result;

use crate::batcher::Batcher;
use crate::config::CheckedStage;
use crate::towers::{ReadBatch, Towers};

/// A batcher that is asked for a batch while the one before is computed.
///
/// What a batch holds follows from its number, so it is the same whenever it is read.
pub(crate) struct Ahead<'a> {
    batcher: Mutex<Batcher<'a>>,
    /// The number of a batch that nobody has taken yet, and the batch or why it could not be read.
    ready: Cell<Option<(usize, Result<ReadBatch>)>>,
}

impl<'a> Ahead<'a> {
    pub(crate) fn new(batcher: Batcher<'a>) -> Self {
        Self { batcher: Mutex::new(batcher), ready: Cell::new(None) }
    }

    /// The batcher, once no batch is being read.
    pub(crate) fn batcher(&self) -> MutexGuard<'_, Batcher<'a>> {
        self.batcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch with this number, which was read ahead or is read now.
    ///
    /// # Errors
    /// Returns an error if rows cannot be read.
    pub(crate) fn take(&self, number: usize, towers: &Towers, stage: &CheckedStage) -> Result<ReadBatch> {
        match self.ready.take() {
            Some((ready, batch)) if ready == number => batch,
            _ => towers.read(stage, self.batcher().batch(number)?),
        }
    }

    /// Does `work` while a second thread reads the batch with this number, and returns once both are done. What keeps the
    /// batch from being read is an error of [`Ahead::take`].
    pub(crate) fn meanwhile<T>(
        &self,
        number: usize,
        towers: &Towers,
        stage: &CheckedStage,
        work: impl FnOnce() -> T,
    ) -> T {
        let batcher = &self.batcher;
        let read = move || {
            let batch = batcher.lock().unwrap_or_else(PoisonError::into_inner).batch(number)?;
            towers.read(stage, batch)
        };
        let (done, batch) = thread::scope(|scope| {
            let reader = scope.spawn(read);
            (work(), reader.join())
        });
        self.ready.set(Some((number, batch.unwrap_or_else(|panic| resume_unwind(panic)))));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batcher::BatchSettings;
    use crate::config::StageConfig;
    use crate::dataset::Source;
    use crate::stage::StageKind;
    use crate::testing::common;
    use crate::trainer::Trainer;

    fn stage(kind: StageKind) -> CheckedStage {
        let config = StageConfig::new(kind).with(|stage| stage.batch_size = 4);
        config.check().expect("good")
    }

    fn ahead(sources: &[Source]) -> Ahead<'_> {
        let settings = BatchSettings { batch_size: 4, group_size: 1, no_duplicates: false };
        Ahead::new(Batcher::new(sources, settings, 3))
    }

    #[test]
    fn a_batch_is_the_same_read_ahead_or_when_it_is_taken() {
        let sources = [Source::new("built in", common::examples()).expect("rows")];
        for kind in [StageKind::QueryAlignment, StageKind::JointFinetuning] {
            let stage = stage(kind);
            let trainer = Trainer::new(common::pair(0.0), &stage, &sources, 3).expect("a trainer");
            let (ahead, towers) = (ahead(&sources), trainer.towers());
            for number in 0..7 {
                let expected = self::ahead(&sources).take(number, towers, &stage).expect("rows");
                assert_eq!(ahead.meanwhile(number, towers, &stage, || number), number);
                assert_eq!(ahead.take(number, towers, &stage).expect("rows"), expected);
                // Another than was read ahead, and one that was taken.
                assert_eq!(ahead.take(number, towers, &stage).expect("rows"), expected);
            }
        }
    }

    #[test]
    fn work_does_not_wait_for_the_batch() {
        let sources = [Source::new("built in", common::examples()).expect("rows")];
        let stage = stage(StageKind::JointFinetuning);
        let trainer = Trainer::new(common::pair(0.0), &stage, &sources, 3).expect("a trainer");
        let ahead = ahead(&sources);
        // The batch can be read only once this is dropped, which the work does.
        let held = ahead.batcher();
        ahead.meanwhile(0, trainer.towers(), &stage, || drop(held));
        assert!(ahead.ready.take().is_some_and(|(number, batch)| number == 0 && batch.is_ok()));
    }
}
