//! The Python module `care_retrieval._native`: towers, rerankers and metrics for Python programs.

mod error;
mod locate;
mod metrics;
mod pair;
mod reranker;
mod texts;
mod work;

use pyo3::pymodule;

/// The same allocator as in the program `care`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `care_retrieval` exports; its types are in `_native.pyi`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::error::CareError;
    #[pymodule_export]
    use crate::metrics::{
        Evaluation, PairedTest, bootstrap_interval, evaluate, holm, paired_test, reciprocal_rank_fusion,
    };
    #[pymodule_export]
    use crate::pair::Pair;
    #[pymodule_export]
    use crate::reranker::Reranker;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::error::leave_guarded_panics_to_their_errors();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
