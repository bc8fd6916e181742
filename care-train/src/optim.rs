//! AdamW over the trained weights of both towers, with its state keyed by the weights' names.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer as _};
use burn::tensor::{Gradients, Tensor};
use care_encoders::internals::ParameterPath;

/// Flattened gradients by the name of their weight.
pub(crate) type NamedGradients = BTreeMap<String, Tensor<1>>;

/// AdamW with decoupled weight decay, except on biases and norms.
///
/// # Reference
/// Loshchilov & Hutter 2019, arXiv 1711.05101; epsilon 1e-8 as in PyTorch.
pub(crate) struct Optimizer {
    decaying: AdamW,
    plain: AdamW,
    states: BTreeMap<String, AdamWState<1>>,
}

impl Optimizer {
    pub(crate) fn new(weight_decay: f64) -> Self {
        let adam = |decay: f64| AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(decay as f32).build();
        Self { decaying: adam(weight_decay), plain: adam(0.0), states: BTreeMap::new() }
    }

    /// Updates every weight that has a gradient. Names of its state start with `scope`.
    pub(crate) fn step<M: Module>(&mut self, module: M, scope: &str, gradients: &NamedGradients, lr: f64) -> M {
        module.map(&mut Stepper { optimizer: self, gradients, lr, scope, path: ParameterPath::default() })
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
        let Some(gradient) = self.gradients.get(&name).cloned() else { return param };
        let decays = !self.path.is_bias() && !self.path.is_norm();
        let adam = if decays { &self.optimizer.decaying } else { &self.optimizer.plain };
        let state = self.optimizer.states.remove(&name);
        let mut updated = None;
        let param = param.map(|weight| {
            let shape = weight.shape();
            let (moved, state) = adam.step(self.lr, weight.inner().flatten::<1>(0, D - 1), gradient, state);
            updated = state;
            Tensor::from_inner(moved.reshape(shape)).require_grad()
        });
        if let Some(state) = updated {
            self.optimizer.states.insert(name, state);
        }
        param
    }
}

/// Adds gradients to existing ones.
pub(crate) fn add_gradients(gradients: NamedGradients, into: &mut NamedGradients) {
    for (name, gradient) in gradients {
        let sum = match into.remove(&name) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        into.insert(name, sum);
    }
}

/// Takes the gradients of a module's weights out of a backward pass.
pub(crate) fn collect_gradients<M: Module>(
    module: &M,
    scope: &str,
    gradients: &mut Gradients,
    into: &mut NamedGradients,
) {
    struct Collector<'a> {
        gradients: &'a mut Gradients,
        scope: &'a str,
        path: ParameterPath,
        into: &'a mut NamedGradients,
    }
    impl ModuleVisitor for Collector<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad_remove(self.gradients) {
                let name = format!("{}.{}", self.scope, self.path.join());
                self.into.insert(name, gradient.flatten::<1>(0, D - 1));
            }
        }
    }
    module.visit(&mut Collector { gradients, scope, path: ParameterPath::default(), into });
}

/// Scales gradients down so that their global norm is at most `max_norm`; returns the norm before.
///
/// # Reference
/// `torch.nn.utils.clip_grad_norm_`.
pub(crate) fn clip_by_global_norm(gradients: &mut NamedGradients, max_norm: f64) -> f64 {
    let squares: Vec<Tensor<1>> = gradients.values().map(|gradient| gradient.clone().square().sum()).collect();
    if squares.is_empty() {
        return 0.0;
    }
    let norm = f64::from(Tensor::cat(squares, 0).sum().into_scalar::<f32>()).sqrt();
    if norm > max_norm {
        let factor = max_norm / (norm + 1e-6);
        for gradient in gradients.values_mut() {
            *gradient = gradient.clone().mul_scalar(factor);
        }
    }
    norm
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use care_encoders::layers::Linear;

    use super::*;

    fn gradients(device: &burn::tensor::Device) -> NamedGradients {
        let gradient = |values: Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [values.len()]), device);
        [("t.weight".to_owned(), gradient(vec![3.0, 0.0])), ("t.bias".to_owned(), gradient(vec![4.0]))].into()
    }

    #[test]
    fn clipping_scales_all_gradients_together() {
        let device = care_encoders::Device::Cpu.open().expect("cpu");
        let mut named = gradients(&device);
        assert!((clip_by_global_norm(&mut named, 10.0) - 5.0).abs() < 1e-6);
        assert_eq!(named["t.bias"].clone().into_scalar::<f32>(), 4.0, "short enough: unchanged");
        clip_by_global_norm(&mut named, 1.0);
        assert!((named["t.bias"].clone().into_scalar::<f32>() - 0.8).abs() < 1e-5);
        assert_eq!(clip_by_global_norm(&mut NamedGradients::new(), 1.0), 0.0);
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
        let stepped = optimizer.step(linear, "t", &gradients(&device), 0.1);
        let out = stepped.valid().forward(Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], &device));
        let out = out.into_data().try_to_vec::<f32>().expect("f32");
        // Adam's first step is the learning rate in the gradient's direction; decay takes 0.1 * 0.5.
        let (moved, still, bias) = (out[0] - out[2], out[1] - out[2], out[2]);
        assert!((moved - (0.95 - 0.1)).abs() < 1e-5, "{moved}");
        assert!((still - 0.95).abs() < 1e-5, "no gradient: decay alone, {still}");
        assert!((bias - 0.9).abs() < 1e-5, "{bias}");
    }
}
