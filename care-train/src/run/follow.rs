//! A process that is not the first: it does what the first tells all to do.

use care_core::{Error, ErrorKind, Result};

use super::{Outcome, Prepared, Run, changed_before};
use crate::command::Command;
use crate::trainer::Trainer;

impl Run<'_> {
    /// Follows the first process until the run is over or interrupted.
    pub(super) fn follow(&self, prepared: Prepared) -> Result<Outcome> {
        let Prepared { sources, pair, mut tokens, .. } = prepared;
        let stages = self.config.stages();
        let mut pair = Some(pair);
        let mut current: Option<Trainer<'_>> = None;
        loop {
            match (Command::wait(&*self.group)?, &mut current) {
                (Command::Stage(index), done) if index < stages.len() => {
                    let done = done.take().map(Trainer::finish).transpose()?;
                    let Some(pair) = done.or_else(|| pair.take()) else { return Err(out_of_order()) };
                    let row_tokens = tokens[index].take();
                    let mut trainer = self.trainer(pair, &stages[index], index, &sources[index], row_tokens)?;
                    if self.config.teacher_cache().is_some() {
                        trainer.expect_teacher();
                    }
                    trainer.share_state(changed_before(stages, index))?;
                    current = Some(trainer);
                }
                (Command::Encode(texts), Some(trainer)) => trainer.towers().encode_share(&texts)?,
                (Command::Step, Some(trainer)) => drop(trainer.step()?),
                (Command::Compare, Some(trainer)) => trainer.compare_weights()?,
                (Command::End, _) => return Ok(Outcome::Followed),
                _ => return Err(out_of_order()),
            }
        }
    }
}

fn out_of_order() -> Error {
    Error::new(ErrorKind::Peer, "process 0 gives commands of another order than this version knows")
}
