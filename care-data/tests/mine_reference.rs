//! Hard negatives against a brute-force reference in Python, `data/mine_reference.py`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use care_core::index::{Hit, VectorFormat};
use care_core::{Document, Embedder, Embeddings, Query, Result, Text};
use care_data::mine::{
    Against, Documents, Mix, Plan, Queries, RankCount, Ranks, Report, Rules, RunSource, Sample, Short, Source,
    VectorSource, mine,
};
use care_data::near::NearDuplicates;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    corpus: Vec<String>,
    queries: Vec<Row>,
    vectors: HashMap<String, Vec<f32>>,
    run: Vec<Vec<(usize, f32)>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    positives: Vec<String>,
}

#[derive(Deserialize)]
struct Case {
    rules: Settings,
    expected: Vec<Expected>,
    short: usize,
    without: usize,
    sources: Vec<Counts>,
}

/// Scores of the positives; document, score and source of each negative, or nothing if the query is left out.
type Expected = (Vec<Option<f32>>, Option<Vec<Chosen>>);
type Chosen = (usize, Option<f32>, Option<usize>);

#[derive(Debug, PartialEq, Deserialize)]
struct Counts {
    results: usize,
    left: usize,
    taken: usize,
    dropped: BTreeMap<String, usize>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    ranks: [usize; 2],
    count: String,
    depth: Option<usize>,
    max_score: Option<f64>,
    min_score: Option<f64>,
    absolute_margin: Option<f64>,
    relative_margin: Option<f64>,
    against: String,
    negatives: usize,
    sample: Option<u64>,
    short: String,
    fill_seed: u64,
    near: bool,
    sources: Vec<String>,
    quotas: Option<Vec<usize>>,
}

impl Settings {
    fn rules(&self) -> Rules {
        Rules::default().with(|rules| {
            rules.ranks = Ranks { skip: self.ranks[0], through: self.ranks[1] };
            rules.count = if self.count == "allowed" { RankCount::Allowed } else { RankCount::Results };
            rules.depth = self.depth;
            (rules.max_score, rules.min_score) = (self.max_score, self.min_score);
            (rules.absolute_margin, rules.relative_margin) = (self.absolute_margin, self.relative_margin);
            rules.against = match self.against.as_str() {
                "highest" => Against::Highest,
                "mean" => Against::Mean,
                _ => Against::Lowest,
            };
            rules.negatives = self.negatives;
            rules.sample = self.sample.map_or(Sample::Top, |seed| Sample::Random { seed });
            rules.short = match self.short.as_str() {
                "drop" => Short::Drop,
                "fill" => Short::Fill { seed: self.fill_seed },
                _ => Short::Keep,
            };
            rules.near = self.near.then(NearDuplicates::default);
        })
    }
}

struct Table<'a>(&'a HashMap<String, Vec<f32>>);

impl Table<'_> {
    fn vectors<T: Text>(&self, texts: &[T]) -> Result<Embeddings> {
        Embeddings::from_rows(self.embedding_dim(), texts.iter().map(|text| &self.0[text.content().as_ref()]))
    }
}

impl Embedder for Table<'_> {
    fn embedding_dim(&self) -> usize {
        self.0.values().next().unwrap().len()
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        self.vectors(queries)
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        self.vectors(documents)
    }
}

fn fixture() -> Fixture {
    let path = std::env::var("CARE_MINE_FIXTURE");
    let path = path.unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mine.json").to_owned());
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The negatives of each query, the scores of its positives, and the report.
type Mined = (Vec<Option<Vec<Chosen>>>, Vec<Vec<Option<f32>>>, Report);

/// What is mined by a case's rules.
fn mined(fixture: &Fixture, settings: &Settings, group: usize) -> Mined {
    let folder = std::env::temp_dir();
    let rules = settings.rules();
    let mut documents = Documents::new(&folder, rules.near).unwrap();
    let rows: Vec<_> = fixture.corpus.iter().enumerate().map(|(n, text)| (n.to_string(), text.into())).collect();
    rows.chunks(50).for_each(|rows| documents.add(rows).unwrap());
    let mut queries = Queries::new(&folder).unwrap();
    for (number, row) in fixture.queries.iter().enumerate() {
        let positives = row.positives.iter().map(|text| documents.positive("", &text.into()).unwrap().0);
        let positives: Vec<usize> = positives.collect();
        queries.add(&number.to_string(), &Query::new(&row.text), &positives, "").unwrap();
    }
    let table = Table(&fixture.vectors);
    let vectors = VectorSource::new("vectors", &table, &documents, VectorFormat::F32, &mut |_| {}).unwrap();
    let hits = |hits: &Vec<(usize, f32)>| hits.iter().map(|&(index, score)| Hit { index, score }).collect();
    let run = RunSource::new("run", fixture.run.iter().enumerate().map(|(n, of)| (n.to_string(), hits(of))).collect());
    let sources = settings.sources.iter().map(|name| match name.as_str() {
        "run" => &run as &dyn Source,
        _ => &vectors,
    });
    let mut plan = Plan::default();
    plan.rules = rules;
    plan.group = group;
    plan.mix = settings.quotas.clone().map_or(Mix::Fused, Mix::Quotas);
    let (mut found, mut scores) = (vec![None; queries.len()], vec![Vec::new(); queries.len()]);
    let report = mine(&queries, &documents, &sources.collect::<Vec<_>>(), &plan, &mut |mined| {
        let negatives = mined.negatives.iter().map(|of| (of.document, of.score, of.source)).collect();
        found[mined.number] = Some(negatives);
        scores[mined.number] = mined.positive_scores;
        Ok(())
    });
    (found, scores, report.unwrap())
}

#[test]
fn negatives_are_those_of_the_brute_force_reference_for_every_rule() {
    let fixture = fixture();
    assert!(fixture.cases.len() >= 25);
    for case in &fixture.cases {
        let (found, scores, report) = mined(&fixture, &case.rules, 0);
        for (number, (positives, negatives)) in case.expected.iter().enumerate() {
            assert_eq!(&found[number], negatives, "query {number} by {:?}", case.rules);
            if negatives.is_some() {
                assert_eq!(&scores[number], positives, "query {number} by {:?}", case.rules);
            }
        }
        let counts: Vec<Counts> = report
            .sources
            .iter()
            .map(|of| {
                let dropped = serde_json::to_value(&of.dropped).and_then(serde_json::from_value).unwrap();
                Counts { results: of.results, left: of.left, taken: of.taken, dropped }
            })
            .collect();
        assert_eq!(counts, case.sources, "{:?}", case.rules);
        assert_eq!((report.short, report.without), (case.short, case.without), "{:?}", case.rules);
    }
}

#[test]
fn groups_and_threads_change_nothing() {
    let fixture = fixture();
    let picked = fixture.cases.iter().filter(|case| case.rules.sample.is_some() || case.rules.short == "fill");
    for case in picked {
        let with = |threads: usize, group| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (found, scores, report) = pool.install(|| mined(&fixture, &case.rules, group));
            (found, scores, report)
        };
        let one = with(1, 0);
        assert_eq!(with(2, 7), one);
        assert_eq!(with(3, 1), one);
        assert_eq!(with(1, 5), one);
        assert_eq!(with(2, usize::MAX), one);
    }
}
