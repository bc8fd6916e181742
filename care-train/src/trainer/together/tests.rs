//! Several processes train as one, and what keeps them from it is an error that names the process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use burn::module::{ModuleMapper, Param};
use burn::tensor::Tensor;
use care_data::rows::TrainingExample;
use care_encoders::lora::LoraConfig;

use super::*;
use crate::collective::{Alone, TcpGroup, Timeouts};
use crate::config::StageConfig;
use crate::dataset::Source;
use crate::stage::StageKind;
use crate::testing::{common, world};

/// As long as a test on a busy machine takes at most.
fn patient() -> Timeouts {
    Timeouts::default().with(|timeouts| timeouts.silence = Duration::from_secs(300))
}

/// What a training ends with: the loss and gradient norm of each step, its tokens, and the trained weights by name.
type Trained = (Vec<(f64, f64, usize)>, Vec<(String, Vec<f32>)>);

/// Trains a stage with these processes.
fn train(config: &StageConfig, rows: Vec<TrainingExample>, group: Arc<dyn Collective>) -> Result<Trained> {
    let stage = config.clone().check().expect("good");
    let sources = [Source::new("built in", rows).expect("rows")];
    let mut trainer = Trainer::new(common::pair(0.1), &stage, &sources, 5)?.with_collective(group)?;
    let mut steps = Vec::new();
    while let Some(report) = trainer.step()? {
        steps.push((report.loss, report.gradient_norm, report.tokens));
    }
    trainer.compare_weights()?;
    Ok((steps, weights(&trainer)))
}

fn weights(trainer: &Trainer<'_>) -> Vec<(String, Vec<f32>)> {
    let of = |role: Role| {
        let named = named_weights(trainer.network(role), false).into_iter();
        named.map(move |(name, data)| (format!("{}.{name}", role.as_str()), data.try_to_vec::<f32>().expect("f32")))
    };
    [Role::Query, Role::Document].into_iter().flat_map(of).collect()
}

/// Twenty steps of a stage that this changes.
fn config(kind: StageKind, change: impl FnOnce(&mut StageConfig)) -> StageConfig {
    StageConfig::new(kind).with(|stage| {
        (stage.batch_size, stage.epochs, stage.max_steps) = (6, 20, Some(20));
        stage.group_size = if kind == StageKind::QueryAlignment { 1 } else { 3 };
        stage.grad_cache = Some(2);
        stage.learning_rate = 0.003;
        change(stage);
    })
}

fn lora(stage: &mut StageConfig) {
    stage.document.train = Some(TrainMode::Lora);
    stage.document.lora = Some(LoraConfig::reference().with(|lora| (lora.rank, lora.dropout) = (4, 0.2)));
}

#[test]
fn losses_and_weights_of_many_processes_have_the_bits_of_one() {
    let configs = [
        config(StageKind::JointFinetuning, |_| {}),
        config(StageKind::JointFinetuning, |stage| {
            lora(stage);
            stage.gradient_checkpointing = true;
        }),
        config(StageKind::JointFinetuning, |stage| {
            stage.query.train = Some(TrainMode::Frozen);
            (stage.accumulation, stage.max_steps) = (2, Some(10));
        }),
        config(StageKind::QueryAlignment, |stage| stage.query.freeze_token_table = true),
        config(StageKind::SymmetricDocument, |stage| stage.max_batch_tokens = Some(300)),
    ];
    for config in configs {
        let alone = train(&config, common::examples(), Arc::new(Alone)).expect("trained");
        assert!(alone.0.len() >= 10 && alone.0[0].0 != alone.0[9].0, "{:?}", config.kind);
        for count in [2, 4] {
            for together in world(count, patient(), |group| train(&config, common::examples(), group)) {
                assert!(together.expect("trained") == alone, "{:?} by {count} processes", config.kind);
            }
        }
    }
}

#[test]
fn without_grad_cache_they_are_equal_up_to_rounding() {
    let whole = config(StageKind::JointFinetuning, |stage| {
        stage.grad_cache = None;
        stage.query.dropout = Some(0.0);
        stage.learning_rate = 1e-4;
    });
    let (alone, expected) = train(&whole, common::examples(), Arc::new(Alone)).expect("trained");
    let all = world(3, patient(), |group| train(&whole, common::examples(), group).expect("trained"));
    assert!(all[0] == all[1] && all[0] == all[2], "processes never differ");
    for ((loss, norm, tokens), (expected, expected_norm, expected_tokens)) in all[0].0.iter().zip(alone) {
        assert!((loss / expected - 1.0).abs() < 1e-6, "loss {loss} instead of {expected}");
        assert!((norm / expected_norm - 1.0).abs() < 1e-5, "norm {norm} instead of {expected_norm}");
        assert_eq!(*tokens, expected_tokens);
    }
    // Where a gradient is rounding error alone, as that of a bias before a softmax, AdamW scales it to whole steps.
    let (mut sum, mut count) = (0.0, 0.0);
    for ((_, found), (_, expected)) in all[0].1.iter().zip(&expected) {
        sum += found.iter().zip(expected).map(|(found, expected)| f64::from((found - expected).abs())).sum::<f64>();
        count += found.len() as f64;
    }
    assert!(sum / count < 1e-6, "weights differ by {:e} in the mean", sum / count);
}

