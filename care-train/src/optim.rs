//! AdamW over the trained weights of both towers, with its state keyed by the weights' names.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer as _};
use burn::tensor::Tensor;
use care_encoders::internals::{Host, ParameterPath};

use crate::gradient::{Gradient, NamedGradients};

/// What PyTorch and burn take for the decay of the two moments, and for epsilon.
const BETAS: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// AdamW with decoupled weight decay, except on biases and norms.
///
/// On the CPU, one pass over a weight, its gradient and its moments updates them in place.
///
/// # Reference
/// Loshchilov & Hutter 2019, arXiv 1711.05101; epsilon 1e-8 as in PyTorch.
pub(crate) struct Optimizer {
    weight_decay: f64,
    states: BTreeMap<String, AdamWState<1>>,
}

impl Optimizer {
    pub(crate) fn new(weight_decay: f64) -> Self {
        Self { weight_decay, states: BTreeMap::new() }
    }

    /// Updates every weight that has a gradient, of which `factor` times counts. Names of its state start with `scope`.
    pub(crate) fn step<M: Module>(
        &mut self,
        module: M,
        scope: &str,
        gradients: &NamedGradients,
        factor: f64,
        lr: f64,
    ) -> M {
        module.map(&mut Stepper { optimizer: self, gradients, factor, lr, scope, path: ParameterPath::default() })
    }

    /// The number of steps and both moments of every weight.
    pub(crate) fn state(&self) -> impl Iterator<Item = (&str, usize, [Tensor<1>; 2])> {
        self.states.iter().map(|(name, state)| {
            let momentum = &state.momentum;
            (name.as_str(), momentum.time, [momentum.moment_1.clone(), momentum.moment_2.clone()])
        })
    }

    /// Restores what [`Optimizer::state`] returned.
    pub(crate) fn restore(&mut self, name: String, time: usize, [moment_1, moment_2]: [Tensor<1>; 2]) {
        let momentum = AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2: None };
        self.states.insert(name, AdamWState { momentum });
    }
}

struct Stepper<'a> {
    optimizer: &'a mut Optimizer,
    gradients: &'a NamedGradients,
    factor: f64,
    lr: f64,
    scope: &'a str,
    path: ParameterPath,
}

impl ModuleMapper for Stepper<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = format!("{}.{}", self.scope, self.path.join());
        let Some(gradient) = self.gradients.get(&name) else { return param };
        let decays = !self.path.is_bias() && !self.path.is_norm();
        let update = Update {
            lr: self.lr,
            weight_decay: if decays { self.optimizer.weight_decay } else { 0.0 },
            factor: self.factor,
        };
        let state = self.optimizer.states.remove(&name);
        let mut updated = None;
        let param = param.map(|weight| {
            let (weight, state) = match Host::of(&weight.clone().inner()) {
                Some(host) => {
                    drop(weight);
                    update.in_place(host, gradient, state)
                }
                None => update.with_burn(weight.inner(), gradient, state),
            };
            updated = Some(state);
            Tensor::from_inner(weight).require_grad()
        });
        if let Some(state) = updated {
            self.optimizer.states.insert(name, state);
        }
        param
    }
}

/// The settings of one weight's update.
struct Update {
    lr: f64,
    weight_decay: f64,
    /// Multiplied into the gradient.
    factor: f64,
}

impl Update {
    /// On the CPU's kernels.
    fn in_place<const D: usize>(
        &self,
        mut weight: Host,
        gradient: &Gradient,
        state: Option<AdamWState<1>>,
    ) -> (Tensor<D>, AdamWState<1>) {
        let count = weight.values().len();
        let (time, mut moments) = match state {
            Some(AdamWState { momentum }) => (momentum.time, [momentum.moment_1, momentum.moment_2].map(into_host)),
            None => (0, std::array::from_fn(|_| Host::of_values(vec![0.0; count]))),
        };
        let time = time + 1;
        let settings = care_kernels::AdamW {
            learning_rate: self.lr as f32,
            beta_1: BETAS[0],
            beta_2: BETAS[1],
            epsilon: EPSILON,
            weight_decay: self.weight_decay as f32,
            step: time,
            scale: self.factor as f32,
        };
        let threads = rayon::current_num_threads();
        let [first, second] = moments.each_mut().map(Host::values_mut);
        match gradient {
            Gradient::Whole(gradient) => {
                let gradient = into_host(gradient.clone());
                care_kernels::adamw(weight.values_mut(), gradient.values(), first, second, &settings, threads);
            }
            Gradient::Rows { numbers, values, .. } => {
                let values = into_host(values.clone());
                care_kernels::adamw_rows(
                    weight.values_mut(),
                    numbers,
                    values.values(),
                    first,
                    second,
                    &settings,
                    threads,
                );
            }
        }
        let [moment_1, moment_2] = moments.map(Host::into_tensor);
        let momentum = AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2: None };
        (weight.into_tensor(), AdamWState { momentum })
    }

    /// On any device.
    fn with_burn<const D: usize>(
        &self,
        weight: Tensor<D>,
        gradient: &Gradient,
        state: Option<AdamWState<1>>,
    ) -> (Tensor<D>, AdamWState<1>) {
        let config = AdamWConfig::new().with_beta_1(BETAS[0]).with_beta_2(BETAS[1]).with_epsilon(EPSILON);
        let adam: AdamW = config.with_weight_decay(self.weight_decay as f32).build();
        let shape = weight.shape();
        let gradient = gradient.whole().mul_scalar(self.factor);
        let (moved, state) = adam.step(self.lr, weight.flatten::<1>(0, D - 1), gradient, state);
        (moved.reshape(shape), state.expect("AdamW has a state after a step"))
    }
}

