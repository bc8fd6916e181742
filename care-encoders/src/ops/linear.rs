//! Linear layers: matmul, bias and activation as one operation, for several layers over one input.

use std::fmt;
use std::sync::Arc;

use burn::module::Param;
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use care_kernels::{Activation, F32Matrix, Half, HalfMatrix, Int4Matrix, Int8Matrix, Matmul, matmul};

#[cfg(feature = "cpu")]
use super::training;
use super::{Host, activate};
use crate::device::Precision;
use crate::schedule::kernel_threads;

/// The form in which weights are packed for inference on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepack {
    /// Exact: f32, or 16-bit floats where the weights are such.
    F32,
    /// bfloat16: see [`HalfMatrix`].
    Bf16,
    /// IEEE half precision: see [`HalfMatrix`].
    F16,
    /// int8-quantized, one scale per output: see [`Int8Matrix`]. Decoders quantize inputs in groups.
    Int8,
    /// Quantized to 4 bits, one scale for 32 inputs of an output: see [`Int4Matrix`].
    Int4,
}

impl Prepack {
    /// The form of linear weights of this precision, if they are quantized.
    pub(crate) fn quantizing(precision: Precision) -> Option<Self> {
        match precision {
            Precision::Int8 => Some(Prepack::Int8),
            Precision::Int4 => Some(Prepack::Int4),
            Precision::F32 | Precision::Bf16 | Precision::F16 => None,
        }
    }

    /// The precision of a network with weights of this form.
    pub fn precision(self) -> Precision {
        match self {
            Prepack::F32 => Precision::F32,
            Prepack::Bf16 => Precision::Bf16,
            Prepack::F16 => Precision::F16,
            Prepack::Int8 => Precision::Int8,
            Prepack::Int4 => Precision::Int4,
        }
    }

    /// Whether weights lose precision for good.
    pub(crate) fn quantizes(self) -> bool {
        matches!(self, Prepack::Int8 | Prepack::Int4)
    }

    /// The form that weights of this dtype get: [`Prepack::F32`] keeps 16-bit floats.
    pub(crate) fn of(self, dtype: DType) -> Self {
        match (self, dtype) {
            (Prepack::F32, DType::BF16) => Prepack::Bf16,
            (Prepack::F32, DType::F16) => Prepack::F16,
            (other, _) => other,
        }
    }

    /// The dtype of the plain weight.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Prepack::F32 | Prepack::Int8 | Prepack::Int4 => DType::F32,
            Prepack::Bf16 => DType::BF16,
            Prepack::F16 => DType::F16,
        }
    }

    /// Memory of a packed weight in bytes, without the padding of panels.
    pub(crate) fn bytes(self, [inputs, outputs]: [usize; 2]) -> usize {
        match self {
            Prepack::F32 => 4 * inputs * outputs,
            Prepack::Bf16 | Prepack::F16 => 2 * inputs * outputs,
            Prepack::Int8 => (inputs + size_of::<f32>()) * outputs,
            Prepack::Int4 => inputs.div_ceil(32) * (32 / 2 + size_of::<f32>()) * outputs,
        }
    }
}

/// A weight `[in, out]` in the layout that the CPU's kernels read.
pub(crate) enum Prepacked {
    F32(F32Matrix),
    Half(HalfMatrix),
    Int8(Int8Matrix),
    Int4(Int4Matrix),
}

impl Prepacked {
    /// Packs a weight, if it is a host tensor without autograd; int8 then quantizes inputs as a whole or in groups.
    pub(crate) fn new(weight: &Tensor<2>, prepack: Prepack, grouped: bool) -> Option<Self> {
        let host = Host::widened(weight)?;
        let [inputs, outputs] = weight.dims();
        let half = |half| Self::Half(HalfMatrix::new(host.values(), inputs, outputs, half));
        Some(match prepack {
            Prepack::Bf16 => half(Half::Bf16),
            Prepack::F16 => half(Half::F16),
            Prepack::Int4 => Self::Int4(Int4Matrix::new(host.values(), inputs, outputs)),
            Prepack::F32 => Self::F32(F32Matrix::new(host.values(), inputs, outputs)),
            Prepack::Int8 if grouped => Self::Int8(Int8Matrix::grouped(host.values(), inputs, outputs)),
            Prepack::Int8 => Self::Int8(Int8Matrix::new(host.values(), inputs, outputs)),
        })
    }

