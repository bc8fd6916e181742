//! Parity of losses and gradients with the reference values of `tests/data/care_loss.py`.

#![allow(clippy::unwrap_used, missing_docs)]

use burn::tensor::{DType, Device, Tensor, TensorData};
use care_encoders::head::{TruncationOrder, l2_normalize};
use care_train::{
    Alignment, CosineDistance, Distillation, EmbeddingKl, EmbeddingMse, InfoNce, Loss, LossInput, Matryoshka,
};
use serde_json::Value;

/// The reference's matrices: a linear congruential generator, exact in f64.
fn matrix(case: u64, rows: usize, width: usize, device: &Device) -> Tensor<2> {
    let mut state = 12345 + case * 1_000_003;
    let values: Vec<f64> = (0..rows * width)
        .map(|_| {
            state = (1_103_515_245 * state + 12345) % (1 << 31);
            state as f64 / f64::from(1 << 30) - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [rows, width]), (device, DType::F64)).require_grad()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap()).map(|x| x.as_f64().unwrap()).collect()
}

fn close(name: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1e-3), "{name}: {found} instead of {expected}");
}

fn check(name: &str) {
    let text = include_str!("data/care_loss.json");
    let case = serde_json::from_str::<Value>(text).unwrap()[name].clone();
    let argument = |key: &str| case["args"][key].as_u64().unwrap() as usize;
    let (batch, group, dq, dd) = (argument("B"), argument("G"), argument("dq"), argument("dd"));
    let temperature = case["args"]["T"].as_f64().unwrap();
    let device = care_encoders::Device::Cpu.open().unwrap().autodiff();

    let raw = [
        ("q_raw", matrix(0, batch, dq, &device)),
        ("p_raw", matrix(1, batch * group, dd, &device)),
        ("qd_raw", matrix(2, batch, dd, &device)),
        ("pq_raw", matrix(3, batch * group, dq, &device)),
    ];
    // Normalised at full dimension, truncated, not normalised again: the published order.
    let cut = |index: usize| l2_normalize(raw[index].1.clone()).narrow(1, 0, dq);
    let frozen = case["args"]["frozen_doc"].as_bool().unwrap();
    let documents = if frozen { cut(1).detach() } else { cut(1) };
    // The reference compares the student's vectors with the teacher's over queries and documents alike.
    let alignment = Alignment {
        student: Tensor::cat(vec![cut(0), cut(3)], 0),
        teacher: Tensor::cat(vec![cut(2), cut(1)], 0).detach(),
    };
    let input = LossInput { alignment: Some(alignment), ..LossInput::new(cut(0), documents) };
    let contrastive = InfoNce::new(temperature);
    let kind = case["args"]["kind"].as_str().unwrap();
    let mut losses: Vec<(&str, Box<dyn Loss>)> = Vec::new();
    for part in kind.split("_and_") {
        losses.push((
            part,
            match (part, case["args"]["mrl"].as_array()) {
                ("contrastive", None) => Box::new(contrastive.clone()),
                ("contrastive", Some(dims)) => {
                    let dims: Vec<usize> = dims.iter().map(|dim| dim.as_u64().unwrap() as usize).collect();
                    let order = TruncationOrder::NormalizeThenTruncate;
                    Box::new(Matryoshka::even(contrastive.clone(), &dims, order))
                }
                ("mse", _) => Box::new(EmbeddingMse),
                ("cossim", _) => Box::new(CosineDistance),
                other => panic!("{other:?}"),
            },
        ));
    }
    let mut total = None;
    for (part, loss) in losses {
        let loss = loss.forward(&input);
        close(&format!("{name} {part}"), loss.clone().into_scalar::<f64>(), case["parts"][part].as_f64().unwrap());
        total = Some(match total.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
    }
    let total = total.unwrap();
    let gradients = total.backward();
    close(&format!("{name} loss"), total.into_scalar::<f64>(), case["loss"].as_f64().unwrap());
    for (leaf, tensor) in raw {
        let expected = &case["grads"][leaf];
        let found = tensor.grad(&gradients).map(|gradient| gradient.into_data().try_to_vec::<f64>().unwrap());
        if expected.is_null() {
            assert!(found.is_none_or(|values| values.iter().all(|&value| value == 0.0)), "{name} {leaf}");
            continue;
        }
        let (found, expected) = (found.unwrap(), numbers(expected));
        let size = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = (found - expected).abs();
            assert!(off <= 1e-5 * size, "{name} gradient of {leaf}[{index}]: {found} instead of {expected}");
        }
    }
}

