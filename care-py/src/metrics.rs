//! Metrics, intervals and tests over runs and qrels as `{query_id: {doc_id: value}}`.

use care_eval::stats::{self, MOST_SAMPLES};
use care_eval::{Evaluator, Measure, Missing, Qrels, Run, Scores, Ties};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyString};

use crate::error::raise_metric;

/// Means over queries, the values of each query, and the conventions behind them.
#[pyclass(frozen, module = "care_retrieval")]
pub(crate) struct Evaluation {
    evaluation: care_eval::Evaluation,
}

#[pymethods]
impl Evaluation {
    /// The mean of each measure.
    #[getter]
    fn measures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        scores(py, &self.evaluation.measures)
    }

    /// The values of each query, by query id.
    #[getter]
    fn per_query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let queries = PyDict::new(py);
        for (query_id, of_query) in &self.evaluation.per_query {
            queries.set_item(query_id, scores(py, of_query)?)?;
        }
        Ok(queries)
    }

    /// One measure's value for each query, for tests and intervals.
    fn values<'py>(&self, py: Python<'py>, measure: &str) -> PyResult<Bound<'py, PyDict>> {
        let measure: Measure = measure.parse().map_err(raise_metric)?;
        let values = PyDict::new(py);
        for (query_id, of_query) in &self.evaluation.per_query {
            let value = of_query.get(measure).ok_or_else(|| PyKeyError::new_err(measure.to_string()))?;
            values.set_item(query_id, value)?;
        }
        Ok(values)
    }

    /// Number of queries that the means are over.
    #[getter]
    fn queries(&self) -> usize {
        self.evaluation.queries
    }

    /// Number of judged queries that are not in the run.
    #[getter]
    fn missing_queries(&self) -> usize {
        self.evaluation.missing_queries
    }

    /// Number of queries of the run without judgements, which are ignored.
    #[getter]
    fn surplus_queries(&self) -> usize {
        self.evaluation.surplus_queries
    }

    /// Remarks on measures that the rankings may be too short for.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.evaluation.warnings()
    }

    fn __getitem__(&self, measure: &str) -> PyResult<f64> {
        let measure: Measure = measure.parse().map_err(raise_metric)?;
        self.evaluation.measures.get(measure).ok_or_else(|| PyKeyError::new_err(measure.to_string()))
    }

    fn __repr__(&self) -> String {
        let means: Vec<_> =
            self.evaluation.measures.iter().map(|(measure, value)| format!("{measure}={value:.4}")).collect();
        format!("Evaluation({}, queries={})", means.join(", "), self.evaluation.queries)
    }
}

/// The result of a paired test.
#[pyclass(frozen, get_all, module = "care_retrieval")]
pub(crate) struct PairedTest {
    /// The mean difference, second minus first.
    difference: f64,
    /// The probability of a difference at least this large, in either direction, if the systems do not differ.
    p_value: f64,
}

#[pymethods]
impl PairedTest {
    fn __repr__(&self) -> String {
        format!("PairedTest(difference={}, p_value={})", self.difference, self.p_value)
    }
}

/// Scores a run against qrels, by trec_eval's rules.
#[pyfunction]
#[pyo3(signature = (qrels, run, measures, *, ties="trec_eval", missing="drop"))]
pub(crate) fn evaluate(
    py: Python<'_>,
    qrels: &Bound<'_, PyAny>,
    run: &Bound<'_, PyAny>,
    measures: Vec<String>,
    ties: &str,
    missing: &str,
) -> PyResult<Evaluation> {
    let measures: Vec<Measure> =
        measures.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(raise_metric)?;
    let ties: Ties = ties.parse().map_err(raise_metric)?;
    let missing: Missing = missing.parse().map_err(raise_metric)?;
    let (qrels, run) = (to_qrels(qrels)?, to_run("run", run)?);
    let evaluator = Evaluator::new(measures).ties(ties).missing(missing);
    let evaluation = py.detach(|| evaluator.evaluate(&qrels, &run)).map_err(raise_metric)?;
    Ok(Evaluation { evaluation })
}

