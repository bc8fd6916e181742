//! Approximate search by graphs beside exact search: what holds, and what the graphs survive.

#![cfg(feature = "approximate")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use care_core::index::{
    Codes, DiskIndex, DiskIndexOptions, DocumentTower, Filter, GraphOptions, Hit, IndexWriter, LossSample, Record,
    SearchOptions, VectorFormat,
};
use care_core::{Embeddings, ErrorKind};
use serde_json::json;

const DIM: usize = 24;
const ROWS: usize = 600;

fn tower() -> DocumentTower {
    DocumentTower::new("tower")
}

/// Random vectors of length 1.
fn vectors(rows: usize, mut state: u64) -> Embeddings {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut vectors = Embeddings::zeros(rows, DIM);
    for row in 0..rows {
        let values: Vec<f32> = (0..DIM).map(|_| next()).collect();
        let length = values.iter().map(|x| x * x).sum::<f32>().sqrt();
        vectors.set(row, &values.iter().map(|x| x / length).collect::<Vec<_>>());
    }
    vectors
}

fn records(rows: std::ops::Range<usize>) -> Vec<Record> {
    rows.map(|row| Record::new(format!("d{row}")).with_field("row", row).with_field("half", row % 2 == 0)).collect()
}

fn filled(folder: &Path, format: VectorFormat) -> IndexWriter {
    let options = DiskIndexOptions::default().with_vectors(format).with_codes([Codes::Int8]);
    let mut writer = IndexWriter::create(folder, &tower(), DIM, &options).unwrap();
    writer.add(&tower(), &records(0..ROWS), &vectors(ROWS, 1)).unwrap();
    writer
}

fn exact(index: &DiskIndex, queries: &Embeddings, filter: Option<Filter>) -> Vec<Vec<Hit>> {
    let mut options = SearchOptions::new(10);
    options.filter = filter;
    index.search(queries, &options).unwrap()
}

fn by_graph(index: &DiskIndex, queries: &Embeddings, filter: Option<Filter>) -> Vec<Vec<Hit>> {
    let mut options = SearchOptions::new(10).with_approximate();
    options.filter = filter;
    index.search(queries, &options).unwrap()
}

fn recall(found: &[Vec<Hit>], exact: &[Vec<Hit>]) -> f64 {
    let all: usize = exact.iter().map(Vec::len).sum();
    let kept = found.iter().zip(exact).map(|(found, exact)| exact.iter().filter(|hit| found.contains(hit)).count());
    kept.sum::<usize>() as f64 / all as f64
}

#[test]
fn scores_are_exact_hits_are_ordered_and_the_stored_loss_is_the_one_that_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let queries = vectors(40, 2);
    let formats = [
        VectorFormat::F32,
        #[cfg(feature = "f16")]
        VectorFormat::F16,
    ];
    for format in formats {
        let place = folder.path().join(format.as_str());
        let mut writer = filled(&place, format);
        let options = GraphOptions::default().with_expansion(40);
        let built = writer.build_graphs(&options, LossSample::Queries, &queries).unwrap();
        let index = DiskIndex::open(&place).unwrap();
        assert_eq!((index.approximation(), index.graph_rows()), (Some(&built), ROWS));
        let (exact, found) = (exact(&index, &queries, None), by_graph(&index, &queries, None));
        let loss = built.loss.unwrap();
        assert_eq!((loss.queries, loss.k, loss.expansion, loss.sample), (40, 10, 40, LossSample::Queries));
        assert!((loss.mean - (1.0 - recall(&found, &exact))).abs() < 1e-9, "{loss:?}");
        assert!(loss.mean < 0.2 && loss.interval[0] <= loss.mean && loss.mean <= loss.interval[1], "{loss:?}");
        for (query, hits) in found.iter().enumerate() {
            assert!(
                hits.len() == 10
                    && hits.windows(2).all(|two| two[0].score > two[1].score
                        || two[0].score == two[1].score && two[0].index < two[1].index)
            );
            let all = index.search(&one(&queries, query), &SearchOptions::new(ROWS)).unwrap();
            assert!(hits.iter().all(|hit| all[0].contains(hit)), "a score is not the exact one");
        }
        // With as many candidates as rows, nothing is missed.
        let options = SearchOptions::new(10).with_approximate().with_expansion(ROWS);
        assert_eq!(recall(&index.search(&queries, &options).unwrap(), &exact), 1.0);
    }
}

fn one(queries: &Embeddings, row: usize) -> Embeddings {
    Embeddings::from_rows(DIM, [queries.row(row).to_vec()]).unwrap()
}

#[test]
fn filters_apply_before_the_top_k_and_narrow_ones_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let (queries, place) = (vectors(30, 3), folder.path().join("index"));
    let mut writer = filled(&place, VectorFormat::F32);
    writer.build_graphs(&GraphOptions::default(), LossSample::Queries, &queries).unwrap();
    let index = writer.index();
    for (filter, least) in [
        (json!({ "half": true }), 0.9),
        (json!({ "row": { "$lt": 50 } }), 1.0),
        (json!({ "row": { "$in": [5, 99, 300] } }), 1.0),
        (json!({ "row": 10_000 }), f64::NAN),
    ] {
        let filter = Filter::from_json(&filter).unwrap();
        let fitting = index.matching(&filter).unwrap();
        let found = by_graph(index, &queries, Some(filter.clone()));
        let exact = exact(index, &queries, Some(filter));
        assert!(found.iter().zip(&exact).all(|(found, exact)| found.len() == exact.len()));
        assert!(found.iter().flatten().all(|hit| fitting.contains(&hit.index)));
        assert!(fitting.is_empty() || recall(&found, &exact) >= least, "{}", recall(&found, &exact));
    }
}

