//! Linear layers with optional LoRA adapter and prepacked weight.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Shape, Tensor};
use care_kernels::{Activation, Int8Matrix};

use super::lora::Lora;
use super::parameter::parameter;
#[cfg(feature = "cpu")]
use crate::ops::TrainingWeight;
use crate::ops::{Affine, Prepack, Prepacked, activate, feed_forward, linear};

/// `x W + b`, with `W` stored as `[in, out]`, and a LoRA adapter if the layer has one.
///
/// Checkpoints store `[out, in]`; reading and writing them transposes. Every matmul of a network with a weight goes
/// through this type.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
    lora: Option<Lora>,
    /// The prepacked weight. Valid as long as `weight` has not been accessed; until then `weight` takes no memory and
    /// is unpacked from this on first access.
    #[module(skip)]
    packed: Option<Arc<Prepacked>>,
    /// The packings of the weight for one training step.
    #[cfg(feature = "cpu")]
    #[module(skip)]
    training: Option<Arc<TrainingWeight>>,
    /// How the weight has been quantized, if it has.
    #[module(skip)]
    quantized: Option<Prepack>,
    /// Whether [`Prepack::Int8`] quantizes inputs in groups.
    #[module(skip)]
    grouped: bool,
}

impl Linear {
    /// A layer whose weights are zero until they are loaded or initialised.
    pub fn new(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        let bias = bias.then(|| parameter([outputs], device));
        Self {
            weight: parameter([inputs, outputs], device),
            bias,
            lora: None,
            packed: None,
            #[cfg(feature = "cpu")]
            training: None,
            quantized: None,
            grouped: false,
        }
    }

    /// A layer with this weight, `[in, out]`, and without a bias.
    pub(crate) fn of_weight(weight: Tensor<2>) -> Self {
        let weight = Param::from_tensor(weight);
        Self {
            weight,
            bias: None,
            lora: None,
            packed: None,
            #[cfg(feature = "cpu")]
            training: None,
            quantized: None,
            grouped: false,
        }
    }

    /// Makes int8 quantize inputs in groups: for inputs with a few components so large that the others would fall on a
    /// few of the steps.
    pub(crate) fn group_inputs(&mut self) {
        self.grouped = true;
    }

    /// Whether int8 quantizes inputs in groups.
    pub(crate) fn groups_inputs(&self) -> bool {
        self.grouped
    }

    /// Dimensions of input and output.
    pub fn dims(&self) -> [usize; 2] {
        self.weight.lazy_shape().dims()
    }

    /// The device of the weight.
    pub fn device(&self) -> Device {
        self.weight.lazy_device()
    }

    /// Keeps only the first `outputs` outputs, LoRA adapter merged.
    ///
    /// # Panics
    /// Panics if the layer has fewer.
    #[must_use]
    pub fn first_outputs(mut self, outputs: usize) -> Self {
        self.merge_lora();
        let weight = Param::from_tensor(self.weight.val().narrow(1, 0, outputs));
        let bias = self.bias.map(|bias| Param::from_tensor(bias.val().narrow(0, 0, outputs)));
        Self { weight, bias, lora: None, packed: None, ..self }
    }

    /// One layer that computes what `first` and then this one do, LoRA adapters merged.
    #[must_use]
    pub(crate) fn after(mut self, mut first: Self) -> Self {
        first.merge_lora();
        self.merge_lora();
        let outputs = self.dims()[1];
        let moved = first.bias.as_ref().map(|bias| self.forward(bias.val().unsqueeze::<2>()).reshape([outputs]));
        let bias = moved.map(Param::from_tensor).or(self.bias);
        let weight = Param::from_tensor(first.weight.val().matmul(self.weight.val()));
        let quantized = first.quantized.or(self.quantized);
        Self { weight, bias, lora: None, packed: None, quantized, ..first }
    }

    /// The LoRA adapter, if there is one.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// Sets the LoRA adapter, replacing an earlier one.
    pub fn set_lora(&mut self, lora: Lora) {
        self.lora = Some(lora);
    }

    /// Merges the LoRA adapter, if there is one, into the weight.
    pub fn merge_lora(&mut self) {
        if let Some(lora) = self.lora.take() {
            self.weight = Param::from_tensor(merged(self.weight.val(), &lora));
            self.packed = None;
        }
    }

