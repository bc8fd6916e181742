//! Jobs on stores in memory and on disk: every row has exactly one vector, whatever happens to workers and stores.

#![allow(clippy::unwrap_used, missing_docs)]

mod corpus;
mod embedders;
mod estimates;
mod faults;
mod faulty;
mod inputs;
mod takeovers;
mod verification;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use care_core::{Embedder, Result};
use care_shard::object_store::ObjectStore;
use care_shard::object_store::memory::InMemory;
use care_shard::{Dtype, Job, Plan, PlanOptions, Stores, Worker, WorkerOptions, WorkerState};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;

/// The place of the job in every test.
const JOB: &str = "mem://job/place";

/// Stores in which `mem:` is one store.
fn stores(store: Arc<dyn ObjectStore>) -> Stores {
    let stores = Stores::new().unwrap();
    stores.register("mem://job/", store).unwrap();
    stores
}

fn in_memory() -> Stores {
    stores(Arc::new(InMemory::new()))
}

fn options() -> PlanOptions {
    PlanOptions::default().with_shard_bytes(Some(2000)).with_dtype(Dtype::F32)
}

/// Plans a job over a corpus of two files.
fn plan(stores: &Stores, corpus: &Path, embedder: &dyn Embedder, options: &PlanOptions) -> Job {
    let places = [corpus.to_str().unwrap().to_owned()];
    Plan::new(stores, &places, embedder, options).unwrap().create(&stores.open(JOB).unwrap()).unwrap();
    Job::open(stores, JOB).unwrap()
}

/// Runs a worker to the end.
fn work(job: &Job, embedder: &dyn Embedder) -> Result<WorkerState> {
    Worker::new(job, embedder, WorkerOptions::default())?.run(&mut |_| ControlFlow::Continue(()))
}

/// The ids and vectors of a merged file.
fn merged(job: &Job) -> Vec<(String, Vec<f32>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.parquet");
    job.merge(&path, &mut |_| ()).unwrap();
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let list = row.get_list(1).unwrap();
        let vector = (0..list.len()).map(|at| parquet::record::ListAccessor::get_float(list, at).unwrap()).collect();
        (row.get_string(0).unwrap().clone(), vector)
    });
    rows.collect()
}