/// The values of a tensor on the CPU, of which this is the only owner if it was.
fn into_host<const D: usize>(tensor: Tensor<D>) -> Host {
    Host::of(&tensor).expect("moments and gradients are on the device of their weight")
}

/// Factor by which gradients are multiplied so that their global norm is at most `max_norm`, and the norm before.
///
/// # Reference
/// `torch.nn.utils.clip_grad_norm_`.
pub(crate) fn clip_by_global_norm(gradients: &NamedGradients, max_norm: f64) -> (f64, f64) {
    let norm = gradients.values().map(Gradient::square_sum).sum::<f64>().sqrt();
    let factor = if norm > max_norm { max_norm / (norm + 1e-6) } else { 1.0 };
    (factor, norm)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use care_encoders::layers::Linear;

    use super::*;

    fn gradient(values: Vec<f32>, device: &burn::tensor::Device) -> Gradient {
        Gradient::Whole(Tensor::from_data(TensorData::new(values.clone(), [values.len()]), device))
    }

    #[test]
    fn clipping_scales_all_gradients_together() {
        let device = care_encoders::Device::Cpu.open().expect("cpu");
        let named = [("t.weight", vec![3.0, 0.0]), ("t.bias", vec![4.0])];
        let named: NamedGradients =
            named.into_iter().map(|(name, values)| (name.to_owned(), gradient(values, &device))).collect();
        let (factor, norm) = clip_by_global_norm(&named, 10.0);
        assert!((norm - 5.0).abs() < 1e-6);
        assert_eq!(factor, 1.0, "short enough: unchanged");
        let (factor, _) = clip_by_global_norm(&named, 1.0);
        assert!((factor - 0.2).abs() < 1e-6);
    }

    #[test]
    fn weights_decay_and_biases_do_not() {
        let device = care_encoders::Device::Cpu.open().expect("cpu");
        struct Ones;
        impl ModuleMapper for Ones {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|zeros| zeros.add_scalar(1.0))
            }
        }
        let linear = Linear::new(2, 1, true, &device).map(&mut Ones).train();
        let mut optimizer = Optimizer::new(0.5);
        let named = [("t.weight", vec![3.0, 0.0]), ("t.bias", vec![4.0])];
        let named = named.into_iter().map(|(name, values)| (name.to_owned(), gradient(values, &device))).collect();
        let stepped = optimizer.step(linear, "t", &named, 1.0, 0.1);
        let out = stepped.valid().forward(Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], &device));
        let out = out.into_data().try_to_vec::<f32>().expect("f32");
        // Adam's first step is the learning rate in the gradient's direction; decay takes 0.1 * 0.5.
        let (moved, still, bias) = (out[0] - out[2], out[1] - out[2], out[2]);
        assert!((moved - (0.95 - 0.1)).abs() < 1e-5, "{moved}");
        assert!((still - 0.95).abs() < 1e-5, "no gradient: decay alone, {still}");
        assert!((bias - 0.9).abs() < 1e-5, "{bias}");
    }

    #[test]
    fn steps_in_place_are_those_of_burn() {
        let device = care_encoders::Device::Cpu.open().expect("cpu");
        let values =
            |seed: u32| -> Vec<f32> { (0..12).map(|at| ((at * 7 + seed * 5) % 11) as f32 / 11.0 - 0.4).collect() };
        let table = Tensor::<2>::from_data(TensorData::new(values(1), [6, 2]), &device);
        let update = Update { lr: 0.01, weight_decay: 0.1, factor: 0.7 };
        let (mut here, mut there) = ((table.clone(), None), (table, None));
        for step in 2..6 {
            let gradient = match step % 2 {
                0 => gradient(values(step), &device),
                _ => Gradient::Rows {
                    numbers: vec![1, 2, 5],
                    values: Tensor::from_data(TensorData::new(values(step)[..6].to_vec(), [3, 2]), &device),
                    rows: 6,
                },
            };
            let (weight, state) = update.in_place(into_host(here.0.clone()), &gradient, here.1.take());
            here = (weight, Some(state));
            let (weight, state) = update.with_burn(there.0, &gradient, there.1.take());
            there = (weight, Some(state));
            let [ours, theirs] = [&here.0, &there.0].map(|weight| weight.to_data().try_to_vec::<f32>().expect("f32"));
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!((ours - theirs).abs() <= 1e-6, "step {step}: {ours} instead of {theirs}");
            }
        }
    }
}
