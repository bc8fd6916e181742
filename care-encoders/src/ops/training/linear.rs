//! Linear layers: matmul, bias and activation in one pass each way.

use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::module::Param;
use burn::tensor::Tensor;
use care_kernels::{Activation, F32Matrix, Matmul, matmul, weight_gradient};

use super::{Gradient, Tracked, record};
use crate::ops::Host;
use crate::schedule::kernel_threads;

/// A weight `[in, out]` in a training step, which reads two packings of it: as it is on the way forward, transposed on
/// the way back.
pub(crate) struct TrainingWeight {
    weight: Host,
    dims: [usize; 2],
    /// The two packings, if they are kept for several passes.
    kept: Option<[OnceLock<Arc<F32Matrix>>; 2]>,
}

impl TrainingWeight {
    /// A weight whose packings are made once for several passes; `None` if it isn't trained on the CPU's kernels.
    pub(crate) fn kept(weight: &Tensor<2>) -> Option<Arc<Self>> {
        Self::new(weight, Some(Default::default())).map(Arc::new)
    }

    fn new(weight: &Tensor<2>, kept: Option<[OnceLock<Arc<F32Matrix>>; 2]>) -> Option<Self> {
        Some(Self { weight: Tracked::of(weight)?.host(), dims: weight.dims(), kept })
    }

    fn packing(&self, place: usize, pack: fn(&[f32], usize, usize) -> F32Matrix) -> Arc<F32Matrix> {
        let [inputs, outputs] = self.dims;
        let pack = || Arc::new(pack(self.weight.values(), inputs, outputs));
        match &self.kept {
            Some(kept) => kept[place].get_or_init(pack).clone(),
            None => pack(),
        }
    }

    fn forward(&self) -> Arc<F32Matrix> {
        self.packing(0, F32Matrix::new)
    }

    fn transposed(&self) -> Arc<F32Matrix> {
        self.packing(1, F32Matrix::transposed)
    }

    /// The gradient of the layer's input from that of its output, times `factor` if there is one.
    fn gradient_of_input(&self, input: &Host, output: &Host, factor: Option<&Host>) -> Host {
        let mut values = Host::memory(input.values().len());
        let weight = self.transposed();
        let product = Matmul { factor: factor.map(Host::values), ..Matmul::new(&*weight, &mut values) };
        matmul(output.values(), vec![product], kernel_threads());
        input.with_values(values)
    }

    /// The gradients of weight and bias from the layer's input and the gradient of its output.
    fn gradient(&self, input: &Host, output: &Host, has_bias: bool) -> (Host, Option<Host>) {
        let [inputs, outputs] = self.dims;
        let (input, output) = (input.values(), output.values());
        let mut weight = Host::zeroed(inputs * outputs);
        let mut bias = has_bias.then(|| vec![0.0; outputs]);
        weight_gradient(input, output, inputs, outputs, &mut weight, bias.as_deref_mut(), kernel_threads());
        (Host::new(weight, [inputs, outputs]), bias.map(|bias| Host::new(bias, [outputs])))
    }
}

impl fmt::Debug for TrainingWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims)
    }
}

#[derive(Clone, Debug)]
struct LinearGradient {
    input: Host,
    weight: Arc<TrainingWeight>,
    /// Of the activation, at what it was applied to.
    derivative: Option<Host>,
}

/// Of input, weight and, if there are three, bias.
impl<const N: usize> Gradient<N> for LinearGradient {
    fn backward(self, mut output: Host, wanted: [bool; N]) -> [Option<Host>; N] {
        if let Some(derivative) = self.derivative {
            care_kernels::multiply(output.values_mut(), derivative.values(), kernel_threads());
            derivative.recycle();
        }
        let mut found: [Option<Host>; N] = [const { None }; N];
        if wanted[0] {
            found[0] = Some(self.weight.gradient_of_input(&self.input, &output, None));
        }
        if wanted[1..].contains(&true) {
            let (weight, bias) = self.weight.gradient(&self.input, &output, N == 3);
            found[1] = Some(weight);
            found[2..].iter_mut().for_each(|place| place.clone_from(&bias));
        }
        self.input.recycle();
        output.recycle();
        found
    }
}

/// Two layers with an activation between them.
#[derive(Clone, Debug)]
struct FeedForwardGradient {
    input: Host,
    up: Arc<TrainingWeight>,
    /// What the second layer reads, and the activation's derivative at what it was applied to.
    inner: Host,
    derivative: Host,
    down: Arc<TrainingWeight>,
}

/// Of input, weight and bias of the first layer, weight and bias of the second.
impl Gradient<5> for FeedForwardGradient {
    fn backward(self, output: Host, wanted: [bool; 5]) -> [Option<Host>; 5] {
        let mut found = [const { None }; 5];
        if wanted[3] || wanted[4] {
            let (weight, bias) = self.down.gradient(&self.inner, &output, true);
            (found[3], found[4]) = (Some(weight), bias);
        }
        if wanted[..3].contains(&true) {
            let gradient = self.down.gradient_of_input(&self.inner, &output, Some(&self.derivative));
            if wanted[1] || wanted[2] {
                let (weight, bias) = self.up.gradient(&self.input, &gradient, true);
                (found[1], found[2]) = (Some(weight), bias);
            }
            if wanted[0] {
                found[0] = Some(self.up.gradient_of_input(&self.input, &gradient, None));
            }
            gradient.recycle();
        }
        [self.input, self.inner, self.derivative, output].into_iter().for_each(Host::recycle);
        found
    }
}