    /// Merges the LoRA adapter as that of a DoRA: the updated weight of each output is scaled to a given length.
    ///
    /// # Shapes
    /// `magnitudes [out]`, f32.
    ///
    /// # Reference
    /// Liu et al. 2024, arXiv 2402.09353; the merge of PEFT's `DoraLinearVariant`.
    pub(crate) fn merge_dora(&mut self, magnitudes: Tensor<1>) {
        if let Some(lora) = self.lora.take() {
            let weight = self.weight.val();
            let dtype = weight.dtype();
            let updated = weight.cast(FloatDType::F32) + lora.delta();
            let lengths = updated.clone().square().sum_dim(0).sqrt();
            let merged = updated * (magnitudes.unsqueeze_dim(0) / lengths);
            self.weight = Param::from_tensor(merged.cast(dtype));
            self.packed = None;
        }
    }

    /// Adds to the bias; false if the layer has none.
    ///
    /// # Shapes
    /// `added [out]`, f32.
    pub(crate) fn add_to_bias(&mut self, added: Tensor<1>) -> bool {
        let Some(bias) = self.bias.take() else { return false };
        let bias = bias.val();
        let dtype = bias.dtype();
        self.bias = Some(Param::from_tensor((bias.cast(FloatDType::F32) + added).cast(dtype)));
        true
    }

    /// Packs the weight for inference on the CPU, LoRA adapter merged, and frees the plain one. A weight that is packed in
    /// f32 already can still be rounded or quantized; its other clones stay as they are. Nothing happens if the weight is
    /// not a host tensor, is trainable, or is quantized already.
    ///
    /// Callers that read the weight afterwards get it, unpacked on demand: the same numbers for [`Prepack::F32`], rounded
    /// ones for the other floats, and dequantized ones otherwise. From then on the layer computes with the plain weight.
    pub fn prepack(&mut self, prepack: Prepack) {
        match self.prepacked() {
            Some(form) if form == prepack.of(form.dtype()) || form.quantizes() => return,
            Some(_) => *self = self.unpacked_copy(),
            None => {}
        }
        self.merge_lora();
        let weight = self.weight.val();
        let prepack = prepack.of(weight.dtype());
        let Some(packed) = Prepacked::new(&weight, prepack, self.grouped) else { return };
        self.set_packed(packed);
    }

    /// Replaces the weight by one that has been int8-quantized already, packed.
    ///
    /// # Shapes
    /// `values [out, in]`, `scales [out]`.
    pub(crate) fn set_quantized(&mut self, values: &[i8], scales: &[f32]) {
        let [inputs, _] = self.dims();
        self.set_packed(Prepacked::Int8(Int8Matrix::of_quantized(values, scales, inputs, self.grouped)));
    }

    /// The weight's quantized values, `[out, in]`, and the scale of each output, if it is packed in int8.
    pub(crate) fn quantized_weight(&self) -> Option<(Vec<i8>, Vec<f32>)> {
        match self.usable().map(Arc::as_ref) {
            Some(Prepacked::Int8(matrix)) => Some(matrix.to_quantized()),
            _ => None,
        }
    }

    fn set_packed(&mut self, packed: Prepacked) {
        let packed = Arc::new(packed);
        let (id, device, shape) = (self.weight.id, self.device(), self.dims());
        if packed.form().quantizes() {
            self.quantized = Some(packed.form());
        }
        self.packed = Some(packed.clone());
        let unpack =
            move |device: &Device, require_grad: bool| packed.unpack(shape, device).set_require_grad(require_grad);
        self.weight = Param::uninitialized(id, unpack, device, true, Shape::from(shape));
    }

    /// The form in which the weight is packed, if it is.
    pub fn prepacked(&self) -> Option<Prepack> {
        self.usable().map(|packed| packed.form())
    }

    /// The packed weight, as long as the plain one has not been accessed.
    fn usable(&self) -> Option<&Arc<Prepacked>> {
        self.packed.as_ref().filter(|_| !self.weight.is_initialized() && self.lora.is_none())
    }

    /// Whether the weight has been quantized, whatever its form is now.
    pub fn is_quantized(&self) -> bool {
        self.quantized.is_some()
    }

    /// How the weight has been quantized, if it has, whatever its form is now.
    pub fn quantization(&self) -> Option<Prepack> {
        self.quantized
    }

    /// The layer with its plain weight, unpacked on first use and shared with this layer's other clones.
    #[must_use]
    pub fn unpacked(self) -> Self {
        Self { packed: None, ..self }
    }

