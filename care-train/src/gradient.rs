//! Gradients of a step by the name of their weight.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, IndexingUpdateOp, Int, Tensor, TensorData};
use care_encoders::internals::{Host, ParameterPath};

/// Gradients by the name of their weight.
pub(crate) type NamedGradients = BTreeMap<String, Gradient>;

/// The gradient of one weight.
#[derive(Debug, Clone)]
pub(crate) enum Gradient {
    /// Of all its numbers, flattened.
    Whole(Tensor<1>),
    /// Of some rows of a table; that of all others is zero.
    Rows {
        /// Their numbers, ascending.
        numbers: Vec<u32>,
        /// `[numbers, width]`
        values: Tensor<2>,
        /// Rows of the table.
        rows: usize,
    },
}

impl Gradient {
    /// The gradient of all numbers, flattened.
    pub(crate) fn whole(&self) -> Tensor<1> {
        match self {
            Gradient::Whole(gradient) => gradient.clone(),
            Gradient::Rows { numbers, values, rows } => {
                let [_, width] = values.dims();
                let table = Tensor::zeros([*rows, width], &values.device());
                add_rows(table, numbers.iter().map(|&number| i64::from(number)), values.clone()).flatten(0, 1)
            }
        }
    }

    /// The sum of all squares, in f64 on the CPU.
    pub(crate) fn square_sum(&self) -> f64 {
        let of = |values: Tensor<1>| match Host::of(&values) {
            Some(host) => care_kernels::square_sum(host.values(), rayon::current_num_threads()),
            None => f64::from(values.square().sum().into_scalar::<f32>()),
        };
        match self {
            Gradient::Whole(gradient) => of(gradient.clone()),
            Gradient::Rows { values, .. } => of(values.clone().flatten(0, 1)),
        }
    }

    /// Gives the memory back to the step.
    pub(crate) fn recycle(self) {
        let host = match &self {
            Gradient::Whole(gradient) => Host::of(gradient),
            Gradient::Rows { values, .. } => Host::of(values),
        };
        drop(self);
        host.into_iter().for_each(Host::recycle);
    }

    /// The sum of two gradients of one weight.
    fn add(self, other: Self) -> Self {
        match (self, other) {
            (
                Gradient::Rows { numbers, values, rows },
                Gradient::Rows { numbers: other_numbers, values: other_values, .. },
            ) => {
                let mut all = [numbers.as_slice(), other_numbers.as_slice()].concat();
                all.sort_unstable();
                all.dedup();
                let [_, width] = values.dims();
                let places = |numbers: &[u32]| -> Vec<i64> {
                    numbers.iter().map(|number| all.partition_point(|known| known < number) as i64).collect()
                };
                let (first, second) = (places(&numbers), places(&other_numbers));
                let sum = Tensor::zeros([all.len(), width], &values.device());
                let sum = add_rows(sum, first.into_iter(), values);
                let sum = add_rows(sum, second.into_iter(), other_values);
                Gradient::Rows { numbers: all, values: sum, rows }
            }
            (Gradient::Whole(sum), Gradient::Whole(added)) => Gradient::Whole(add(sum, added)),
            (sum, added) => Gradient::Whole(add(sum.whole(), added.whole())),
        }
    }
}

/// Adds to the rows with these numbers.
fn add_rows(table: Tensor<2>, numbers: impl Iterator<Item = i64>, values: Tensor<2>) -> Tensor<2> {
    let numbers: Vec<i64> = numbers.collect();
    let numbers = Tensor::<1, Int>::from_data(TensorData::new(numbers.clone(), [numbers.len()]), &table.device());
    table.select_assign(0, numbers, values, IndexingUpdateOp::Add)
}

/// The sum of two tensors, on the CPU in place of the first.
fn add(sum: Tensor<1>, added: Tensor<1>) -> Tensor<1> {
    match (Host::of(&sum), Host::of(&added)) {
        (Some(mut host), Some(other)) => {
            drop((sum, added));
            care_kernels::add_assign(host.values_mut(), other.values(), rayon::current_num_threads());
            other.recycle();
            host.into_tensor()
        }
        _ => sum + added,
    }
}

/// Adds gradients to existing ones.
pub(crate) fn add_gradients(gradients: NamedGradients, into: &mut NamedGradients) {
    for (name, gradient) in gradients {
        let sum = match into.remove(&name) {
            Some(sum) => sum.add(gradient),
            None => gradient,
        };
        into.insert(name, sum);
    }
}

/// The rows of its token table with which a network computed, of a table of `rows` rows.
pub(crate) struct TableRows<'a> {
    pub(crate) table: ParamId,
    pub(crate) numbers: &'a [u32],
    pub(crate) rows: usize,
}

/// Takes the gradients of a module's weights out of a backward pass.
pub(crate) fn collect_gradients<M: Module>(
    module: &M,
    scope: &str,
    gradients: &mut Gradients,
    token_rows: Option<&TableRows<'_>>,
    into: &mut NamedGradients,
) {
    struct Collector<'a> {
        gradients: &'a mut Gradients,
        scope: &'a str,
        token_rows: Option<&'a TableRows<'a>>,
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
                let gradient = match self.token_rows.filter(|cut| cut.table == param.id) {
                    Some(&TableRows { numbers, rows, .. }) => {
                        let width = gradient.dims()[D - 1];
                        let values = gradient.reshape([numbers.len(), width]);
                        Gradient::Rows { numbers: numbers.to_vec(), values, rows }
                    }
                    None => Gradient::Whole(gradient.flatten::<1>(0, D - 1)),
                };
                self.into.insert(name, gradient);
            }
        }
    }
    module.visit(&mut Collector { gradients, scope, token_rows, path: ParameterPath::default(), into });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: &[u32], values: &[[f32; 2]]) -> Gradient {
        let device = care_encoders::Device::Cpu.open().expect("cpu");
        let values = TensorData::new(values.concat(), [numbers.len(), 2]);
        Gradient::Rows { numbers: numbers.to_vec(), values: Tensor::from_data(values, &device), rows: 5 }
    }

    #[test]
    fn rows_of_a_table_add_up_to_what_the_whole_tables_do() {
        let (first, second) = (rows(&[0, 3], &[[1.0, 2.0], [3.0, 4.0]]), rows(&[3, 4], &[[10.0, 20.0], [5.0, 6.0]]));
        let values = |gradient: &Gradient| gradient.whole().into_data().try_to_vec::<f32>().expect("f32");
        let expected = [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 13.0, 24.0, 5.0, 6.0];
        let sum = first.clone().add(second.clone());
        assert!(matches!(&sum, Gradient::Rows { numbers, .. } if *numbers == [0, 3, 4]));
        assert_eq!(values(&sum), expected);
        assert_eq!(values(&first.clone().add(Gradient::Whole(second.whole()))), expected);
        assert_eq!(values(&Gradient::Whole(first.whole()).add(second)), expected);
        assert!((first.square_sum() - 30.0).abs() < 1e-9);
    }
}
