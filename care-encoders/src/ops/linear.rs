//! Linear layers: matmul, bias and activation as one operation, for several layers over one input.

use std::fmt;
use std::sync::Arc;

use burn::module::Param;
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use care_kernels::{Activation, F32Matrix, Int8Matrix, Matmul, matmul};

use super::{Host, activate};
use crate::schedule::kernel_threads;

/// The form in which weights are packed for inference on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepack {
    /// f32, exact.
    F32,
    /// int8-quantized, one scale per output: see [`Int8Matrix`]. Decoders quantize inputs in groups.
    Int8,
}

/// A weight `[in, out]` in the layout that the CPU's kernels read.
pub(crate) enum Prepacked {
    F32(F32Matrix),
    Int8(Int8Matrix),
}

impl Prepacked {
    /// Packs a weight, if it is a host tensor without autograd; int8 then quantizes inputs as a whole or in groups.
    pub(crate) fn new(weight: &Tensor<2>, prepack: Prepack, grouped: bool) -> Option<Self> {
        let host = Host::of(weight)?;
        let [inputs, outputs] = weight.dims();
        Some(match prepack {
            Prepack::F32 => Self::F32(F32Matrix::new(host.values(), inputs, outputs)),
            Prepack::Int8 if grouped => Self::Int8(Int8Matrix::grouped(host.values(), inputs, outputs)),
            Prepack::Int8 => Self::Int8(Int8Matrix::new(host.values(), inputs, outputs)),
        })
    }

    /// The form of this weight.
    pub(crate) fn form(&self) -> Prepack {
        match self {
            Self::F32(_) => Prepack::F32,
            Self::Int8(_) => Prepack::Int8,
        }
    }

    /// The plain weight, `[in, out]`: exact for f32, dequantized for int8.
    pub(crate) fn unpack(&self, shape: [usize; 2], device: &Device) -> Tensor<2> {
        let values = match self {
            Self::F32(matrix) => matrix.unpack(),
            Self::Int8(matrix) => matrix.unpack(),
        };
        Tensor::from_data(TensorData::new(values, Shape::from(shape)), (device, DType::F32))
    }
}

impl fmt::Debug for Prepacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.form().fmt(f)
    }
}

/// `activation(x W + b)`.
pub(crate) struct Affine<'a> {
    /// `[in, out]`. Not accessed if `prepacked` is used.
    pub(crate) weight: &'a Param<Tensor<2>>,
    /// `[out]`.
    pub(crate) bias: Option<&'a Param<Tensor<1>>>,
    /// The same weight, packed.
    pub(crate) prepacked: Option<&'a Arc<Prepacked>>,
    pub(crate) activation: Option<Activation>,
    /// The same weight, packed for a training step.
    #[cfg(feature = "cpu")]
    pub(crate) training: Option<&'a Arc<super::TrainingWeight>>,
}

impl<'a> Affine<'a> {
    /// `x W`.
    pub(crate) fn of_weight(weight: &'a Param<Tensor<2>>) -> Self {
        Self {
            weight,
            bias: None,
            prepacked: None,
            activation: None,
            #[cfg(feature = "cpu")]
            training: None,
        }
    }
}

/// Smallest number of rows for which packing a weight pays off within a single matmul.
const ROWS_WORTH_PACKING: usize = 32;

/// Applies several layers to one input.
///
/// # Shapes
/// `[.., in]` to `[.., out]`, each.
pub(crate) fn linear<const D: usize, const N: usize>(input: Tensor<D>, layers: [Affine<'_>; N]) -> [Tensor<D>; N] {
    if let Some(host) = Host::of(&input)
        && let Some(outputs) = on_kernels(&host, input.dims(), &layers)
    {
        drop(input);
        host.recycle();
        return outputs;
    }
    #[cfg(feature = "cpu")]
    if let Some(outputs) = super::training::linear(&input, &layers) {
        return outputs;
    }
    layers.map(|layer| {
        let bias = layer.bias.map(Param::val);
        let output = burn::tensor::module::linear(input.clone(), layer.weight.val(), bias);
        layer.activation.into_iter().fold(output, activate)
    })
}

/// The same with the CPU's kernels, if all weights are packed or worth packing for this input alone.
fn on_kernels<const D: usize, const N: usize>(
    input: &Host,
    mut shape: [usize; D],
    layers: &[Affine<'_>; N],
) -> Option<[Tensor<D>; N]> {
    let rows: usize = shape[..D - 1].iter().product();
    let packed = |layer: &Affine<'_>| match layer.prepacked {
        Some(prepacked) => Some(prepacked.clone()),
        None if rows < ROWS_WORTH_PACKING => None,
        None => Prepacked::new(&layer.weight.val(), Prepack::F32, false).map(Arc::new),
    };
    let packed: Vec<Arc<Prepacked>> = layers.iter().map(packed).collect::<Option<_>>()?;
    let bias = |layer: &Affine<'_>| match layer.bias {
        Some(bias) => Host::of(&bias.val()).map(Some),
        None => Some(None),
    };
    let biases: Vec<Option<Host>> = layers.iter().map(bias).collect::<Option<_>>()?;
    let outputs = |layer: &Affine<'_>| layer.weight.lazy_shape().dims::<2>()[1];
    let mut outs: Vec<Vec<f32>> = layers.iter().map(|layer| Host::memory(rows * outputs(layer))).collect();
    let (mut f32s, mut int8s) = (Vec::new(), Vec::new());
    for (((packed, bias), out), layer) in packed.iter().zip(&biases).zip(&mut outs).zip(layers) {
        let (bias, activation) = (bias.as_ref().map(Host::values), layer.activation);
        match &**packed {
            Prepacked::F32(weight) => f32s.push(Matmul { bias, activation, ..Matmul::new(weight, out) }),
            Prepacked::Int8(weight) => int8s.push(Matmul { bias, activation, ..Matmul::new(weight, out) }),
        }
    }
    matmul(input.values(), f32s, kernel_threads());
    matmul(input.values(), int8s, kernel_threads());
    let mut outs = outs.into_iter();
    Some(layers.each_ref().map(|layer| {
        shape[D - 1] = outputs(layer);
        Host::tensor(outs.next().unwrap_or_default(), shape)
    }))
}