/// Reciprocal rank fusion of several runs.
#[pyfunction]
#[pyo3(signature = (runs, *, k=60.0, ties="trec_eval"))]
pub(crate) fn reciprocal_rank_fusion<'py>(
    py: Python<'py>,
    runs: Vec<Bound<'py, PyAny>>,
    k: f64,
    ties: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let ties: Ties = ties.parse().map_err(raise_metric)?;
    let runs =
        runs.iter().enumerate().map(|(at, run)| to_run(&format!("runs[{at}]"), run)).collect::<PyResult<Vec<_>>>()?;
    let runs: Vec<&Run> = runs.iter().collect();
    let fused = py.detach(|| care_eval::reciprocal_rank_fusion(&runs, k, ties)).map_err(raise_metric)?;
    let queries = PyDict::new(py);
    for query_id in fused.query_ids() {
        let documents = PyDict::new(py);
        for (doc_id, score) in fused.get(query_id).into_iter().flatten() {
            documents.set_item(doc_id, score)?;
        }
        queries.set_item(query_id, documents)?;
    }
    Ok(queries)
}

/// A paired test, two-sided, of the values of two systems on the same queries: two mappings by query id, or two sequences.
#[pyfunction]
#[pyo3(signature = (first, second, *, method="t", samples=100_000, seed=42))]
pub(crate) fn paired_test(
    py: Python<'_>,
    first: &Bound<'_, PyAny>,
    second: &Bound<'_, PyAny>,
    method: &str,
    samples: usize,
    seed: u64,
) -> PyResult<PairedTest> {
    let (first, second) = paired(first, second)?;
    check_samples("samples", samples)?;
    let test = match method {
        "t" => stats::paired_t_test(&first, &second),
        "randomisation" => py.detach(|| stats::paired_randomisation_test(&first, &second, samples, seed)),
        _ => {
            return Err(PyValueError::new_err(format!("`method` is {method:?}, allowed: t, randomisation")));
        }
    }
    .map_err(raise_metric)?;
    Ok(PairedTest { difference: test.difference, p_value: test.p_value })
}

/// The percentile bootstrap interval of a mean, as (low, high): of a mapping by query id, or of a sequence.
#[pyfunction]
#[pyo3(signature = (values, *, level=0.95, samples=10_000, seed=42))]
pub(crate) fn bootstrap_interval(
    py: Python<'_>,
    values: &Bound<'_, PyAny>,
    level: f64,
    samples: usize,
    seed: u64,
) -> PyResult<(f64, f64)> {
    check_samples("samples", samples)?;
    if !(0.0..=1.0).contains(&level) {
        return Err(PyValueError::new_err(format!("`level` is {level}, allowed: 0..=1")));
    }
    let values = match values.cast::<PyMapping>() {
        Ok(mapping) => numbers(mapping.values()?.as_any())?,
        Err(_) => numbers(values)?,
    };
    let interval = py.detach(|| stats::bootstrap_interval(&values, level, samples, seed));
    let interval = interval.ok_or_else(|| PyValueError::new_err("an interval needs at least 1 value, found none"))?;
    Ok((interval.low, interval.high))
}

/// Holm's correction of p-values for their number, in the given order.
#[pyfunction]
pub(crate) fn holm(p_values: Vec<f64>) -> PyResult<Vec<f64>> {
    stats::holm(&p_values).map_err(raise_metric)
}

fn scores<'py>(py: Python<'py>, scores: &Scores) -> PyResult<Bound<'py, PyDict>> {
    let values = PyDict::new(py);
    for (measure, value) in scores.iter() {
        values.set_item(measure.to_string(), value)?;
    }
    Ok(values)
}