#[test]
fn stage_1_info_nce_and_mse() {
    check("stage1_contrastive_and_mse_G1");
}

#[test]
fn info_nce_and_mse_with_groups_of_three() {
    check("contrastive_and_mse_G3");
}

#[test]
fn stage_2_info_nce_with_seven_hard_negatives() {
    check("stage2_contrastive_G8");
}

#[test]
fn info_nce_at_equal_widths() {
    check("stage2_contrastive_G4_same_width");
}

#[test]
fn mse_alone() {
    check("mse_G2");
}

#[test]
fn cosine_alone() {
    check("cossim_G2");
}

#[test]
fn info_nce_and_cosine() {
    check("contrastive_and_cossim_G2");
}

#[test]
fn info_nce_over_nested_widths() {
    check("mrl_contrastive_G2");
}

#[test]
fn every_case_of_the_reference_is_checked() {
    let cases: Value = serde_json::from_str(include_str!("data/care_loss.json")).unwrap();
    let tested = include_str!("losses.rs");
    for name in cases.as_object().unwrap().keys() {
        assert!(tested.contains(&format!("check(\"{name}\")")), "{name}");
    }
}

/// An alignment of vectors as they are.
fn aligned(student: Tensor<2>, teacher: Tensor<2>) -> LossInput {
    let alignment = Alignment { student: student.clone(), teacher: teacher.clone() };
    LossInput { alignment: Some(alignment), ..LossInput::new(student, teacher) }
}

#[test]
fn the_divergence_of_embeddings_and_its_gradient_equal_those_of_pytorch() {
    let device = care_encoders::Device::Cpu.open().unwrap().autodiff();
    let cases: Value = serde_json::from_str(include_str!("data/embedding_kl.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let temperature = case["temperature"].as_f64().unwrap();
        let raw = matrix(0, 4, 8, &device);
        let input = aligned(l2_normalize(raw.clone()), l2_normalize(matrix(2, 4, 8, &device)).detach());
        let loss = EmbeddingKl { temperature }.forward(&input);
        let gradient = raw.grad(&loss.backward()).unwrap().into_data().try_to_vec::<f64>().unwrap();
        close("loss", loss.into_scalar::<f64>(), case["loss"].as_f64().unwrap());
        let expected = numbers(&case["gradient"]);
        let size = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        for (found, expected) in gradient.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-7 * size, "{temperature}: {found} instead of {expected}");
        }
    }
}

#[test]
fn the_gradient_of_the_divergence_equals_finite_differences() {
    let device = care_encoders::Device::Cpu.open().unwrap().autodiff();
    let loss = EmbeddingKl { temperature: 0.3 };
    let teacher = matrix(2, 3, 5, &device).detach();
    let (student, step) = (matrix(0, 3, 5, &device), 1e-6);
    let values = student.clone().into_data().try_to_vec::<f64>().unwrap();
    let gradient = student.grad(&loss.forward(&aligned(student.clone(), teacher.clone())).backward()).unwrap();
    let gradient = gradient.into_data().try_to_vec::<f64>().unwrap();
    let at = |index: usize, change: f64| {
        let mut moved = values.clone();
        moved[index] += change;
        let moved = Tensor::from_data(TensorData::new(moved, [3, 5]), (&device, DType::F64));
        loss.forward(&aligned(moved, teacher.clone())).into_scalar::<f64>()
    };
    for (index, gradient) in gradient.iter().enumerate() {
        let difference = (at(index, step) - at(index, -step)) / (2.0 * step);
        assert!((difference - gradient).abs() < 1e-7, "{index}: {gradient} instead of {difference}");
    }
}

#[test]
fn the_divergence_is_0_for_equal_vectors_and_does_not_see_a_common_shift() {
    let teacher = rows(&[0.6, 0.8, 0.0, 1.0], 2);
    let loss = EmbeddingKl { temperature: 0.05 };
    assert_eq!(value(&loss, &aligned(teacher.clone(), teacher.clone())), 0.0);
    assert!(value(&loss, &aligned(teacher.clone().add_scalar(0.25), teacher.clone())).abs() < 1e-6);
    assert!(value(&loss, &aligned(teacher.clone().neg(), teacher)) > 1.0);
}

fn rows(values: &[f32], width: usize) -> Tensor<2> {
    let device = care_encoders::Device::Cpu.open().unwrap().autodiff();
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / width, width]), &device).require_grad()
}