#[test]
fn later_rows_are_found_removed_ones_are_not_and_merging_drops_the_graphs() {
    let folder = tempfile::tempdir().unwrap();
    let (queries, place) = (vectors(10, 4), folder.path().join("index"));
    let mut writer = filled(&place, VectorFormat::F32);
    writer.build_graphs(&GraphOptions::default(), LossSample::Documents, &queries).unwrap();
    // A row that is the query itself comes first, although no graph has it.
    writer.add(&tower(), &records(ROWS..ROWS + 10), &queries).unwrap();
    assert_eq!((writer.index().graph_rows(), writer.index().len()), (ROWS, ROWS + 10));
    let found = by_graph(writer.index(), &queries, None);
    assert!(found.iter().enumerate().all(|(query, hits)| hits[0].index == ROWS + query));
    let best: Vec<String> = (0..10).map(|query| writer.index().record(found[query][1].index).unwrap().id).collect();
    writer.remove(&best).unwrap();
    let reopened = DiskIndex::open(&place).unwrap();
    for index in [writer.index(), &reopened] {
        let found = by_graph(index, &queries, None);
        assert!(found.iter().all(|hits| hits.len() == 10));
        let ids: Vec<String> = found.iter().flatten().map(|hit| index.record(hit.index).unwrap().id).collect();
        assert!(ids.iter().all(|id| !best.contains(id)));
        assert!(recall(&found, &exact(index, &queries, None)) > 0.9);
    }
    // A second time, the new segment gets a graph as well, and the file of the old graph is gone.
    writer.build_graphs(&GraphOptions::default(), LossSample::Queries, &queries).unwrap();
    assert_eq!(writer.index().graph_rows(), writer.index().len());
    let graphs = |segment: &str| -> Vec<String> {
        let entries = fs::read_dir(place.join(segment)).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("graph")).collect()
    };
    assert_eq!((graphs("segment-0"), graphs("segment-1")), (vec!["graph-1".to_owned()], vec!["graph-0".to_owned()]));
    writer.compact().unwrap();
    assert_eq!((writer.index().approximation(), writer.index().graph_rows()), (None, 0));
    let error = writer.index().search(&queries, &SearchOptions::new(1).with_approximate()).unwrap_err();
    assert!(error.to_string().contains("has no graphs"), "{error}");
}

#[test]
fn without_queries_no_loss_is_stated_and_an_empty_index_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = filled(&folder.path().join("a"), VectorFormat::F32);
    let none = Embeddings::zeros(0, DIM);
    assert_eq!(writer.build_graphs(&GraphOptions::default(), LossSample::Queries, &none).unwrap().loss, None);
    let place = folder.path().join("b");
    let mut writer = IndexWriter::create(&place, &tower(), DIM, &DiskIndexOptions::default()).unwrap();
    writer.build_graphs(&GraphOptions::default(), LossSample::Queries, &vectors(2, 1)).unwrap();
    let error = writer.index().search(&vectors(2, 1), &SearchOptions::new(1).with_approximate()).unwrap_err();
    assert!(error.to_string().contains("has no graphs"), "{error}");
}

#[test]
fn settings_out_of_range_and_mixed_ways_are_refused_and_damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("index");
    let mut writer = filled(&place, VectorFormat::F32);
    let queries = vectors(3, 5);
    let build = |writer: &mut IndexWriter, options: GraphOptions| {
        writer.build_graphs(&options, LossSample::Queries, &queries).map(|_| ()).map_err(|e| e.to_string())
    };
    for (options, field) in [
        (GraphOptions::default().with_links(1), "links"),
        (GraphOptions::default().with_build_expansion(0), "build_expansion"),
        (GraphOptions::default().with_expansion(70_000), "expansion"),
    ] {
        assert!(build(&mut writer, options).unwrap_err().contains(field));
    }
    assert_eq!(writer.index().approximation(), None);
    build(&mut writer, GraphOptions::default()).unwrap();
    let index = DiskIndex::open(&place).unwrap();
    let search = |options: SearchOptions| index.search(&queries, &options).unwrap_err();
    let mixed = search(SearchOptions::new(1).with_approximate().with_codes(Codes::Int8));
    assert_eq!(mixed.kind(), ErrorKind::Config);
    assert_eq!(search(SearchOptions::new(1).with_expansion(9)).field(), Some("expansion"));
    assert_eq!(search(SearchOptions::new(1).with_approximate().with_expansion(70_000)).field(), Some("expansion"));
    let graph = place.join("segment-0/graph-0");
    let mut bytes = fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&graph, bytes).unwrap();
    let error = search(SearchOptions::new(1).with_approximate());
    assert!(error.path() == Some(graph.as_path()) && error.to_string().contains("damaged"), "{error}");
    assert!(DiskIndex::open(&place).unwrap().verify().is_err());
    // Exact search needs no graph.
    assert_eq!(exact(&index, &queries, None)[0].len(), 10);
}
