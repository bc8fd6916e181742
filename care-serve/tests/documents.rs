//! Documents that are added, found and removed over HTTP, in an index on disk.
#![allow(clippy::unwrap_used)]

mod client;
mod fake;

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use care_core::index::{DiskIndex, DiskIndexOptions, DocumentTower, IndexWriter};
use care_serve::{Collection, Pair, ServeOptions, Server};
use client::{Reply, get, post, send};
use fake::{DIM, FakeTower, pair, pair_with};
use serde_json::{Value, json};

fn create(folder: &Path, tower: &DocumentTower, dim: usize) {
    IndexWriter::create(folder, tower, dim, &DiskIndexOptions::default()).unwrap();
}

fn open(folder: &Path) -> Router {
    serve(pair(), folder)
}

fn serve(pair: Pair, folder: &Path) -> Router {
    let server = Server::new(ServeOptions::default()).unwrap();
    server.loader().ready(pair, Some(Collection::open(folder).unwrap())).unwrap();
    server.router()
}

async fn delete(router: &Router, path: &str, body: &Value) -> Reply {
    send(router, Request::delete(path).body(Body::from(body.to_string())).unwrap()).await
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn documents_are_added_found_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), &pair().document_tower(), DIM);
    let router = open(folder.path());
    let body = json!({ "documents": [
        { "id": "a", "text": "偏头痛发作时应避光休息", "metadata": { "department": "神经内科", "year": 2021 } },
        { "_id": 7, "title": "血压", "text": "高血压患者宜低盐饮食", "metadata": { "department": "心内科" } },
        { "id": "c", "text": "咳嗽有痰" },
    ] });
    let reply = post(&router, "/documents", &body).await;
    let expected = json!({ "added": 3, "replaced": 0, "documents": 3, "document_fingerprint": "document-tower" });
    assert_eq!((reply.status.as_u16(), reply.json()), (200, expected));
    // What is acknowledged is on disk.
    assert_eq!(DiskIndex::open(folder.path()).unwrap().len(), 3);

    let answer = post(&router, "/search", &json!({ "query": "头痛", "top_k": 2 })).await.json();
    assert_eq!((answer["mode"].as_str().unwrap(), answer["documents"].as_u64().unwrap()), ("hybrid", 3));
    let hit = &answer["hits"][0];
    assert_eq!((hit["rank"].as_u64(), hit["id"].as_str()), (Some(1), Some("a")));
    assert_eq!(hit["text"], "偏头痛发作时应避光休息");
    assert_eq!(hit["metadata"], json!({ "department": "神经内科", "year": 2021 }));
    assert!(hit["vector_score"].is_number() && hit["bm25_score"].as_f64().unwrap() > 0.0);
    assert_eq!(
        (&answer["query_fingerprint"], &answer["document_fingerprint"]),
        (&json!("query-tower"), &json!("document-tower"))
    );
    assert!(answer["milliseconds"]["total"].is_number());
    let vector = post(&router, "/search", &json!({ "query": "咳嗽有痰", "mode": "vector" })).await.json();
    assert_eq!((ids(&vector)[0], vector["hits"][0]["bm25_score"].is_null()), ("c", true));
    // BM25 reads the title, and needs no vector.
    let reply = post(&router, "/search", &json!({ "query": "血压", "mode": "bm25" })).await;
    assert_eq!((ids(&reply.json()), reply.header("x-model-role")), (vec!["7"], ""));
    for filter in [json!("department=心内科"), json!({ "department": { "$in": ["心内科"] } })] {
        let answer = post(&router, "/search", &json!({ "query": "头痛", "filter": filter })).await.json();
        assert_eq!(ids(&answer), ["7"], "{filter}");
    }

    let info = get(&router, "/documents").await.json();
    assert_eq!((info["documents"].as_u64(), info["has_texts"].as_bool()), (Some(3), Some(true)));
    assert!(info["fields"].as_array().unwrap().contains(&json!({ "name": "department", "terms": 2, "numbers": 0 })));
    assert_eq!(get(&router, "/documents/7").await.json()["metadata"]["title"], "血压");
    let again = json!({ "documents": [{ "id": "c", "text": "头痛" }] });
    assert_eq!(post(&router, "/documents", &again).await.json()["replaced"], 1);
    assert_eq!(
        ids(&post(&router, "/search", &json!({ "query": "头痛", "mode": "vector", "top_k": 1 })).await.json()),
        ["c"]
    );

    assert_eq!(delete(&router, "/documents", &json!({ "ids": ["a", "x"] })).await.json()["removed"], 1);
    assert_eq!(delete(&router, "/documents/c", &json!({})).await.json()["documents"], 1);
    assert_eq!(delete(&router, "/documents/c", &json!({})).await.status, 404);
    assert_eq!(get(&router, "/documents/c").await.json()["error"], "the index has no document \"c\"");
    drop(router);
    let router = open(folder.path());
    let metrics = get(&router, "/metrics").await.text();
    assert!(metrics.lines().any(|line| line == "care_documents 1"), "{metrics}");
    assert_eq!(ids(&post(&router, "/search", &json!({ "query": "头痛 血压" })).await.json()), ["7"]);
}