    /// The form of this weight.
    pub(crate) fn form(&self) -> Prepack {
        match self {
            Self::F32(_) => Prepack::F32,
            Self::Half(matrix) => match matrix.half() {
                Half::Bf16 => Prepack::Bf16,
                Half::F16 => Prepack::F16,
            },
            Self::Int8(_) => Prepack::Int8,
            Self::Int4(_) => Prepack::Int4,
        }
    }

    /// The plain weight, `[in, out]`: exact for floats, in their dtype; else dequantized, in f32.
    pub(crate) fn unpack(&self, shape: [usize; 2], device: &Device) -> Tensor<2> {
        let values = match self {
            Self::F32(matrix) => matrix.unpack(),
            Self::Half(matrix) => matrix.unpack(),
            Self::Int8(matrix) => matrix.unpack(),
            Self::Int4(matrix) => matrix.unpack(),
        };
        Tensor::from_data(TensorData::new(values, Shape::from(shape)), (device, self.form().dtype()))
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
    pub(crate) training: Option<&'a Arc<training::TrainingWeight>>,
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

    /// What a training step needs of it.
    #[cfg(feature = "cpu")]
    fn in_training(&self) -> training::Layer<'a> {
        let Self { weight, bias, activation, training, .. } = *self;
        training::Layer { weight, bias, activation, packed: training }
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
    if let Some(outputs) = training::linear(&input, &layers.each_ref().map(Affine::in_training)) {
        return outputs;
    }
    layers.map(|layer| {
        // On the CPU, states are f32 whatever the weights are.
        let dtype = input.dtype();
        let bias = layer.bias.map(|bias| bias.val().cast(dtype));
        let output = burn::tensor::module::linear(input.clone(), layer.weight.val().cast(dtype), bias);
        layer.activation.into_iter().fold(output, activate)
    })
}

/// Applies a layer and then another to what it returns, in a training step as one operation.
///
/// # Shapes
/// `[.., in]` to `[.., out]` of the second layer.
pub(crate) fn feed_forward<const D: usize>(input: Tensor<D>, up: Affine<'_>, down: Affine<'_>) -> Tensor<D> {
    #[cfg(feature = "cpu")]
    if up.activation.is_some()
        && down.activation.is_none()
        && let Some(output) = training::feed_forward(&input, &up.in_training(), &down.in_training())
    {
        return output;
    }
    let [inner] = linear(input, [up]);
    let [output] = linear(inner, [down]);
    output
}

/// [`linear`] with the CPU's kernels, if all weights are packed or worth packing for this input alone.
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
        Some(bias) => Host::widened(&bias.val()).map(Some),
        None => Some(None),
    };
    let biases: Vec<Option<Host>> = layers.iter().map(bias).collect::<Option<_>>()?;
    let outputs = |layer: &Affine<'_>| layer.weight.lazy_shape().dims::<2>()[1];
    let mut outs: Vec<Vec<f32>> = layers.iter().map(|layer| Host::memory(rows * outputs(layer))).collect();
    let (mut f32s, mut halves, mut int8s, mut int4s) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (((packed, bias), out), layer) in packed.iter().zip(&biases).zip(&mut outs).zip(layers) {
        let (bias, activation) = (bias.as_ref().map(Host::values), layer.activation);
        match &**packed {
            Prepacked::F32(weight) => f32s.push(Matmul { bias, activation, ..Matmul::new(weight, out) }),
            Prepacked::Half(weight) => halves.push(Matmul { bias, activation, ..Matmul::new(weight, out) }),
            Prepacked::Int8(weight) => int8s.push(Matmul { bias, activation, ..Matmul::new(weight, out) }),
            Prepacked::Int4(weight) => int4s.push(Matmul { bias, activation, ..Matmul::new(weight, out) }),
        }
    }
    matmul(input.values(), f32s, kernel_threads());
    matmul(input.values(), halves, kernel_threads());
    matmul(input.values(), int8s, kernel_threads());
    matmul(input.values(), int4s, kernel_threads());
    let mut outs = outs.into_iter();
    Some(layers.each_ref().map(|layer| {
        shape[D - 1] = outputs(layer);
        Host::tensor(outs.next().unwrap_or_default(), shape)
    }))
}
