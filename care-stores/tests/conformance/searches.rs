//! Searches of a store beside those of the index.

use std::collections::BTreeSet;

use care_core::Embeddings;
use care_core::index::{Filter, Hit, SearchOptions, VectorFormat};
use care_stores::{Found, PushOptions, StoreSearch, VectorStore};

use super::data::{DIM, Fixture, tower, vectors};
use super::{Limits, Open, push_all};

/// The same scores in the same order as the index, and each the score of the row that it is given for.
fn compare(what: &str, fixture: &Fixture, queries: &Embeddings, expected: &[Vec<Hit>], found: &[Vec<Found>]) {
    let index = fixture.index();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (query, (expected, found)) in expected.iter().zip(found).enumerate() {
        let wanted: Vec<f32> = expected.iter().map(|hit| hit.score).collect();
        let got: Vec<f32> = found.iter().map(|hit| hit.score).collect();
        assert_eq!(got.len(), wanted.len(), "{what}, query {query}: {got:?} {wanted:?}");
        for (rank, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            assert!((got - wanted).abs() <= 1e-4, "{what}, query {query}, rank {rank}: {got}, expected {wanted}");
        }
        let ids: BTreeSet<&str> = found.iter().map(|hit| hit.record.id.as_str()).collect();
        assert_eq!(ids.len(), found.len(), "{what}, query {query}: an id occurs twice");
        for hit in found {
            let row = index.find(&hit.record.id).expect("read").expect("a row of the index");
            let own = index.vectors(&[row]).expect("read").dot(0, queries, query);
            assert!((hit.score - own).abs() <= 1e-4, "{what}: {} has {own}, not {}", hit.record.id, hit.score);
            assert_eq!(index.record(row).expect("read").text, hit.record.text, "{what}");
        }
    }
}

/// Vectors of different lengths, many ties, more results asked for than there are rows, and a query that is zero.
pub(crate) fn scores_are_those_of_the_index(name: &str, rows: usize, format: VectorFormat, open: &Open<'_>) {
    let fixture = Fixture::new(rows, true);
    let mut store = open(name, &tower(), DIM, format).expect("created");
    push_all(&fixture, &mut *store, &PushOptions::default());
    let mut queries = vectors(70, 2);
    queries.set(3, &[0.0; DIM]);
    for k in [0, 1, 10, rows - 1, rows, rows + 50] {
        let expected = fixture.index().search(&queries, &SearchOptions::new(k)).expect("searched");
        let found = store.search(&queries, &StoreSearch::new(k)).expect("searched");
        compare(&format!("{name}, k = {k}"), &fixture, &queries, &expected, &found);
    }
    approximate_scores_are_true(name, &fixture, &mut *store);
}

/// An approximate search may miss rows, and invents none: as many as asked for, each once and with its own score.
fn approximate_scores_are_true(name: &str, fixture: &Fixture, store: &mut dyn VectorStore) {
    let queries = vectors(20, 4);
    let k = 60.min(fixture.index().len());
    let exact = fixture.index().search(&queries, &SearchOptions::new(k)).expect("searched");
    let found = store.search(&queries, &StoreSearch::new(k).with_approximate(true)).expect("searched");
    let own: Vec<Vec<Hit>> =
        found.iter().map(|hits| hits.iter().map(|hit| Hit { index: 0, score: hit.score }).collect()).collect();
    compare(&format!("{name}, approximate"), fixture, &queries, &own, &found);
    let (mut kept, mut all) = (0, 0);
    for (exact, found) in exact.iter().zip(&found) {
        assert_eq!(found.len(), k, "{name}: the approximate search returns fewer rows than there are");
        let worst = exact.last().map_or(f32::MAX, |hit| hit.score);
        kept += found.iter().filter(|hit| hit.score >= worst - 1e-4).count();
        all += k;
    }
    assert!(kept * 10 >= all * 9, "{name}: {kept} of {all} rows");
}

/// Every operator on every type of value.
pub(crate) fn filters_select_the_rows_of_the_index(name: &str, limits: Limits, format: VectorFormat, open: &Open<'_>) {
    let fixture = Fixture::new(140, false);
    let mut store = open(name, &tower(), DIM, format).expect("created");
    push_all(&fixture, &mut *store, &PushOptions::default());
    let queries = vectors(2, 5);
    for text in [
        "department=内科",
        "department!=内科",
        "year=2001",
        "year=\"2001\"",
        "year>=2010",
        r#"{"year": {"$gt": 1995, "$lte": 2000.5}}"#,
        "score=0.5",
        "score<0",
        "score=-3",
        "large=1e15",
        "open=true",
        "open!=true",
        "tags=急诊",
        "a.b=点",
        "no such field=1",
        r#"{"department": {"$in": ["儿科", "急诊", 3, true]}}"#,
        r#"{"year": {"$nin": [2001, "2001", 1990]}}"#,
        r#"{"tags": {"$exists": true}}"#,
        r#"{"year": {"$exists": false}}"#,
        r#"{"tags": {"$in": []}}"#,
        r#"{"$or": []}"#,
        r#"{"$and": []}"#,
        "{}",
        r#"{"$or": [{"department": "外科", "year": {"$lt": 2000}}, {"$not": {"score": {"$gte": -3}}}]}"#,
        r#"{"$not": {"$or": [{"open": true}, {"tags": {"$exists": true}}]}}"#,
    ] {
        same_rows(name, text, &fixture, &queries, &mut *store);
    }
    for text in ["date>=2014-06-01", r#"{"tags": {"$gt": "tag 0", "$lt": "tag 9"}}"#, "year>\"2\""] {
        if limits.no_string_ranges {
            let error = store.search(&queries, &search(text, 5)).expect_err(text).to_string();
            assert!(error.contains("ranges of strings"), "{error}");
        } else {
            same_rows(name, text, &fixture, &queries, &mut *store);
        }
    }
    let quoted = r#"{"it's \"q\"": 1}"#;
    if limits.no_quoted_fields {
        let error = store.search(&queries, &search(quoted, 5)).expect_err(quoted).to_string();
        assert!(error.contains("quotation mark"), "{error}");
    } else {
        same_rows(name, quoted, &fixture, &queries, &mut *store);
    }
}

fn search(filter: &str, k: usize) -> StoreSearch {
    StoreSearch::new(k).with_filter(filter.parse::<Filter>().expect(filter))
}

fn same_rows(name: &str, filter: &str, fixture: &Fixture, queries: &Embeddings, store: &mut dyn VectorStore) {
    let index = fixture.index();
    for k in [5, 1000] {
        let search = search(filter, k);
        let options = SearchOptions::new(k).with_filter(search.filter.clone().expect("a filter"));
        let expected = index.search(queries, &options).expect("searched");
        let found = store.search(queries, &search).expect("searched");
        compare(&format!("{name}, {filter}, k = {k}"), fixture, queries, &expected, &found);
        if k > index.len() {
            let wanted = expected[0].iter().map(|hit| index.record(hit.index).expect("read").id);
            let got = found[0].iter().map(|hit| hit.record.id.clone());
            assert_eq!(got.collect::<BTreeSet<_>>(), wanted.collect::<BTreeSet<_>>(), "{name}, {filter}");
        }
    }
}
