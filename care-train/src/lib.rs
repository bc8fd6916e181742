#![doc = include_str!("../README.md")]

mod batcher;
mod checkpoint;
mod config;
mod dataset;
mod loss;
mod objective;
mod optim;
mod run;
mod schedule;
mod stage;
mod trainer;

pub use config::{CheckedStage, CheckedTrainConfig, ModelConfig, StageConfig, TowerConfig, TrainConfig};
pub use dataset::{Source, TrainingExample, read_source};
pub use loss::{embedding_mse, info_nce};
pub use run::{Outcome, run};
pub use schedule::Schedule;
pub use stage::StageKind;
pub use trainer::{Observer, StepReport, train_stage};