fn value(loss: &impl Loss, input: &LossInput) -> f32 {
    loss.forward(input).into_scalar::<f32>()
}

/// Two queries, each with a positive and a hard negative, in one dimension.
///
/// Query 0 has similarities 0.8 (its positive), 0.9, 0.5 and 0.7; query 1 has half of each, with 0.25 its positive.
fn four_documents() -> LossInput {
    LossInput::new(rows(&[1.0, 0.5], 1), rows(&[0.8, 0.9, 0.5, 0.7], 1))
}

fn cross_entropy(temperature: f32, positive: f32, others: &[f32]) -> f32 {
    let sum: f32 = others.iter().chain([&positive]).map(|s| (s / temperature).exp()).sum();
    sum.ln() - positive / temperature
}

#[test]
fn likely_false_negatives_are_left_out_by_their_margin() {
    let masked = |margin| InfoNce { temperature: 0.5, false_negative_margin: Some(margin) };
    let mean = |a: f32, b: f32| (a + b) / 2.0;
    assert!(
        (value(&masked(0.0), &four_documents())
            - mean(cross_entropy(0.5, 0.8, &[0.5, 0.7]), cross_entropy(0.5, 0.25, &[]),))
        .abs()
            < 1e-5
    );
    // 0.9 is 0.1 above the positive of query 0; 0.4, 0.45 and 0.35 are 0.15, 0.2 and 0.1 above that of query 1.
    assert!(
        (value(&masked(0.12), &four_documents())
            - mean(cross_entropy(0.5, 0.8, &[0.9, 0.5, 0.7]), cross_entropy(0.5, 0.25, &[0.35]),))
        .abs()
            < 1e-5
    );
    // A margin below 0 also masks negatives that come close to the positive, but never the positive itself.
    assert!(
        (value(&masked(-0.2), &four_documents())
            - mean(cross_entropy(0.5, 0.8, &[0.5]), cross_entropy(0.5, 0.25, &[]),))
        .abs()
            < 1e-5
    );
    assert_eq!(value(&masked(2.0), &four_documents()), value(&InfoNce::new(0.5), &four_documents()));
}

/// [`four_documents`], in which some are known answers of a query.
fn with_known_answers(known: [bool; 8]) -> LossInput {
    let input = four_documents();
    let known = Tensor::from_data(TensorData::new(known.to_vec(), [2, 4]), &input.queries.device());
    LossInput { known_answers: Some(known), ..input }
}

#[test]
fn known_answers_are_no_negatives_at_any_margin_and_have_no_gradient() {
    let (yes, no) = (true, false);
    // The hard negative of query 0 answers it too, and the positive of query 0 answers query 1.
    let input = || with_known_answers([no, yes, no, no, yes, no, no, no]);
    let (first, second) = (cross_entropy(0.5, 0.8, &[0.5, 0.7]), cross_entropy(0.5, 0.25, &[0.45, 0.35]));
    assert!((value(&InfoNce::new(0.5), &input()) - (first + second) / 2.0).abs() < 1e-5);
    let margin = InfoNce { temperature: 0.5, false_negative_margin: Some(0.12) };
    let second = cross_entropy(0.5, 0.25, &[0.35]);
    assert!((value(&margin, &input()) - (first + second) / 2.0).abs() < 1e-5);
    let nested = Matryoshka::even(InfoNce::new(0.5), &[1], TruncationOrder::NormalizeThenTruncate);
    assert_eq!(value(&nested, &input()), value(&InfoNce::new(0.5), &input()));
    let groups = LossInput { in_batch_negatives: false, ..input() };
    let alone = cross_entropy(0.5, 0.25, &[0.35]) / 2.0;
    assert!((value(&InfoNce::new(0.5), &groups) - alone).abs() < 1e-5, "query 0 has no negative left in its group");

    // Document 1 is left out for query 0 and, by the margin, for query 1 too.
    let input = input();
    let gradients = margin.forward(&input).backward();
    let of = |tensor: &Tensor<2>| tensor.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
    let (queries, documents) = (of(&input.queries), of(&input.documents));
    assert!(queries.iter().chain(&documents).all(|gradient| gradient.is_finite()), "{queries:?} {documents:?}");
    assert_eq!(documents[1], 0.0);
    assert!(queries.iter().all(|gradient| *gradient != 0.0) && documents[0] < 0.0 && documents[2..] != [0.0, 0.0]);
}