/// The reference's stage 1 batch: 8 processes with 40 queries each, which see each other's documents.
#[test]
fn eight_processes_of_forty_rows_are_one_batch_of_320() {
    let rows =
        || (0..320).map(|row| TrainingExample::new(format!("头痛{row}怎么办"), vec![format!("{row}多休息")], vec![]));
    let config = StageConfig::new(StageKind::JointFinetuning).with(|stage| {
        (stage.batch_size, stage.grad_cache, stage.epochs) = (320, Some(40), 2);
    });
    let alone = train(&config, rows().collect(), Arc::new(Alone)).expect("trained");
    assert_eq!(alone.0.len(), 2, "an epoch is one batch");
    // With 320 candidates for each query, of which none is known yet.
    assert!((alone.0[0].0 - 320f64.ln()).abs() < 3.0, "{}", alone.0[0].0);
    let all = world(8, patient(), |group| {
        let trained = train(&config, rows().collect(), Arc::clone(&group) as Arc<dyn Collective>).expect("trained");
        (trained, group.bytes_sent())
    });
    assert!(all.iter().all(|(trained, bytes)| *trained == alone && *bytes > 0));
}

#[test]
fn another_stage_seed_or_text_is_refused_by_all_with_the_difference() {
    let joint = |change: &dyn Fn(&mut StageConfig)| config(StageKind::JointFinetuning, change);
    let other_rows = || common::examples().into_iter().take(10).collect::<Vec<_>>();
    let cases = [
        (joint(&|stage| stage.learning_rate = 0.5), common::examples(), "`learning_rate` is 0.5 instead of 0.003"),
        (joint(&|stage| stage.grad_cache = None), common::examples(), "`grad_cache` is unset instead of 2"),
        (joint(&|_| {}), other_rows(), "the content of `data`"),
    ];
    for (other, rows, difference) in cases {
        let errors = world(3, patient(), |group| match group.rank() {
            1 => train(&other, rows.clone(), group).expect_err("refused"),
            _ => train(&joint(&|_| {}), common::examples(), group).expect_err("refused"),
        });
        let expected = format!("process 1 was given another run than process 0: {difference}");
        for error in errors {
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Peer, expected.clone()));
        }
    }
}

/// A process that dies after so many messages.
struct Mortal {
    group: Arc<TcpGroup>,
    left: AtomicUsize,
}

impl Mortal {
    fn live(&self) -> Result<()> {
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
        if spent {
            self.group.die();
            return Err(Error::new(ErrorKind::Peer, "died"));
        }
        Ok(())
    }
}

impl Collective for Mortal {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn world(&self) -> usize {
        self.group.world()
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        self.live()?;
        self.group.send(to, bytes)
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        self.live()?;
        self.group.receive(from)
    }

    fn abort(&self, _reason: &str) {}
}

#[test]
fn a_process_that_dies_anywhere_in_a_step_is_named_and_weights_stay() {
    let config = config(StageKind::JointFinetuning, |stage| {
        lora(stage);
        stage.max_steps = Some(2);
    });
    let stage = config.check().expect("good");
    let sources = [Source::new("built in", common::examples()).expect("rows")];
    let begin = |group: Arc<dyn Collective>| {
        Trainer::new(common::pair(0.0), &stage, &sources, 5).expect("a trainer").with_collective(group)
    };
    // The messages of process 1 up to the first step and up to its end.
    let count = world(3, patient(), |group| {
        let mortal = Arc::new(Mortal { group, left: AtomicUsize::new(usize::MAX) });
        let mut trainer = begin(Arc::clone(&mortal) as Arc<dyn Collective>).expect("begun");
        let before = usize::MAX - mortal.left.load(Ordering::Relaxed);
        trainer.step().expect("a step");
        (before, usize::MAX - mortal.left.load(Ordering::Relaxed))
    });
    let (before, after) = count[1];
    assert!(after - before > 20, "{count:?}");
    for left in (before..after).step_by(7).chain([after - 1]) {
        let found = world(3, patient(), |group| {
            let left = if group.rank() == 1 { left } else { usize::MAX };
            let mut trainer = begin(Arc::new(Mortal { group, left: AtomicUsize::new(left) })).expect("begun");
            let start = weights(&trainer);
            match trainer.step() {
                Err(error) => {
                    assert_eq!((trainer.steps_done(), weights(&trainer) == start), (0, true));
                    Some(error.to_string())
                }
                // It had given its part of the step before it died.
                Ok(_) => trainer.step().err().map(|error| error.to_string()),
            }
        });
        for rank in [0, 2] {
            let error = found[rank].as_deref().expect("an error");
            assert!(error.starts_with("process 1 of 3 "), "after {left} messages: {error}");
        }
    }
}

#[test]
fn a_process_with_other_weights_is_found() {
    struct Nudge;
    impl ModuleMapper for Nudge {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|weight| Tensor::from_inner(weight.inner().add_scalar(1e-6)).require_grad())
        }
    }
    let config = config(StageKind::JointFinetuning, |_| {});
    let stage = config.check().expect("good");
    let sources = [Source::new("built in", common::examples()).expect("rows")];
    let errors = world(3, patient(), |group| {
        let rank = group.rank();
        let trainer = Trainer::new(common::pair(0.0), &stage, &sources, 5).expect("a trainer");
        let mut trainer = trainer.with_collective(group).expect("alike");
        trainer.step().expect("a step");
        trainer.compare_weights().expect("alike");
        if rank == 2 {
            trainer.towers.query.update_network(|network| burn::module::Module::map(network, &mut Nudge));
        }
        trainer.compare_weights().expect_err("differs").to_string()
    });
    assert_eq!(errors, ["after step 1, process 2 has other weights than process 0"; 3]);
}
