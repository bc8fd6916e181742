//! Fused operations with a backward pass of their own, for training on the CPU.
//!
//! Each is one node of burn's graph: the forward pass computes with [`care_kernels`] and keeps what the backward pass
//! needs; the backward pass maps the gradient of the output to those of the inputs. An operation returns `None` unless
//! all of its tensors are f32 host tensors on an autodiff device; then burn's operations compute and differentiate.

mod attention;
mod dropout;
mod gate;
mod linear;
mod norm;
mod pool;
mod rope;

use std::cell::Cell;
use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, BackendTypes, Flex};
use burn::tensor::{DType, Tensor};

pub(super) use attention::attention;
pub(super) use dropout::dropout;
pub(super) use gate::gate;
pub(crate) use linear::TrainingWeight;
pub(super) use linear::{Layer, feed_forward, linear};
pub(super) use norm::{layer_norm, rms_norm};
pub(super) use pool::sum_spans;
pub(super) use rope::rotate;

use super::Host;

thread_local! {
    static SWITCHED_OFF: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with burn's operations in place of those of this module, on this thread: for tests, which compare the two.
pub fn without_training_kernels<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SWITCHED_OFF.set(self.0);
        }
    }
    let _restore = Restore(SWITCHED_OFF.replace(true));
    work()
}

/// An f32 host tensor on an autodiff device.
pub(super) struct Tracked {
    tensor: <Autodiff<Flex> as BackendTypes>::FloatTensorPrimitive,
}

impl Tracked {
    /// The tensor, if it is one.
    pub(super) fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        // Asked first, since a conversion that fails formats a message: inference comes by here for every query.
        if !tensor.is_autodiff() || SWITCHED_OFF.get() || tensor.dtype() != DType::F32 {
            return None;
        }
        let tensor = tensor.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
        Some(Self { tensor })
    }

    /// Its values.
    pub(super) fn host(&self) -> Host {
        Host::of_primitive(self.tensor.primitive().clone())
    }
}

/// Whether operations on this tensor are those of this module.
pub(crate) fn is_on_training_kernels<const D: usize>(tensor: &Tensor<D>) -> bool {
    Tracked::of(tensor).is_some()
}

/// The backward pass of an operation with `N` inputs, with what its forward pass has kept.
trait Gradient<const N: usize>: Clone + Debug + Send + 'static {
    /// The gradients of the inputs that want one, each in the shape of its input.
    fn backward(self, output: Host, wanted: [bool; N]) -> [Option<Host>; N];
}

/// Records an operation. `compute` returns its output and, where its argument says that a gradient may be wanted, its
/// backward pass.
fn record<G: Gradient<N>, const N: usize, const D: usize>(
    inputs: [Tracked; N],
    compute: impl FnOnce(bool) -> (Host, Option<G>),
) -> Tensor<D> {
    let guards = inputs.map(|input| input.tensor.into_parts().1);
    let output = match Step::<G>(PhantomData).prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let (output, gradient) = compute(true);
            let gradient = gradient.expect("an operation that is asked to has kept its backward pass");
            prepared.finish(gradient, output.into_primitive())
        }
        OpsKind::UnTracked(prepared) => prepared.finish(compute(false).0.into_primitive()),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// The step of burn's graph that runs a [`Gradient`].
#[derive(Debug)]
struct Step<G>(PhantomData<G>);

impl<G: Gradient<N>, const N: usize> Backward<Flex, N> for Step<G> {
    type State = G;

    fn backward(self, ops: Ops<G, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let output = Host::of_primitive(gradients.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = ops.state.backward(output, wanted);
        for (input, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(input), Some(gradient)) = (input, gradient) {
                gradients.register::<Flex>(input.id, gradient.into_primitive());
            }
        }
    }
}