#[tokio::test]
async fn bad_searches_and_documents_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), &pair().document_tower(), DIM);
    let document = FakeTower::new("document-tower", true, |_| panic!("nothing is embedded for bad documents"));
    let router = serve(pair_with(FakeTower::new("query-tower", true, |_| {}), document), folder.path());
    let search = |field: &str, value: Value| {
        let mut body = json!({ "query": "头痛" });
        body[field] = value;
        ("/search", body)
    };
    let documents = |documents: Value| ("/documents", json!({ "documents": documents }));
    for ((path, body), status, message) in [
        (search("query", json!("  ")), 400, "`query` is empty"),
        (search("query", json!(3)), 422, "`query`: invalid type"),
        (search("query", json!("头".repeat(4097))), 413, "`query` has 4097 characters, allowed: 4096"),
        (search("top_k", json!(0)), 422, "`top_k` is 0, allowed: 1 to 1000"),
        (search("top_k", json!(1001)), 422, "`top_k` is 1001, allowed: 1 to 1000"),
        (search("k", json!(3)), 422, "`k`: unknown field `k`"),
        (search("mode", json!("words")), 422, "`mode`: unknown variant `words`"),
        // There is no document with a text yet.
        (search("mode", json!("bm25")), 422, "the index keeps no texts, which BM25 reads; allowed: vector"),
        (search("filter", json!({ "a": { "$near": 1 } })), 422, "filter: unknown operator `$near`"),
        (search("filter", json!("a ~ 3")), 422, "filter: "),
        (documents(json!([])), 400, "`documents` is empty"),
        (documents(json!([{ "id": "a" }])), 422, "`documents[0]`: missing field `text`"),
        (documents(json!([{ "id": "", "text": "b" }])), 422, "the id of a document is empty"),
        (documents(json!([{ "id": "a", "text": " " }])), 422, "the text of the document \"a\" is empty"),
        (documents(json!([{ "id": 1.5, "text": "b" }])), 422, "`documents[0].id`: allowed: a string or a whole number"),
        (documents(json!([{ "id": "a", "text": "b" }, { "id": "a", "text": "c" }])), 422, "the id \"a\" occurs twice"),
        (
            documents(json!([{ "id": "a", "text": "b", "metadata": { "x": { "y": 1 } } }])),
            422,
            "row \"a\": the field `x` must be",
        ),
        (
            documents(json!([{ "id": "a", "text": "b", "title": "t", "metadata": { "title": "u" } }])),
            422,
            "the document \"a\" has a title and a field `title`",
        ),
    ] {
        let reply = post(&router, path, &body).await;
        let answer = reply.json();
        assert!(answer["error"].as_str().unwrap().starts_with(message), "{body}: {answer}");
        assert_eq!(reply.status.as_u16(), status, "{answer}");
    }
    assert_eq!(delete(&router, "/documents", &json!({ "ids": [] })).await.status, 400);
    assert!(DiskIndex::open(folder.path()).unwrap().is_empty());
    let empty = post(&router, "/search", &json!({ "query": "头痛" })).await.json();
    assert_eq!((empty["mode"].as_str().unwrap(), ids(&empty).len()), ("vector", 0));
}

#[tokio::test]
async fn an_index_of_another_tower_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), &DocumentTower::new("another"), DIM);
    let server = Server::new(ServeOptions::default()).unwrap();
    let refused = server.loader().ready(pair(), Some(Collection::open(folder.path()).unwrap())).unwrap_err();
    let message = refused.to_string();
    assert!(message.ends_with("has vectors of the document tower another, not of document-tower"), "{message}");
    // The folder is free again, and two servers do not share it.
    let one = Collection::open(folder.path()).unwrap();
    assert!(Collection::open(folder.path()).is_err());
    drop(one);
    Collection::open(folder.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_and_changes_at_once_agree() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), &pair().document_tower(), DIM);
    let router = open(folder.path());
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let router = router.clone();
            tokio::spawn(async move {
                for at in 0..5 {
                    let body =
                        json!({ "documents": [{ "id": format!("{writer}-{at}"), "text": format!("头痛 {at}") }] });
                    assert_eq!(post(&router, "/documents", &body).await.status, 200);
                    // What is acknowledged is found.
                    let body = json!({ "query": "头痛", "top_k": 100 });
                    let found = post(&router, "/search", &body).await.json();
                    assert!(ids(&found).contains(&format!("{writer}-{at}").as_str()), "{found}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(DiskIndex::open(folder.path()).unwrap().len(), 20);
}