/// `activation(x W + b) V + c` as one operation, if both layers have a bias.
pub(in crate::ops) fn feed_forward<const D: usize>(
    input: &Tensor<D>,
    up: &Layer<'_>,
    down: &Layer<'_>,
) -> Option<Tensor<D>> {
    let host = Tracked::of(input)?.host();
    let (up_bias, down_bias) = (up.bias?.val(), down.bias?.val());
    let mut shape = input.dims();
    let rows: usize = shape[..D - 1].iter().product();
    let (up_weight, down_weight) = (up.weight.val(), down.weight.val());
    let packed = |layer: &Layer<'_>, weight: &Tensor<2>| match layer.packed {
        Some(packed) => Some(packed.clone()),
        None => TrainingWeight::new(weight, None).map(Arc::new),
    };
    let (first, second) = (packed(up, &up_weight)?, packed(down, &down_weight)?);
    let (first_bias, second_bias) = (Tracked::of(&up_bias)?, Tracked::of(&down_bias)?);
    let biases = [first_bias.host(), second_bias.host()];
    let inputs = [Tracked::of(input)?, Tracked::of(&up_weight)?, first_bias, Tracked::of(&down_weight)?, second_bias];
    Some(record(inputs, |keeps| {
        let (inner, derivative) = forward(&host, rows, &first, Some(&biases[0]), up.activation, keeps);
        shape[D - 1] = first.dims[1];
        let inner = Host::new(inner, shape);
        let (out, _) = forward(&inner, rows, &second, Some(&biases[1]), None, false);
        let derivative = derivative.map(|values| Host::new(values, shape));
        shape[D - 1] = second.dims[1];
        let gradient = match derivative {
            Some(derivative) => Some(FeedForwardGradient { input: host, up: first, inner, derivative, down: second }),
            None => {
                inner.recycle();
                None
            }
        };
        (Host::new(out, shape), gradient)
    }))
}

/// `activation(x W + b)`.
pub(in crate::ops) struct Layer<'a> {
    pub(in crate::ops) weight: &'a Param<Tensor<2>>,
    pub(in crate::ops) bias: Option<&'a Param<Tensor<1>>>,
    pub(in crate::ops) activation: Option<Activation>,
    /// The weight's packings, if they are kept for several passes.
    pub(in crate::ops) packed: Option<&'a Arc<TrainingWeight>>,
}

/// As [`linear`](crate::ops::linear).
pub(in crate::ops) fn linear<const D: usize, const N: usize>(
    input: &Tensor<D>,
    layers: &[Layer<'_>; N],
) -> Option<[Tensor<D>; N]> {
    let host = Tracked::of(input)?.host();
    let mut shape = input.dims();
    let rows: usize = shape[..D - 1].iter().product();
    let mut parts = Vec::with_capacity(N);
    for layer in layers {
        let weight = layer.weight.val();
        let packed = match layer.packed {
            Some(packed) => packed.clone(),
            None => Arc::new(TrainingWeight::new(&weight, None)?),
        };
        let bias = match layer.bias {
            Some(bias) => Some(Tracked::of(&bias.val())?),
            None => None,
        };
        parts.push((Tracked::of(&weight)?, bias, packed, layer.activation));
    }
    // One matmul of all layers packs the rows once. Activations, whose derivatives are only kept where a gradient may be
    // wanted, come one layer at a time.
    let mut outputs: Vec<Option<Vec<f32>>> = vec![None; N];
    if N > 1 && layers.iter().all(|layer| layer.activation.is_none()) {
        let mut outs: Vec<Vec<f32>> =
            parts.iter().map(|(_, _, packed, _)| Host::memory(rows * packed.dims[1])).collect();
        let biases: Vec<Option<Host>> = parts.iter().map(|(_, bias, ..)| bias.as_ref().map(Tracked::host)).collect();
        let weights: Vec<Arc<F32Matrix>> = parts.iter().map(|(_, _, packed, _)| packed.forward()).collect();
        let products = weights.iter().zip(&biases).zip(&mut outs).map(|((weight, bias), out)| Matmul {
            bias: bias.as_ref().map(Host::values),
            ..Matmul::new(&**weight, out)
        });
        matmul(host.values(), products.collect(), kernel_threads());
        outputs = outs.into_iter().map(Some).collect();
    }
    let mut results = Vec::with_capacity(N);
    for ((weight, bias, packed, activation), ready) in parts.into_iter().zip(outputs) {
        shape[D - 1] = packed.dims[1];
        let (node, input) = (Tracked::of(input)?, host.clone());
        let biases = bias.as_ref().map(Tracked::host);
        let compute = |keeps: bool| {
            let (out, derivative) = match ready {
                Some(out) => (out, None),
                None => forward(&input, rows, &packed, biases.as_ref(), activation, keeps),
            };
            let derivative = derivative.map(|values| Host::new(values, shape));
            (Host::new(out, shape), keeps.then_some(LinearGradient { input, weight: packed, derivative }))
        };
        results.push(match bias {
            Some(bias) => record([node, weight, bias], compute),
            None => record([node, weight], compute),
        });
    }
    results.try_into().ok()
}

/// The output of one layer and, if it is to be kept, the derivative of its activation.
fn forward(
    input: &Host,
    rows: usize,
    weight: &TrainingWeight,
    bias: Option<&Host>,
    activation: Option<Activation>,
    keeps: bool,
) -> (Vec<f32>, Option<Vec<f32>>) {
    let mut out = Host::memory(rows * weight.dims[1]);
    let mut derivative = (keeps && activation.is_some()).then(|| Host::memory(out.len()));
    let packed = weight.forward();
    let product = Matmul {
        bias: bias.map(Host::values),
        activation,
        derivative: derivative.as_deref_mut(),
        ..Matmul::new(&*packed, &mut out)
    };
    matmul(input.values(), vec![product], kernel_threads());
    (out, derivative)
}