    /// A copy with its own plain weight; this layer stays packed.
    #[must_use]
    pub fn unpacked_copy(&self) -> Self {
        let mut copy = self.clone().unpacked();
        if let Some(weight) = self.unpacked_weight() {
            copy.weight = Param::from_tensor(weight);
        }
        copy
    }

    /// The plain weight of a packed layer, `[in, out]`, without its LoRA adapter; the layer stays packed. `None` if the
    /// plain weight is in memory.
    pub(crate) fn unpacked_weight(&self) -> Option<Tensor<2>> {
        let packed = self.packed.as_deref().filter(|_| !self.weight.is_initialized());
        packed.map(|packed| packed.unpack(self.dims(), &self.device()))
    }

    /// The weight with its LoRA adapter merged, `[in, out]`; the layer stays as it is.
    pub(crate) fn merged_weight(&self) -> Tensor<2> {
        let weight = self.unpacked_weight().unwrap_or_else(|| self.weight.val());
        match &self.lora {
            Some(lora) => merged(weight, lora),
            None => weight,
        }
    }

    /// Packs the weight for the forward and backward passes of one training step, if it trains on the CPU's kernels: those
    /// of clones of this layer share the packings. They hold for as long as the weight does not change.
    pub fn pack_for_step(&mut self) {
        #[cfg(feature = "cpu")]
        if self.packed.is_none() {
            self.training = TrainingWeight::kept(&self.weight.val());
        }
    }

    /// The dtype of the plain weight.
    pub(crate) fn dtype(&self) -> DType {
        match self.packed.as_ref().filter(|_| !self.weight.is_initialized()) {
            Some(packed) => packed.form().dtype(),
            None => self.weight.val().dtype(),
        }
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
        if layers.iter().any(|(layer, _)| layer.lora.is_some()) {
            return layers.map(|(layer, activation)| layer.forward_with_lora(input.clone(), activation));
        }
        linear(input, layers.map(|(layer, activation)| layer.affine(activation)))
    }

    /// Applies `up` with its activation and then `down`.
    ///
    /// # Shapes
    /// `[.., in]` of `up` to `[.., out]` of `down`.
    pub(crate) fn feed_forward<const D: usize>(
        up: &Self,
        activation: Activation,
        down: &Self,
        input: Tensor<D>,
    ) -> Tensor<D> {
        if up.lora.is_some() || down.lora.is_some() {
            return down.forward(up.forward_activated(input, activation));
        }
        feed_forward(input, up.affine(Some(activation)), down.affine(None))
    }

    fn affine(&self, activation: Option<Activation>) -> Affine<'_> {
        Affine {
            weight: &self.weight,
            bias: self.bias.as_ref(),
            prepacked: self.usable(),
            activation,
            #[cfg(feature = "cpu")]
            training: self.training.as_ref(),
        }
    }

    fn forward_with_lora<const D: usize>(&self, input: Tensor<D>, activation: Option<Activation>) -> Tensor<D> {
        let [output] = linear(input.clone(), [self.affine(None)]);
        let output = self.lora.iter().fold(output, |output, lora| output + lora.forward(input.clone()));
        activation.into_iter().fold(output, activate)
    }
}

