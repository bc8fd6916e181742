#![doc = include_str!("../README.md")]

#[cfg(test)]
extern crate self as care_train;

mod ahead;
mod batcher;
mod card;
mod checkpoint;
mod collective;
mod command;
mod config;
#[cfg(feature = "plots")]
mod curves;
mod dataset;
mod evaluation;
mod fingerprint;
mod gradient;
mod guards;
mod lengths;
mod log;
mod loss;
mod objective;
mod optim;
mod pass;
mod reduce;
mod report;
mod run;
mod schedule;
mod shares;
mod stage;
mod teacher;
mod tensorboard;
#[cfg(test)]
mod testing;
mod towers;
mod trainer;

pub use care_data::rows::{RowType, TrainingExample};
pub use collective::{Alone, Collective, TcpGroup, Timeouts};
pub use config::{
    CheckedStage, CheckedTrainConfig, EvaluationConfig, LossConfig, LossKind, ModelConfig, Preset, StageConfig,
    TowerConfig, TowerTraining, TrainConfig, TrainMode,
};
pub use dataset::{Source, read_source, read_sources};
pub use loss::{
    Alignment, CosineDistance, Distillation, EmbeddingKl, EmbeddingMse, InfoNce, Loss, LossInput, Matryoshka,
};
pub use report::{EvaluationReport, Event, Observer, StepReport, TeacherReport};
pub use run::{CustomLosses, Outcome, Run};
pub use schedule::Schedule;
pub use stage::StageKind;
pub use trainer::{Trainer, train_stage};
