//! The one type that every linear weight of every network goes through.

use std::fmt;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{DType, Device, FloatDType, Shape, Tensor, TensorData};

use super::{Activation, Host, Lora, parameter};
use crate::kernels::{F32Matrix, Int8Matrix, Product, multiply};

/// `x W + b`, with `W` kept as `[in, out]`, and a low-rank addition if the layer has one.
///
/// Checkpoints store `[out, in]`; reading and writing them transposes. Since no network multiplies
/// by a weight in any other way, a faster kernel for a device goes in here and nowhere else.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
    lora: Option<Lora>,
    /// The weight as the CPU's kernels read it. It counts as long as nobody has touched `weight`, which until then
    /// takes no memory and is made from this when it is asked for.
    #[module(skip)]
    packed: Option<Arc<Packed>>,
    /// Whether the weight has gone through bytes.
    #[module(skip)]
    rounded: bool,
}

/// How the weights of inference on the CPU are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Every number as it is.
    F32,
    /// A byte a number: see [`Int8Matrix`].
    Int8,
}

enum Packed {
    F32(F32Matrix),
    Int8(Int8Matrix),
}

impl Packed {
    fn unpack(&self) -> Vec<f32> {
        match self {
            Packed::F32(matrix) => matrix.unpack(),
            Packed::Int8(matrix) => matrix.unpack(),
        }
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Packed::F32(_) => "F32",
            Packed::Int8(_) => "Int8",
        })
    }
}

/// Rows from which on it pays to lay out a weight for one product.
const ROWS_WORTH_PACKING: usize = 32;

impl Linear {
    /// A layer whose weights are zero until they are filled.
    pub fn new(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        let bias = bias.then(|| parameter([outputs], device));
        Self { weight: parameter([inputs, outputs], device), bias, lora: None, packed: None, rounded: false }
    }

    /// The widths of input and output.
    pub fn widths(&self) -> [usize; 2] {
        self.weight.lazy_shape().dims()
    }

    /// Where the weight lives.
    pub fn device(&self) -> Device {
        self.weight.lazy_device()
    }

    /// The layer with its first outputs only, low-rank addition merged.
    ///
    /// # Panics
    /// When it has fewer.
    #[must_use]
    pub fn first_outputs(mut self, outputs: usize) -> Self {
        self.merge_lora();
        let weight = Param::from_tensor(self.weight.val().narrow(1, 0, outputs));
        let bias = self.bias.map(|bias| Param::from_tensor(bias.val().narrow(0, 0, outputs)));
        Self { weight, bias, lora: None, packed: None, rounded: self.rounded }
    }

    /// The low-rank addition, if there is one.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// Adds a low-rank addition, in place of the one before.
    pub fn set_lora(&mut self, lora: Lora) {
        self.lora = Some(lora);
    }

    /// Makes the low-rank addition, if there is one, a part of the weight.
    pub fn merge_lora(&mut self) {
        if let Some(lora) = self.lora.take() {
            let weight = self.weight.val();
            let dtype = weight.dtype();
            let merged = weight.cast(FloatDType::F32) + lora.delta();
            self.weight = Param::from_tensor(merged.cast(dtype));
            self.packed = None;
        }
    }

    /// Lays the weight out for inference on the CPU, low-rank addition merged, and gives the memory of the plain one
    /// back. Nothing happens where the weight is not an f32 tensor of the CPU, or learns, or is laid out already.
    ///
    /// Whoever reads the weight afterwards gets it, made anew: the same numbers for [`Packing::F32`], those that the
    /// bytes stand for with [`Packing::Int8`]. The layer then computes with it as any other.
    pub fn pack(&mut self, packing: Packing) {
        if self.packing().is_some() {
            return;
        }
        self.merge_lora();
        let weight = self.weight.val();
        let Some(host) = Host::of(&weight) else { return };
        let shape @ [inputs, outputs] = weight.dims();
        let packed = Arc::new(match packing {
            Packing::F32 => Packed::F32(F32Matrix::new(host.values(), inputs, outputs)),
            Packing::Int8 => Packed::Int8(Int8Matrix::new(host.values(), inputs, outputs)),
        });
        let (id, device) = (self.weight.id, weight.device());
        self.packed = Some(packed.clone());
        self.rounded |= packing == Packing::Int8;
        let unpack = move |device: &Device, require_grad: bool| {
            let data = TensorData::new(packed.unpack(), shape);
            Tensor::from_data(data, (device, DType::F32)).set_require_grad(require_grad)
        };
        self.weight = Param::uninitialized(id, unpack, device, true, Shape::from(shape));
    }

    /// How the weight is laid out, if it is.
    pub fn packing(&self) -> Option<Packing> {
        let packed = self.packed.as_deref().filter(|_| !self.weight.is_initialized() && self.lora.is_none())?;
        Some(match packed {
            Packed::F32(_) => Packing::F32,
            Packed::Int8(_) => Packing::Int8,
        })
    }

