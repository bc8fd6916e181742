//! The adapter of Qdrant passes the conformance test: against a stub with the answers of Qdrant's OpenAPI description, and
//! against a server if there is one:
//!
//! ```sh
//! CARE_TEST_QDRANT=http://127.0.0.1:6333 cargo test -p care-stores --features qdrant
//! ```

mod conformance;
mod stub;

use care_core::index::{DocumentTower, Record, VectorFormat};
use care_core::{ErrorKind, Result};
use care_stores::qdrant::{Qdrant, QdrantOptions};
use care_stores::{StoreSearch, VectorStore};
use conformance::data::{DIM, tower, vectors};
use conformance::{Limits, conform};
use serde_json::json;
use stub::Stub;

const LIMITS: Limits = Limits { no_string_ranges: true, no_nul: false, no_quoted_fields: true, no_digests: false };

fn conform_at(url: &str) {
    // A name of its own for every run, since a server keeps its collections.
    let prefix = format!("care_test_{}", std::process::id());
    conform(&prefix, LIMITS, &|name, tower, dim, format| {
        let options = QdrantOptions::new(url, name).with_vectors(format);
        Ok(Box::new(Qdrant::open_or_create(&options, tower, dim)?))
    });
}

#[test]
fn collections_of_the_stub_conform() {
    conform_at(&Stub::start().url);
}

#[test]
fn collections_of_a_server_conform() {
    match std::env::var("CARE_TEST_QDRANT") {
        Ok(url) => conform_at(&url),
        Err(_) => eprintln!("skipped: CARE_TEST_QDRANT names no server (docs/stores.md says how to start one)"),
    }
}

fn opened(stub: &Stub, name: &str) -> Result<Qdrant> {
    Qdrant::open_or_create(&QdrantOptions::new(&stub.url, name), &tower(), DIM)
}

#[test]
fn a_key_is_sent_and_in_no_message() {
    let stub = Stub::start();
    stub.require_key("secret-key");
    let error = opened(&stub, "docs").expect_err("no key");
    assert!(error.to_string().contains("401 Unauthorized: Must provide an API key"), "{error}");
    let options = |key: &str| QdrantOptions::new(&stub.url, "docs").with_api_key(key);
    let mut store = Qdrant::open_or_create(&options("secret-key"), &tower(), DIM).expect("created");
    assert_eq!(store.count().expect("counted"), 0);
    assert!(!format!("{store:?}").contains("secret"));
    let error = Qdrant::open(&options("bad\nsecret")).expect_err("no header");
    assert!(error.to_string().ends_with("the key is no text of a header"), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
}

#[test]
fn collections_of_others_are_refused() {
    let stub = Stub::start();
    let ours = json!({ "care_tower": tower() });
    for (name, vectors, metadata, problem) in [
        ("foreign", json!({ "size": DIM, "distance": "Dot" }), json!({}), "was not made by CARE"),
        ("none", json!({ "size": DIM, "distance": "Dot" }), json!(null), "was not made by CARE"),
        ("form", json!({ "size": DIM, "distance": "Dot" }), json!({ "care_tower": 3 }), "of another form"),
        ("cosine", json!({ "size": DIM, "distance": "Cosine" }), ours.clone(), "has the distance Cosine, not Dot"),
        ("bytes", json!({ "size": DIM, "distance": "Dot", "datatype": "uint8" }), ours.clone(), "has vectors in uint8"),
        ("named", json!({ "text": { "size": DIM, "distance": "Dot" } }), ours, "has no single vector per point"),
    ] {
        stub.create(name, vectors, metadata);
        let error = opened(&stub, name).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(problem), "{error}");
    }
    let none = Qdrant::open(&QdrantOptions::new(&stub.url, "no")).expect_err("none").to_string();
    assert!(none.starts_with("the collection no at http://127.0.0.1:") && none.ends_with(" does not exist"), "{none}");
    for (url, collection, field) in [
        ("ftp://localhost", "a", "`url` is \"ftp://localhost\""),
        ("localhost:6333", "a", "`url` is "),
        ("http://localhost", "a/points", "`collection` is \"a/points\""),
        ("http://localhost", "", "`collection` is "),
        ("http://localhost", "..", "`collection` is "),
    ] {
        let error = Qdrant::open(&QdrantOptions::new(url, collection)).expect_err(field).to_string();
        assert!(error.starts_with(field), "{error}");
    }
}

/// An update that was taken and not applied, errors with and without Qdrant's form, and answers that are none.
#[test]
fn answers_that_confirm_nothing_are_errors() {
    let stub = Stub::start();
    let mut store = opened(&stub, "docs").expect("created");
    let mut put = |status: u16, body: &str| {
        stub.script(&[(status, body)]);
        store.put(&[Record::new("a")], &vectors(1, 1)).expect_err(body)
    };
    for (status, body, kind, problem) in [
        (200, r#"{"result": {"operation_id": 1, "status": "acknowledged"}}"#, ErrorKind::Busy, "not yet applied"),
        (200, r#"{"result": {"operation_id": 1, "status": "wait_timeout"}}"#, ErrorKind::Busy, "not yet applied"),
        (
            400,
            r#"{"status": {"error": "Wrong input: x"}, "time": 0}"#,
            ErrorKind::Io,
            "400 Bad Request: Wrong input: x",
        ),
        (429, "slow down", ErrorKind::Busy, "429 Too Many Requests: slow down"),
        (503, "", ErrorKind::Busy, "503 Service Unavailable"),
        (307, "", ErrorKind::Io, "307 Temporary Redirect"),
        (200, "<html>", ErrorKind::Format, "an answer of another form"),
        (200, r#"{"result": true}"#, ErrorKind::Format, "an answer of another form"),
    ] {
        let error = put(status, body);
        assert!(error.to_string().starts_with("the collection docs at http://127.0.0.1:"), "{error}");
        assert!(error.kind() == kind && error.to_string().contains(problem), "{error}");
    }
    stub.script(&[(200, r#"{"result": []}"#)]);
    let error = store.search(&vectors(2, 1), &StoreSearch::new(1)).expect_err("no answers").to_string();
    assert!(error.ends_with("2 queries have 0 answers"), "{error}");
    stub.script(&[(200, r#"{"result": [{"points": [{"id": 1, "score": 0.5, "payload": {"page": 3}}]}]}"#)]);
    let error = store.search(&vectors(1, 1), &StoreSearch::new(1)).expect_err("no row of ours").to_string();
    assert!(error.ends_with("a point has another payload"), "{error}");
    stub.script(&[(404, "")]);
    assert!(store.finish().expect_err("gone").to_string().ends_with("it is gone"));
    let nobody = Qdrant::open(&QdrantOptions::new("http://127.0.0.1:1", "docs")).expect_err("no server");
    assert_eq!(nobody.kind(), ErrorKind::Io);
}

/// Searches send many queries in one request, and none that finds nothing by its `k`.
#[test]
fn queries_share_requests() {
    let stub = Stub::start();
    let mut store = Qdrant::open_or_create(
        &QdrantOptions::new(format!("{}/", stub.url), "docs").with_vectors(VectorFormat::F16),
        &DocumentTower::new("t"),
        DIM,
    )
    .expect("created");
    let before = stub.requests().len();
    assert_eq!(store.search(&vectors(130, 1), &StoreSearch::new(4)).expect("searched").len(), 130);
    assert_eq!(store.search(&vectors(130, 1), &StoreSearch::new(0)).expect("searched").len(), 130);
    assert_eq!(stub.requests()[before..], ["POST /collections/docs/points/query/batch"; 3]);
}
