//! What the first process of a run tells the others to do.

use care_core::Result;
use serde::{Deserialize, Serialize};

use crate::collective::{Collective, garbled};

/// The next thing that all processes do together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Begin the stage at this index, from the weights of the first process.
    Stage(usize),
    /// Encode a share of these texts with the frozen document tower.
    Encode(Vec<String>),
    /// Make a step.
    Step,
    /// Compare the trained weights.
    Compare,
    /// The run is over, or interrupted.
    End,
}

impl Command {
    /// Gives the command to all other processes.
    ///
    /// # Errors
    /// Returns an error if a process is lost.
    pub(crate) fn give(&self, group: &dyn Collective) -> Result<()> {
        if group.world() == 1 {
            return Ok(());
        }
        let json = serde_json::to_vec(self).map_err(|e| garbled(0, e))?;
        group.broadcast(0, json).map(drop)
    }

    /// Waits for the next command of the first process.
    ///
    /// # Errors
    /// Returns an error if a process is lost.
    pub(crate) fn wait(group: &dyn Collective) -> Result<Self> {
        serde_json::from_slice(&group.broadcast(0, Vec::new())?).map_err(|e| garbled(0, e))
    }
}
