//! An estimate is near what a job then is.

use std::time::Duration;

use care_shard::EstimateOptions;

use super::embedders::Hashing;
use super::{corpus, in_memory, options, plan, work};

#[test]
fn documents_and_bytes_are_near_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    corpus::write(folder.path());
    let (tower, stores) = (Hashing("tower-1"), in_memory());
    let job = plan(&stores, folder.path(), &tower, &options().with_shard_bytes(Some(30_000)));
    let tokens = |documents: &[care_core::Document]| Ok(7 * documents.len());
    let quick = EstimateOptions::default().with_time(Duration::ZERO);
    let estimate = job.plan().estimate(&stores, &tower, Some(&tokens), &quick).unwrap();
    assert!((estimate.documents / 1000.0 - 1.0).abs() < 0.15, "{estimate:?}");
    assert_eq!(estimate.tokens_per_document, Some(7.0));
    assert!(estimate.worker_hours() > 0.0 && estimate.relative_error.is_finite());
    let (one, two, many) = (estimate.hours(1), estimate.hours(2), estimate.hours(1000));
    assert!((one - estimate.worker_hours()).abs() < 1e-9 * one && two < one && many < two);
    assert!((many - one / estimate.shards as f64).abs() < 1e-9 * one);
    work(&job, &tower).unwrap();
    let bytes = job.verify(false, &mut |_| ()).unwrap().bytes as f64;
    assert!((estimate.output_bytes / bytes - 1.0).abs() < 0.15, "{estimate:?} {bytes}");
}