fn check_samples(field: &str, samples: usize) -> PyResult<()> {
    match (1..=MOST_SAMPLES).contains(&samples) {
        true => Ok(()),
        false => Err(PyValueError::new_err(format!("`{field}` is {samples}, allowed: 1..={MOST_SAMPLES}"))),
    }
}

fn to_qrels(table: &Bound<'_, PyAny>) -> PyResult<Qrels> {
    let mut qrels = Qrels::new();
    for_each_value("qrels", table, &mut |_| Ok(()), &mut |query_id, doc_id, grade: i32| {
        qrels.insert(query_id, doc_id, grade).map_err(raise_metric)
    })?;
    Ok(qrels)
}

fn to_run(name: &str, table: &Bound<'_, PyAny>) -> PyResult<Run> {
    let run = std::cell::RefCell::new(Run::new());
    let mut start = |query_id: &str| {
        // A query without documents was answered with nothing.
        run.borrow_mut().insert_query(query_id);
        Ok(())
    };
    for_each_value(name, table, &mut start, &mut |query_id, doc_id, score: f64| {
        run.borrow_mut().insert(query_id, doc_id, score as f32).map_err(raise_metric)
    })?;
    Ok(run.into_inner())
}

/// Calls `start` with each query id of a mapping of mappings, then `add` with each of its values.
fn for_each_value<T: for<'a, 'py> FromPyObject<'a, 'py>>(
    name: &str,
    table: &Bound<'_, PyAny>,
    start: &mut dyn FnMut(&str) -> PyResult<()>,
    add: &mut dyn FnMut(&str, &str, T) -> PyResult<()>,
) -> PyResult<()> {
    for entry in items(table, name)? {
        let (query_id, documents): (Bound<'_, PyString>, Bound<'_, PyAny>) = entry.extract()?;
        let query_id = query_id.to_str()?;
        start(query_id)?;
        for entry in items(&documents, &format!("{name}[{query_id:?}]"))? {
            let (doc_id, value): (Bound<'_, PyString>, Bound<'_, PyAny>) = entry.extract()?;
            let doc_id = doc_id.to_str()?;
            let value = value.extract::<T>().map_err(|e| {
                let e: PyErr = e.into();
                PyTypeError::new_err(format!("{name}[{query_id:?}][{doc_id:?}]: {e}"))
            })?;
            add(query_id, doc_id, value)?;
        }
    }
    Ok(())
}

/// The items of a mapping; `place` is where it is, for the message.
fn items<'py>(value: &Bound<'py, PyAny>, place: &str) -> PyResult<Bound<'py, PyList>> {
    match value.cast::<PyMapping>() {
        Ok(mapping) => mapping.items(),
        Err(_) => {
            let found = value.get_type().name()?;
            Err(PyTypeError::new_err(format!("{place} is {found}, allowed: a mapping {{query_id: {{doc_id: value}}}}")))
        }
    }
}

/// The values of two systems in one order: by query id of two mappings, else as they come.
fn paired(first: &Bound<'_, PyAny>, second: &Bound<'_, PyAny>) -> PyResult<(Vec<f64>, Vec<f64>)> {
    let (Ok(left), Ok(right)) = (first.cast::<PyMapping>(), second.cast::<PyMapping>()) else {
        return Ok((numbers(first)?, numbers(second)?));
    };
    for (one, other, name) in [(left, right, "second"), (right, left, "first")] {
        for query_id in one.keys()? {
            if !other.contains(&query_id)? {
                return Err(PyValueError::new_err(format!("the {name} system has no value for {}", query_id.repr()?)));
            }
        }
    }
    let keys = left.keys()?;
    let values = |of: &Bound<'_, PyMapping>| keys.iter().map(|key| of.get_item(key)?.extract()).collect();
    let first: PyResult<Vec<f64>> = values(left);
    let second: PyResult<Vec<f64>> = values(right);
    Ok((first?, second?))
}

fn numbers(values: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    values.try_iter()?.map(|value| value?.extract()).collect()
}