/// A weight with a LoRA adapter merged, in the weight's dtype.
fn merged(weight: Tensor<2>, lora: &Lora) -> Tensor<2> {
    let dtype = weight.dtype();
    (weight.cast(FloatDType::F32) + lora.delta()).cast(dtype)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    fn layer(inputs: usize, outputs: usize) -> Linear {
        let device = crate::device::Device::Cpu.open().expect("the cpu is compiled in");
        device.seed(1);
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
        let mut layer = Linear::new(inputs, outputs, true, &device);
        layer.weight = Param::from_tensor(random([inputs, outputs]));
        layer.bias = Some(Param::from_tensor(random([1, outputs]).reshape([outputs])));
        layer
    }

    /// burn's linear operation on the plain weight.
    fn plain_forward(layer: &Linear, input: Tensor<3>) -> Tensor<3> {
        burn::tensor::module::linear(input, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
    }

    fn input(rows: usize, inputs: usize) -> Tensor<3> {
        let device = crate::device::Device::Cpu.open().expect("the cpu is compiled in");
        Tensor::random([2, rows, inputs], Distribution::Uniform(-1.0, 1.0), &device)
    }

    fn same(left: Tensor<3>, right: Tensor<3>, bound: f64) {
        left.into_data().assert_approx_eq::<f32>(&right.into_data(), Tolerance::absolute(bound));
    }

    #[test]
    fn a_packed_layer_gives_what_the_plain_one_does() {
        let plain = layer(24, 40);
        for (prepack, bound) in [(Prepack::F32, 1e-5), (Prepack::Int8, 0.2)] {
            let mut packed = plain.clone();
            packed.prepack(prepack);
            assert_eq!(packed.prepacked(), Some(prepack));
            assert_eq!(packed.dims(), [24, 40]);
            // In the plain layer, few rows use burn's matmul; for many rows the weight is packed on the fly.
            for rows in [1, 50] {
                let input = input(rows, 24);
                let expected = plain_forward(&plain, input.clone());
                same(plain.forward(input.clone()), expected.clone(), 1e-5);
                same(packed.forward(input.clone()), expected.clone(), bound);
                let [first, second] = Linear::forward_all([(&packed, None), (&plain, Some(Activation::Relu))], input);
                same(first, expected.clone(), bound);
                same(second, activate(expected, Activation::Relu), 1e-5);
            }
        }
    }

    #[test]
    fn whoever_reads_a_packed_weight_gets_it_and_the_layer_follows_what_becomes_of_it() {
        let plain = layer(9, 7);
        let mut packed = plain.clone();
        packed.prepack(Prepack::F32);
        assert!(!packed.weight.is_initialized(), "the plain weight takes no memory");
        let apart = packed.unpacked_copy();
        assert_eq!(apart.prepacked(), None);
        assert!(!packed.weight.is_initialized(), "nor does it after a copy is made");
        apart.weight.val().into_data().assert_eq(&plain.weight.val().into_data(), true);

        // A change of the weight, e.g. by a training step, takes effect.
        let mut changed = packed.clone();
        changed.weight = changed.weight.map(|weight| weight * 2.0);
        assert_eq!(changed.prepacked(), None);
        let input = input(40, 9);
        let twice = (plain.weight.val() * 2.0, plain.bias.as_ref().map(|bias| bias.val()));
        let expected = burn::tensor::module::linear(input.clone(), twice.0, twice.1);
        for changed in [changed.clone(), changed.unpacked_copy(), changed.clone().unpacked()] {
            same(changed.forward(input.clone()), expected.clone(), 1e-5);
        }
        // Clones share the unpacked weight, so the original computes with it, too.
        assert_eq!(packed.prepacked(), None);
        packed.prepack(Prepack::F32);
        let in_f32 = packed.clone();
        packed.prepack(Prepack::Int8);
        assert_eq!([&in_f32, &packed].map(Linear::prepacked), [Some(Prepack::F32), Some(Prepack::Int8)]);
        packed.prepack(Prepack::F32);
        assert_eq!(packed.prepacked(), Some(Prepack::Int8), "what is lost stays lost");
        assert!(packed.is_quantized() && !in_f32.is_quantized() && !plain.is_quantized());
        assert!(packed.unpacked_copy().is_quantized() && packed.unpacked().is_quantized(), "precision stays lost");
    }

    #[test]
    fn an_addition_to_a_packed_layer_is_a_part_of_it() {
        let device = crate::device::Device::Cpu.open().expect("the cpu is compiled in");
        let mut packed = layer(9, 7);
        packed.prepack(Prepack::F32);
        let before = packed.unpacked_copy();
        let lora = Lora::new(9, 7, 2, 0.5, 0.0, &device)
            .with_weights(Tensor::ones([9, 2], &device), Tensor::ones([2, 7], &device));
        packed.set_lora(lora);
        let input = input(40, 9);
        let expected = plain_forward(&before, input.clone()) + input.clone().sum_dim(2);
        same(packed.forward(input.clone()), expected.clone(), 1e-5);
        packed.merge_lora();
        same(packed.unpacked_copy().forward(input.clone()), expected.clone(), 1e-5);
        packed.prepack(Prepack::F32);
        assert_eq!(packed.prepacked(), Some(Prepack::F32));
        same(packed.forward(input), expected, 1e-5);
    }

    #[test]
    fn a_layer_that_learns_is_not_packed() {
        let device = crate::device::Device::Cpu.open().expect("the cpu is compiled in").autodiff();
        let mut learning = layer(8, 8).train();
        learning.prepack(Prepack::F32);
        assert_eq!(learning.prepacked(), None);
        let input = Tensor::<3>::ones([1, 40, 8], &device).require_grad();
        let gradients = learning.forward(input.clone()).sum().backward();
        assert!(input.grad(&gradients).is_some(), "the graph is whole");
    }
}
