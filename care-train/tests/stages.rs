//! What each stage learns, and what it leaves alone.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::ops::ControlFlow;

use care_core::{Embedder, Embeddings, Precision};
use care_encoders::AsymmetricEncoder;
use care_train::{Source, StageConfig, StageKind, StepReport, train_stage};

fn vectors(pair: &AsymmetricEncoder) -> (Embeddings, Embeddings) {
    let texts = ["头痛怎么办", "牙疼的处理"];
    (pair.embed_queries(&texts.map(Into::into)).unwrap(), pair.embed_documents(&texts.map(Into::into)).unwrap())
}

fn train(
    kind: StageKind,
    change: impl FnOnce(&mut StageConfig),
) -> (AsymmetricEncoder, AsymmetricEncoder, Vec<StepReport>) {
    let mut stage = StageConfig { epochs: 15, batch_size: 6, learning_rate: 5e-3, ..StageConfig::new(kind) };
    change(&mut stage);
    let before = common::pair(0.0);
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let mut reports = Vec::new();
    let after = train_stage(before.clone(), &stage.check().unwrap(), &sources, 7, &mut |report| {
        reports.push(report.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    (before, after, reports)
}

fn falls(reports: &[StepReport]) {
    let total = reports.len();
    assert!(reports.iter().zip(1..).all(|(report, step)| report.step == step && report.total_steps == total));
    let mean = |some: &[StepReport]| some.iter().map(|report| report.loss).sum::<f64>() / some.len() as f64;
    let (first, last) = (mean(&reports[..4]), mean(&reports[total - 4..]));
    assert!(last < 0.7 * first, "the loss went from {first} to {last}");
}

#[test]
fn alignment_moves_the_query_tower_to_a_document_tower_that_stays() {
    let (before, after, reports) = train(StageKind::QueryAlignment, |_| {});
    falls(&reports);
    for report in &reports {
        let sum = report.info_nce.unwrap() + report.mse.unwrap();
        assert!((report.loss - sum).abs() < 1e-4, "{report:?}");
    }
    assert_ne!(vectors(&before).0, vectors(&after).0);
    assert_eq!(vectors(&before).1, vectors(&after).1, "the document tower is frozen, to the last bit");
}

#[test]
fn alignment_with_one_loss_reports_that_one() {
    let (_, _, reports) = train(StageKind::QueryAlignment, |stage| stage.info_nce_weight = 0.0);
    assert!(reports.iter().all(|report| report.info_nce.is_none() && report.mse == Some(report.loss)));
    let (_, _, reports) = train(StageKind::QueryAlignment, |stage| stage.mse_weight = 0.0);
    assert!(reports.iter().all(|report| report.mse.is_none() && report.info_nce == Some(report.loss)));
}

#[test]
fn joint_finetuning_moves_both_towers() {
    let (before, after, reports) = train(StageKind::JointFinetuning, |stage| {
        stage.group_size = 3;
        stage.epochs = 60;
    });
    falls(&reports);
    assert_ne!(vectors(&before).0, vectors(&after).0);
    assert_ne!(vectors(&before).1, vectors(&after).1);
}

#[test]
fn symmetric_training_moves_the_document_tower_alone() {
    let (before, after, reports) = train(StageKind::SymmetricDocument, |_| {});
    falls(&reports);
    assert_eq!(vectors(&before).0, vectors(&after).0);
    assert_ne!(vectors(&before).1, vectors(&after).1);
}

#[test]
fn the_learning_rate_and_the_clipped_length_are_reported() {
    let (_, _, reports) = train(StageKind::JointFinetuning, |stage| {
        stage.learning_rate = 1e-3;
        stage.warmup_ratio = 0.1;
    });
    let rates: Vec<f64> = reports.iter().map(|report| report.learning_rate).collect();
    assert!((rates[0] - 1e-3 / 3.0).abs() < 1e-12 && (rates[2] - 1e-3).abs() < 1e-12, "{rates:?}");
    assert!((rates[29] - 1e-3 / 27.0).abs() < 1e-12, "{rates:?}");
    assert!(reports.iter().all(|report| report.gradient_norm > 0.0));
}

#[test]
fn a_source_without_hard_negatives_is_refused_by_row() {
    let mut examples = common::examples();
    examples[4].negatives.clear();
    let sources = [Source::new("built in", examples).unwrap()];
    let stage = StageConfig { group_size: 2, ..StageConfig::new(StageKind::JointFinetuning) }.check().unwrap();
    let error = train_stage(common::pair(0.0), &stage, &sources, 7, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "built in, row 4: `neg` is empty, but a group of 2 needs hard negatives; \
         set `group_size = 1` to use in-batch negatives only"
    );
}

#[test]
fn a_frozen_tower_may_have_16_bits_and_one_that_learns_may_not() {
    let half = |pair: AsymmetricEncoder| {
        let (query, document) = pair.into_towers();
        let document = document.map_network(|network| network.with_precision(Precision::Bf16));
        AsymmetricEncoder::new(query, document).unwrap()
    };
    let sources = [Source::new("built in", common::examples()).unwrap()];
    let run = |kind| {
        let stage = StageConfig { batch_size: 6, ..StageConfig::new(kind) }.check().unwrap();
        train_stage(half(common::pair(0.0)), &stage, &sources, 7, &mut |report| {
            assert!(report.loss.is_finite());
            ControlFlow::Break(())
        })
    };
    let before = vectors(&half(common::pair(0.0)));
    let after = vectors(&run(StageKind::QueryAlignment).unwrap());
    assert_ne!(before.0, after.0);
    assert_eq!(before.1, after.1);
    let error = run(StageKind::SymmetricDocument).unwrap_err().to_string();
    assert_eq!(error, "`precision` is \"bf16\", allowed: f32, since this stage trains the document tower");
}