#[test]
fn two_queries_with_one_answer_have_no_loss() {
    let known = Tensor::from_data(
        TensorData::new(vec![false, true, true, false], [2, 2]),
        &care_encoders::Device::Cpu.open().unwrap().autodiff(),
    );
    let input = LossInput::new(rows(&[0.6, 0.8, 0.0, 1.0], 2), rows(&[1.0, 0.0, 1.0, 0.0], 2));
    assert!((value(&InfoNce::new(0.02), &input) - 2f32.ln()).abs() < 1e-5, "each is the negative of the other");
    let input = LossInput { known_answers: Some(known), ..input };
    assert_eq!(value(&InfoNce::new(0.02), &input), 0.0);
    assert_eq!(value(&InfoNce { temperature: 0.02, false_negative_margin: Some(0.0) }, &input), 0.0);
}

#[test]
fn what_is_left_out_has_no_gradient() {
    let input = four_documents();
    let loss = InfoNce { temperature: 0.5, false_negative_margin: Some(0.12) }.forward(&input);
    let gradients = loss.backward();
    let of_queries = input.queries.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
    assert!(of_queries.iter().all(|gradient| gradient.is_finite() && *gradient != 0.0), "{of_queries:?}");
    let of_documents = input.documents.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
    assert!(of_documents.iter().all(|gradient| gradient.is_finite()), "{of_documents:?}");
    // Document 1 is a candidate of query 0 only, so its gradient is that of query 0's softmax.
    let softmax = (0.9f32 / 0.5).exp() / [0.8f32, 0.9, 0.5, 0.7].iter().map(|s| (s / 0.5).exp()).sum::<f32>();
    assert!((of_documents[1] - softmax / 0.5 / 2.0).abs() < 1e-5, "{of_documents:?}");
}

#[test]
fn without_in_batch_negatives_a_query_sees_its_group_alone() {
    let input = LossInput { in_batch_negatives: false, ..four_documents() };
    let expected = (cross_entropy(0.5, 0.8, &[0.9]) + cross_entropy(0.5, 0.25, &[0.35])) / 2.0;
    assert!((value(&InfoNce::new(0.5), &input) - expected).abs() < 1e-5);
}

#[test]
fn distillation_is_the_divergence_from_the_teachers_distribution() {
    let scores = rows(&[3.0, 1.0, 0.5, 2.0], 2);
    let input = LossInput { teacher_scores: Some(scores), ..four_documents() };
    let softmax = |a: f32, b: f32| [a.exp() / (a.exp() + b.exp()), b.exp() / (a.exp() + b.exp())];
    let divergence = |p: [f32; 2], q: [f32; 2]| p[0] * (p[0] / q[0]).ln() + p[1] * (p[1] / q[1]).ln();
    let first = divergence(softmax(1.5, 0.5), softmax(0.8 / 0.5, 0.9 / 0.5));
    let second = divergence(softmax(0.25, 1.0), softmax(0.25 / 0.5, 0.35 / 0.5));
    let loss = Distillation { temperature: 0.5, teacher_temperature: 2.0 };
    assert!((value(&loss, &input) - (first + second) / 2.0).abs() < 1e-5);
    // The loss is 0 if the teacher agrees.
    let agreeing = rows(&[0.8, 0.9, 0.25, 0.35], 2);
    let input = LossInput { teacher_scores: Some(agreeing), ..four_documents() };
    assert!(value(&Distillation { temperature: 0.5, teacher_temperature: 0.5 }, &input).abs() < 1e-6);
}

#[test]
fn nested_widths_are_weighed_and_normalised_as_asked() {
    let input = LossInput::new(rows(&[0.6, 0.8, 0.0, 1.0], 2), rows(&[0.8, 0.6, 1.0, 0.0], 2));
    let at = |dim, order| value(&InfoNce::new(0.5), &input.cut(dim, order));
    let keep = TruncationOrder::NormalizeThenTruncate;
    let renew = TruncationOrder::TruncateThenNormalize;
    let weighed = Matryoshka::new(InfoNce::new(0.5), vec![(1, 0.25), (2, 2.0)], keep);
    assert!((value(&weighed, &input) - (0.25 * at(1, keep) + 2.0 * at(2, keep))).abs() < 1e-6);
    assert!((at(2, keep) - at(2, renew)).abs() < 1e-6, "normalising unit vectors changes nothing");
    // The first components 0.6, 0, 0.8 and 1 are normalised to 1, except for the 0.
    assert!((at(1, renew) - (2f32.ln() + 2f32.ln()) / 2.0).abs() < 1e-5, "{}", at(1, renew));
}
