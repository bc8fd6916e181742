//! Parity of losses and gradients with the reference; `tests/data/care_loss.py` made the values.

#![allow(clippy::unwrap_used, missing_docs)]

use burn::tensor::{DType, Device, Tensor, TensorData};
use care_core::l2_normalize;
use care_train::{embedding_mse, info_nce};
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
    let device = care_core::Device::Cpu.open().unwrap().autodiff();

    let raw = [
        ("q_raw", matrix(0, batch, dq, &device)),
        ("p_raw", matrix(1, batch * group, dd, &device)),
        ("qd_raw", matrix(2, batch, dd, &device)),
        ("pq_raw", matrix(3, batch * group, dq, &device)),
    ];
    // Normalised at full width, cut, not normalised again: the published order.
    let cut = |index: usize| l2_normalize(raw[index].1.clone()).narrow(1, 0, dq);
    let frozen = case["args"]["frozen_doc"].as_bool().unwrap();
    let documents = if frozen { cut(1).detach() } else { cut(1) };
    let mut total = None;
    let mut add = |part: &str, loss: Tensor<1>| {
        close(&format!("{name} {part}"), loss.clone().into_scalar::<f64>(), case["parts"][part].as_f64().unwrap());
        total = Some(match total.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
    };
    if !case["parts"]["contrastive"].is_null() {
        add("contrastive", info_nce(cut(0), documents, temperature));
    }
    if !case["parts"]["mse"].is_null() {
        let student = Tensor::cat(vec![cut(0), cut(3)], 0);
        let teacher = Tensor::cat(vec![cut(2), cut(1)], 0).detach();
        add("mse", embedding_mse(student, teacher));
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
