//! A trainer as one of several processes that train together.

use std::sync::Arc;

use care_core::{Error, ErrorKind, Result, Role};
use care_encoders::layers::Prepack;
use care_encoders::{AnyEncoder, Network};
use serde::{Deserialize, Serialize};

use super::Trainer;
use crate::checkpoint::{
    Written, bytes_of_tensors, moments_of, named_weights, restore_moments, restore_weights, tensors_of,
};
use crate::collective::{Collective, garbled};
use crate::config::TrainMode;
use crate::fingerprint::{agree, settings_of_stage};

/// Where the first process is in a stage.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    step: usize,
    /// Steps of each weight.
    times: std::collections::BTreeMap<String, usize>,
}

impl Trainer<'_> {
    /// Trains together with other processes. Each makes a trainer of the same pair, stage, data and seed, adds the same
    /// custom losses, and then calls this, and each makes every step. All start from the trained weights of the first.
    ///
    /// A batch's chunks are shared, each loss sees the vectors of the whole batch, and only gradients of weights are
    /// summed, in the order of the chunks. With `grad_cache` the weights have the same bits as those of one process.
    ///
    /// # Errors
    /// [`ErrorKind::Peer`] if a process has another stage, other data, another seed or other instructions of the
    /// processor, or is lost.
    pub fn with_collective(self, group: Arc<dyn Collective>) -> Result<Self> {
        let mut trainer = self.in_group(&group);
        agree(&*group, settings_of_stage(trainer.stage, trainer.sources, trainer.seed)?)?;
        trainer.share_state([false; 2])?;
        Ok(trainer)
    }

    /// The same trainer as one of these processes.
    pub(crate) fn in_group(mut self, group: &Arc<dyn Collective>) -> Self {
        self.towers.group = Arc::clone(group);
        self
    }

    pub(crate) fn group(&self) -> &dyn Collective {
        &*self.towers.group
    }

    /// States that the first process has a cache of the frozen document tower's vectors.
    pub(crate) fn expect_teacher(&mut self) {
        self.towers.teacher_elsewhere = self.stage.mode(Role::Document) == TrainMode::Frozen;
    }

    /// The networks as a checkpoint has them: the trained weights, or all of a network that an earlier stage has changed.
    pub(crate) fn written(&self, changed: [bool; 2]) -> [Written<'static, Network<AnyEncoder>>; 2] {
        let written = |role: Role, whole| {
            let network = self.network(role);
            // A frozen network stays packed while a copy is read.
            let network = if whole { network.unpacked_copy() } else { network.clone() };
            Written { name: role.as_str(), network, whole }
        };
        [written(Role::Query, changed[0]), written(Role::Document, changed[1])]
    }

    /// Gives all processes the weights, moments and step of the first. `changed` states which towers earlier stages have
    /// changed.
    ///
    /// # Errors
    /// Returns an error if a process is lost, or its towers are not those of the first.
    pub(crate) fn share_state(&mut self, changed: [bool; 2]) -> Result<()> {
        match (self.group().world(), self.group().rank()) {
            (1, _) => Ok(()),
            (_, 0) => self.give_state(changed),
            _ => self.take_state(),
        }
    }

    fn give_state(&self, changed: [bool; 2]) -> Result<()> {
        let unsent = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Peer, format!("cannot send weights: {e}"));
        let (times, moments) = moments_of(&self.optimizer);
        let state = serde_json::to_vec(&State { step: self.step, times }).map_err(|e| unsent(&e))?;
        self.group().broadcast(0, state)?;
        for Written { network, whole, .. } in self.written(changed) {
            let weights = bytes_of_tensors(&named_weights(&network, whole)).map_err(|e| unsent(&e))?;
            self.group().broadcast(0, weights)?;
        }
        self.group().broadcast(0, bytes_of_tensors(&moments).map_err(|e| unsent(&e))?)?;
        Ok(())
    }

    fn take_state(&mut self) -> Result<()> {
        let next = || self.group().broadcast(0, Vec::new());
        let state: State = serde_json::from_slice(&next()?).map_err(|e| garbled(0, e))?;
        let (mut weights, mut taken) = (Vec::new(), next()?);
        for _ in 0..2 {
            weights.push(tensors_of(&taken).map_err(|e| garbled(0, e))?);
            taken = next()?;
        }
        let moments = tensors_of(&taken).map_err(|e| garbled(0, e))?;
        let trained = self.towers.trained;
        let mut weights = weights.into_iter();
        let mut restore = |network: Network<AnyEncoder>, trained: bool| {
            let weights = weights.next().unwrap_or_default();
            if weights.is_empty() {
                return Ok(network);
            }
            let network = restore_weights(weights, network).map_err(|e| garbled(0, e))?;
            Ok(if trained { network } else { network.prepacked(Prepack::F32) })
        };
        let towers = &mut self.towers;
        towers.query = towers.query.clone().try_map_network(|network| restore(network, trained[0]))?;
        towers.document = towers.document.clone().try_map_network(|network| restore(network, trained[1]))?;
        let device = crate::pass::device(self.towers.document.network()).inner();
        restore_moments(&state.times, moments, &mut self.optimizer, &device).map_err(|e| garbled(0, e))?;
        self.step = state.step;
        Ok(())
    }

    /// Checks that all processes have the same trained weights.
    ///
    /// # Errors
    /// [`ErrorKind::Peer`] if one has others, or is lost.
    pub(crate) fn compare_weights(&self) -> Result<()> {
        if self.group().world() == 1 {
            return Ok(());
        }
        let weights =
            [Role::Query, Role::Document].into_iter().flat_map(|role| named_weights(self.network(role), false));
        let sum = weights.fold(0, |sum, (_, data)| crc32c::crc32c_append(sum, data.as_bytes()));
        let all = self.group().all_gather(sum.to_ne_bytes().to_vec())?;
        match all.iter().position(|other| *other != all[0]) {
            None => Ok(()),
            Some(rank) => {
                let step = self.step;
                let message = format!("after step {step}, process {rank} has other weights than process 0");
                Err(Error::new(ErrorKind::Peer, message))
            }
        }
    }
}

#[cfg(test)]
mod tests;
