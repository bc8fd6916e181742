//! pgvector passes the conformance test. Needs a server:
//!
//! ```sh
//! CARE_TEST_POSTGRES="host=127.0.0.1 user=postgres dbname=postgres" cargo test -p care-stores --features pgvector
//! ```

mod conformance;

use std::time::{Duration, Instant};

use care_core::Embeddings;
use care_core::index::{DocumentTower, Record, VectorFormat};
use care_stores::pgvector::{PgVector, PgVectorOptions, connect, postgres};
use care_stores::{StoreSearch, VectorStore};
use conformance::{Limits, conform};

/// A connection and a schema of this test's own, or `None` with the reason printed.
fn server(test: &str) -> Option<(String, postgres::Client)> {
    let Ok(config) = std::env::var("CARE_TEST_POSTGRES") else {
        eprintln!("skipped: CARE_TEST_POSTGRES names no server (docs/stores.md says how to start one)");
        return None;
    };
    let mut client = connect(&config).expect("a server");
    let schema = format!("care_test_{test}");
    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")).expect("a schema");
    Some((config, client))
}

#[test]
fn tables_conform() {
    let Some((config, mut client)) = server("exact") else { return };
    let limits = Limits { no_nul: true, ..Limits::default() };
    conform("care_test_exact.t", limits, &|name, tower, dim, format| {
        let options = PgVectorOptions::new(name).with_vectors(format);
        Ok(Box::new(PgVector::open_or_create(connect(&config)?, &options, tower, dim)?))
    });
    client.batch_execute("DROP SCHEMA care_test_exact CASCADE").expect("dropped");
}

#[test]
fn tables_with_an_approximate_index_conform() {
    let Some((config, mut client)) = server("hnsw") else { return };
    let limits = Limits { no_nul: true, ..Limits::default() };
    conform("care_test_hnsw.t", limits, &|name, tower, dim, format| {
        let options = PgVectorOptions::new(name).with_vectors(format).with_hnsw(true);
        Ok(Box::new(PgVector::open_or_create(connect(&config)?, &options, tower, dim)?))
    });
    client.batch_execute("DROP SCHEMA care_test_hnsw CASCADE").expect("dropped");
}

/// The plans of the two kinds of search: the exact one reads every row, the approximate one the index.
#[test]
fn only_approximate_searches_use_the_index() {
    let Some((config, mut client)) = server("plan") else { return };
    let tower = DocumentTower::new("t");
    let options = PgVectorOptions::new("care_test_plan.t").with_hnsw(true);
    let mut store =
        PgVector::open_or_create(connect(&config).expect("a server"), &options, &tower, 3).expect("created");
    // Of fewer rows, the planner scans the table in an approximate search, too.
    let rows: Vec<[f32; 3]> = (0..20_000).map(|row| [1.0, (row as f32).sin(), (row as f32).cos()]).collect();
    let records: Vec<Record> = (0..20_000).map(|row| Record::new(row.to_string())).collect();
    store.put(&records, &Embeddings::from_rows(3, rows).expect("of one size")).expect("written");
    store.finish().expect("indexed");
    let query = Embeddings::from_rows(3, [[1.0, 0.0, 0.0]]).expect("of one size");
    for approximate in [false, true, true, true, false] {
        store.search(&query, &StoreSearch::new(5).with_approximate(approximate)).expect("searched");
    }
    // A connection reports its counts when it ends.
    drop(store);
    let count = "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_indexes \
                 WHERE schemaname = 'care_test_plan' AND indexrelname = 't_embedding'";
    let mut scans = || client.query_one(count, &[]).expect("counted").get::<_, i64>(0);
    let end = Instant::now() + Duration::from_secs(10);
    while scans() < 3 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(scans(), 3);
    client.batch_execute("DROP SCHEMA care_test_plan CASCADE").expect("dropped");
}

#[test]
fn foreign_tables_and_names_are_refused() {
    let Some((config, mut client)) = server("foreign") else { return };
    let tower = DocumentTower::new("t");
    let open = |options: &PgVectorOptions, dim| {
        PgVector::open_or_create(connect(&config).expect("a server"), options, &tower, dim).err().expect("refused")
    };
    client
        .batch_execute(
            "CREATE EXTENSION IF NOT EXISTS vector; CREATE TABLE care_test_foreign.a (id text); \
             CREATE TABLE care_test_foreign.b (embedding vector); \
             COMMENT ON TABLE care_test_foreign.b IS '{\"care_tower\": {\"fingerprint\": \"t\"}}'",
        )
        .expect("created");
    let table = |name: &str| PgVectorOptions::new(format!("care_test_foreign.{name}"));
    assert!(open(&table("a"), 3).to_string().contains("was not made by CARE"));
    assert!(open(&table("b"), 3).to_string().contains("has no column `embedding`"));
    assert!(open(&table("c; DROP TABLE a"), 3).to_string().starts_with("`table` is "));
    assert!(open(&table("d").with_hnsw(true), 2001).to_string().contains("at most 2000"));
    let half = table("e").with_hnsw(true).with_vectors(VectorFormat::F16);
    PgVector::open_or_create(connect(&config).expect("a server"), &half, &tower, 4000).expect("16 bits are indexed");
    let none = PgVector::open(connect(&config).expect("a server"), "care_test_foreign.no").err().expect("none");
    assert_eq!(none.to_string(), "there is no table care_test_foreign.no");
    let wrong = connect("host=127.0.0.1 port=1 user=nobody").err().expect("no server").to_string();
    assert!(wrong.starts_with("PostgreSQL: cannot connect: "), "{wrong}");
    client.batch_execute("DROP SCHEMA care_test_foreign CASCADE").expect("dropped");
}