    /// Whether the weight has been rounded to bytes, however it is kept now.
    pub fn is_rounded(&self) -> bool {
        self.rounded
    }

    /// The layer with its plain weight, made when it is first asked for and shared with this layer's other clones.
    #[must_use]
    pub fn unpacked(self) -> Self {
        Self { packed: None, ..self }
    }

    /// A copy with its plain weight, none of which is shared with this layer: that one stays as it is laid out.
    #[must_use]
    pub fn unpacked_copy(&self) -> Self {
        let mut copy = self.clone().unpacked();
        if let Some(packed) = self.packed.as_deref().filter(|_| !self.weight.is_initialized()) {
            let data = TensorData::new(packed.unpack(), self.widths());
            copy.weight = Param::from_tensor(Tensor::from_data(data, (&self.device(), DType::F32)));
        }
        copy
    }

    /// Applies the layer to the last axis.
    ///
    /// # Shapes
    /// `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let [output] = Self::forward_all([(self, None)], input);
        output
    }

    /// Applies the layer and then an activation.
    ///
    /// # Shapes
    /// As [`Linear::forward`].
    pub fn forward_activated<const D: usize>(&self, input: Tensor<D>, activation: Activation) -> Tensor<D> {
        let [output] = Self::forward_all([(self, Some(activation))], input);
        output
    }

    /// Applies several layers, each with its activation if it has one, to the same input.
    ///
    /// # Shapes
    /// As [`Linear::forward`], each.
    pub fn forward_all<const D: usize, const N: usize>(
        layers: [(&Self, Option<Activation>); N],
        input: Tensor<D>,
    ) -> [Tensor<D>; N] {
        if let Some(host) = Host::of(&input)
            && let Some(outputs) = Self::multiply_packed(layers, &host, input.dims())
        {
            drop(input);
            host.recycle();
            return outputs;
        }
        layers.map(|(layer, activation)| {
            let output = layer.forward_plainly(input.clone());
            activation.into_iter().fold(output, |output, activation| activation.forward(output))
        })
    }

    fn forward_plainly<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(|bias| bias.val());
        match &self.lora {
            None => linear(input, self.weight.val(), bias),
            Some(lora) => linear(input.clone(), self.weight.val(), bias) + lora.forward(input),
        }
    }

    /// The products on the CPU's kernels, if all layers have weights for them.
    fn multiply_packed<const D: usize, const N: usize>(
        layers: [(&Self, Option<Activation>); N],
        input: &Host,
        mut shape: [usize; D],
    ) -> Option<[Tensor<D>; N]> {
        let rows: usize = shape[..D - 1].iter().product();
        let packed: Vec<Arc<Packed>> = layers.iter().map(|(layer, _)| layer.packed(rows)).collect::<Option<_>>()?;
        let bias = |layer: &Self| match &layer.bias {
            Some(bias) => Host::of(&bias.val()).map(Some),
            None => Some(None),
        };
        let biases: Vec<Option<Host>> = layers.iter().map(|(layer, _)| bias(layer)).collect::<Option<_>>()?;
        let mut outputs: Vec<Vec<f32>> =
            layers.iter().map(|(layer, _)| Host::memory(rows * layer.widths()[1])).collect();
        let (mut f32s, mut int8s) = (Vec::new(), Vec::new());
        let parts = packed.iter().zip(&biases).zip(&mut outputs).zip(&layers);
        for (((packed, bias), out), &(_, activation)) in parts {
            let bias = bias.as_ref().map(Host::values);
            match &**packed {
                Packed::F32(weight) => f32s.push(Product { weight, bias, activation, out }),
                Packed::Int8(weight) => int8s.push(Product { weight, bias, activation, out }),
            }
        }
        multiply(input.values(), f32s);
        multiply(input.values(), int8s);
        let mut outputs = outputs.into_iter();
        Some(layers.map(|(layer, _)| {
            shape[D - 1] = layer.widths()[1];
            Host::tensor(outputs.next().unwrap_or_default(), shape)
        }))
    }

    /// The weight for a product of this many rows, laid out for it alone if it was not before and that pays.
    fn packed(&self, rows: usize) -> Option<Arc<Packed>> {
        match &self.packed {
            _ if self.lora.is_some() => None,
            Some(packed) if !self.weight.is_initialized() => Some(packed.clone()),
            _ if rows < ROWS_WORTH_PACKING => None,
            _ => {
                let [inputs, outputs] = self.widths();
                let host = Host::of(&self.weight.val())?;
                Some(Arc::new(Packed::F32(F32Matrix::new(host.values(), inputs, outputs))))
            }
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    fn layer(inputs: usize, outputs: usize) -> Linear {
        let device = crate::Device::Cpu.open().expect("the cpu is compiled in");
        device.seed(1);
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
        let mut layer = Linear::new(inputs, outputs, true, &device);
        layer.weight = Param::from_tensor(random([inputs, outputs]));
        layer.bias = Some(Param::from_tensor(random([1, outputs]).reshape([outputs])));
        layer
    }

    fn input(rows: usize, inputs: usize) -> Tensor<3> {
        let device = crate::Device::Cpu.open().expect("the cpu is compiled in");
        Tensor::random([2, rows, inputs], Distribution::Uniform(-1.0, 1.0), &device)
    }

    fn same(left: Tensor<3>, right: Tensor<3>, bound: f64) {
        left.into_data().assert_approx_eq::<f32>(&right.into_data(), Tolerance::absolute(bound));
    }

    #[test]
    fn a_packed_layer_gives_what_the_plain_one_does() {
        let plain = layer(24, 40);
        for (packing, bound) in [(Packing::F32, 1e-5), (Packing::Int8, 0.2)] {
            let mut packed = plain.clone();
            packed.pack(packing);
            assert_eq!(packed.packing(), Some(packing));
            assert_eq!(packed.widths(), [24, 40]);
            // Few rows take burn's own product in the plain layer, many a weight that is laid out for them.
            for rows in [1, 50] {
                let input = input(rows, 24);
                let expected = plain.forward_plainly(input.clone());
                same(plain.forward(input.clone()), expected.clone(), 1e-5);
                same(packed.forward(input.clone()), expected.clone(), bound);
                let [first, second] = Linear::forward_all([(&packed, None), (&plain, Some(Activation::Relu))], input);
                same(first, expected.clone(), bound);
                same(second, Activation::Relu.forward(expected), 1e-5);
            }
        }
    }

    #[test]
    fn whoever_reads_a_packed_weight_gets_it_and_the_layer_follows_what_becomes_of_it() {
        let plain = layer(9, 7);
        let mut packed = plain.clone();
        packed.pack(Packing::F32);
        assert!(!packed.weight.is_initialized(), "the plain weight takes no memory");
        let apart = packed.unpacked_copy();
        assert_eq!(apart.packing(), None);
        assert!(!packed.weight.is_initialized(), "nor does it after a copy is made");
        apart.weight.val().into_data().assert_eq(&plain.weight.val().into_data(), true);

        // A change of the weight, such as a training step's, is not overlooked.
        let mut changed = packed.clone();
        changed.weight = changed.weight.map(|weight| weight * 2.0);
        assert_eq!(changed.packing(), None);
        let input = input(40, 9);
        let twice = (plain.weight.val() * 2.0, plain.bias.as_ref().map(|bias| bias.val()));
        let expected = linear(input.clone(), twice.0, twice.1);
        for changed in [changed.clone(), changed.unpacked_copy(), changed.clone().unpacked()] {
            same(changed.forward(input.clone()), expected.clone(), 1e-5);
        }
        // Clones share a weight that is made anew: the first one computes as any other layer now.
        assert_eq!(packed.packing(), None);
        packed.pack(Packing::Int8);
        assert_eq!(packed.packing(), Some(Packing::Int8));
        assert!(packed.is_rounded() && !plain.is_rounded());
        assert!(packed.unpacked_copy().is_rounded() && packed.unpacked().is_rounded(), "what is lost stays lost");
    }

    #[test]
    fn an_addition_to_a_packed_layer_is_a_part_of_it() {
        let device = crate::Device::Cpu.open().expect("the cpu is compiled in");
        let mut packed = layer(9, 7);
        packed.pack(Packing::F32);
        let before = packed.unpacked_copy();
        let lora = Lora::new(9, 7, 2, 0.5, 0.0, &device)
            .with_weights(Tensor::ones([9, 2], &device), Tensor::ones([2, 7], &device));
        packed.set_lora(lora);
        let input = input(40, 9);
        let expected = before.forward_plainly(input.clone()) + input.clone().sum_dim(2);
        same(packed.forward(input.clone()), expected.clone(), 1e-5);
        packed.merge_lora();
        same(packed.unpacked_copy().forward(input.clone()), expected.clone(), 1e-5);
        packed.pack(Packing::F32);
        assert_eq!(packed.packing(), Some(Packing::F32));
        same(packed.forward(input), expected, 1e-5);
    }

    #[test]
    fn a_layer_that_learns_is_not_packed() {
        let device = crate::Device::Cpu.open().expect("the cpu is compiled in").autodiff();
        let mut learning = layer(8, 8).train();
        learning.pack(Packing::F32);
        assert_eq!(learning.packing(), None);
        let input = Tensor::<3>::ones([1, 40, 8], &device).require_grad();
        let gradients = learning.forward(input.clone()).sum().backward();
        assert!(input.grad(&gradients).is_some(), "the graph is whole");
    }
}
