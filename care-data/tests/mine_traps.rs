//! Traps of other tools for mining hard negatives, each of which must not be one here.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;

use care_core::embedder::StoredEmbedder;
use care_core::index::{Hit, VectorFormat};
use care_core::{Document, Embedder, Embeddings, Error, ErrorKind, Query, Result, Role, Text};
use care_data::mine::{
    Documents, Mined, Mix, Negative, Plan, Queries, RankCount, Ranks, Reason, Report, Rules, RunSource, Sample, Short,
    Source, VectorSource, mine,
};
use care_data::near::NearDuplicates;

/// Embeds a text as `[1, its score]`, queries as `[0, 1]`: the score of a document is the number set for it.
#[derive(Clone, Default)]
struct Scores {
    of: HashMap<String, f32>,
    fingerprint: &'static str,
}

impl Embedder for Scores {
    fn embedding_dim(&self) -> usize {
        1
    }

    fn embed_queries(&self, queries: &[Query]) -> Result<Embeddings> {
        Embeddings::from_rows(1, queries.iter().map(|_| [1.0]))
    }

    fn embed_documents(&self, documents: &[Document]) -> Result<Embeddings> {
        Embeddings::from_rows(1, documents.iter().map(|document| [self.of[document.content().as_ref()]]))
    }

    fn fingerprint(&self, role: Role) -> Result<Option<String>> {
        Ok(Some(format!("{}-{}", self.fingerprint, role.as_str())))
    }
}

/// A corpus with the score of each text for any query, positives outside of it, and queries with their positives.
struct Setup {
    corpus: Vec<(String, f32)>,
    outside: Vec<(String, f32)>,
    queries: Vec<(String, Vec<String>)>,
}

impl Setup {
    fn new(corpus: &[(&str, f32)], queries: &[(&str, &[&str])]) -> Self {
        let corpus = corpus.iter().map(|(text, score)| ((*text).to_owned(), *score)).collect();
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let queries = queries.iter().map(|(query, positives)| ((*query).to_owned(), texts(positives))).collect();
        Self { corpus, outside: Vec::new(), queries }
    }

    fn embedder(&self) -> Scores {
        Scores { of: self.corpus.iter().chain(&self.outside).cloned().collect(), fingerprint: "scores" }
    }

    fn read(&self, near: Option<NearDuplicates>) -> (Documents, Queries) {
        let folder = std::env::temp_dir();
        let (mut documents, mut queries) = (Documents::new(&folder, near).unwrap(), Queries::new(&folder).unwrap());
        let rows: Vec<_> = self.corpus.iter().map(|(text, _)| (text.clone(), Document::new(text))).collect();
        documents.add(&rows).unwrap();
        for (number, (query, positives)) in self.queries.iter().enumerate() {
            let numbers: Vec<usize> =
                positives.iter().map(|text| documents.positive("", &text.into()).unwrap().0).collect();
            queries.add(&number.to_string(), &query.into(), &numbers, "").unwrap();
        }
        (documents, queries)
    }

    fn try_mine(&self, rules: Rules) -> Result<(Vec<Mined>, Report)> {
        let (documents, queries) = self.read(rules.near);
        let embedder = self.embedder();
        let source = VectorSource::new("scores", &embedder, &documents, VectorFormat::F32, &mut |_| {})?;
        let mut plan = Plan::default();
        plan.rules = rules;
        let mut mined = Vec::new();
        let report = mine(&queries, &documents, &[&source], &plan, &mut |of| {
            mined.push(of);
            Ok(())
        })?;
        Ok((mined, report))
    }

    fn mine(&self, rules: Rules) -> (Vec<Vec<usize>>, Report) {
        let (mined, report) = self.try_mine(rules).unwrap();
        (mined.iter().map(|mined| numbers(&mined.negatives)).collect(), report)
    }
}

fn numbers(negatives: &[Negative]) -> Vec<usize> {
    negatives.iter().map(|negative| negative.document).collect()
}

/// Ten texts that have nothing in common, best first.
const TEXTS: [&str; 10] = [
    "一二三四",
    "五六七八",
    "天地玄黄",
    "宇宙洪荒",
    "日月盈昃",
    "辰宿列张",
    "寒来暑往",
    "秋收冬藏",
    "闰余成岁",
    "律吕调阳",
];

fn ten(positives: &[&str]) -> Setup {
    let corpus: Vec<(&str, f32)> =
        TEXTS.iter().enumerate().map(|(place, &text)| (text, 1.0 - place as f32 / 16.0)).collect();
    Setup::new(&corpus, &[("云腾致雨", positives)])
}

fn rules(skip: usize, through: usize, negatives: usize) -> Rules {
    Rules::default().with(|rules| (rules.ranks, rules.negatives) = (Ranks { skip, through }, negatives))
}

#[test]
fn a_rule_of_scores_counts_alone_and_for_what_another_source_found() {
    let setup = ten(&[TEXTS[0]]);
    // In sentence-transformers the scorer is not even asked if `min_score` is the only rule.
    let (found, report) = setup.mine(rules(0, 10, 9).with(|rules| rules.min_score = Some(0.75)));
    assert_eq!(found, [[1, 2, 3, 4]]);
    assert_eq!(report.sources[0].dropped[&Reason::MinScore], 5);

    let (documents, queries) = setup.read(None);
    let embedder = setup.embedder();
    let scorer = VectorSource::new("scores", &embedder, &documents, VectorFormat::F32, &mut |_| {}).unwrap();
    let hits = [7, 2, 9, 1].map(|index| Hit { index, score: 100.0 - index as f32 }).to_vec();
    let run = RunSource::new("run", HashMap::from([("0".to_owned(), hits)]));
    let mut plan = Plan::default();
    plan.rules = rules(0, 10, 2).with(|rules| rules.max_score = Some(0.9));
    plan.mix = Mix::Quotas(vec![0, 2]);
    let sources: [&dyn Source; 2] = [&scorer, &run];
    let mut mined = Vec::new();
    let report = mine(&queries, &documents, &sources, &plan, &mut |of| {
        mined.push(of);
        Ok(())
    });
    // The run's order; 1 has 0.9375 by the scoring source.
    assert_eq!(numbers(&mined[0].negatives), [2, 7]);
    assert_eq!(mined[0].negatives[1].score, Some(0.5625));
    assert_eq!(report.unwrap().sources[1].dropped, [(Reason::MaxScore, 1)].into());
}

#[test]
fn ranks_count_results_or_what_is_allowed_as_asked() {
    let setup = ten(&[TEXTS[1]]);
    let of = |count| rules(2, 5, 3).with(|rules| (rules.count, rules.max_score) = (count, Some(0.9)));
    // Results 0 and 1 are passed over, and so are 2, 3, 4 looked at; 2 to 4 are all below 0.9.
    assert_eq!(setup.mine(of(RankCount::Results)).0, [[2, 3, 4]]);
    // 0 is above max_score and 1 is the positive: of 2, 3, 4 and 5, which are looked at, the first two are passed over.
    assert_eq!(setup.mine(of(RankCount::Allowed)).0, [[4, 5]]);
    let deeper = of(RankCount::Allowed).with(|rules| rules.depth = Some(10));
    assert_eq!(setup.mine(deeper).0, [[4, 5, 6]]);
}

#[test]
fn many_positives_do_not_use_up_the_candidates() {
    let setup = ten(&TEXTS[..6]);
    let allowed = rules(0, 3, 3).with(|rules| rules.count = RankCount::Allowed);
    assert_eq!(setup.mine(allowed).0, [[6, 7, 8]]);
    // Ranks of all results are what they say.
    let error = setup.try_mine(rules(0, 3, 3)).unwrap_err().to_string();
    assert_eq!(error, "no query has a negative left: of 3 results 3 a positive");
    let (found, report) = setup.mine(rules(0, 8, 3));
    assert_eq!((found, report.short, report.without), (vec![vec![6, 7]], 1, 0));
}

#[test]
fn what_falls_short_is_counted_and_kept_left_out_or_filled() {
    let mut setup = ten(&[TEXTS[0]]);
    setup.queries.push(("闰余".into(), vec![TEXTS[9].into()]));
    let of = |short| rules(0, 10, 4).with(|rules| (rules.absolute_margin, rules.short) = (Some(0.375), short));
    // 6 to 9 are below 1 - 0.375; nothing is below the score of the last one.
    let (found, report) = setup.mine(of(Short::Keep));
    assert_eq!(found, [vec![6, 7, 8, 9], vec![]]);
    assert_eq!((report.short, report.without, report.left_out, report.negatives), (1, 1, 0, 4));
    assert_eq!(report.dropped_of_short, [(Reason::Positive, 1), (Reason::AbsoluteMargin, 9)].into());
    assert!(report.advice()[0].starts_with("lower absolute_margin: 9 results"), "{:?}", report.advice());

    let (found, report) = setup.mine(of(Short::Drop));
    assert_eq!((found, report.left_out), (vec![vec![6, 7, 8, 9]], 1));

    let (found, report) = setup.mine(of(Short::Fill { seed: 1 }));
    assert_eq!((found[1].len(), report.filled, report.short), (4, 4, 1));
    assert!(!found[1].contains(&9));
}

#[test]
fn what_fills_up_is_neither_the_query_nor_a_positive_nor_a_repetition() {
    // Everything but two texts is the query, a positive, near to one, or there twice.
    let long = "糖尿病人可以吃西瓜吗，西瓜的含糖量比较高，建议少吃，每次不超过二百克，两餐之间吃比较好";
    let near = long.replace("二百克", "三百克");
    let corpus = [("头痛？", 0.9), (long, 0.8), (near.as_str(), 0.7), ("咳嗽", 0.6), ("咳嗽。", 0.5), ("发热", 0.4)];
    let setup = Setup::new(&corpus, &[("头痛", &[long])]);
    for seed in 0..20 {
        let rules = rules(0, 6, 5).with(|rules| (rules.max_score, rules.short) = (Some(0.0), Short::Fill { seed }));
        let (mined, report) = setup.try_mine(rules).unwrap();
        let mut found = numbers(&mined[0].negatives);
        found.sort_unstable();
        assert!(found == [3, 5] || found == [4, 5], "{found:?}");
        assert!(mined[0].negatives.iter().all(|negative| negative.source.is_none() && negative.score.is_some()));
        assert_eq!(report.filled, 2);
    }
}

#[test]
fn near_duplicates_and_other_rows_positives_are_no_negatives() {
    let long = "糖尿病人可以吃西瓜吗，西瓜的含糖量比较高，建议少吃，每次不超过二百克，两餐之间吃比较好";
    let near = long.replace("二百克", "三百克");
    let corpus = [(near.as_str(), 0.9), ("咳嗽！", 0.8), (long, 0.7), ("发热", 0.6), ("咳嗽", 0.5), ("发热。", 0.4)];
    // The other row has the same question, but for its question mark.
    let setup = Setup::new(&corpus, &[("能吃西瓜吗", &[long]), ("能吃西瓜吗？", &["咳嗽"])]);
    let (found, report) = setup.mine(rules(0, 6, 3));
    assert_eq!(found, [[3], [3]]);
    let expected =
        [(Reason::Positive, 3), (Reason::KnownPositive, 3), (Reason::NearDuplicate, 2), (Reason::Repeated, 2)];
    assert_eq!(report.sources[0].dropped, expected.into());
    let (found, _) = setup.mine(rules(0, 6, 3).with(|rules| rules.near = None));
    assert_eq!(found, [[0, 3], [0, 3]]);
}

#[test]
fn positives_outside_of_the_corpus_are_scored_and_no_candidates() {
    let mut setup = ten(&["外面的答案"]);
    setup.outside = vec![("外面的答案".into(), 0.8)];
    let (mined, _) = setup.try_mine(rules(0, 10, 3).with(|rules| rules.absolute_margin = Some(0.1))).unwrap();
    assert_eq!(mined[0].positive_scores, [Some(0.8)]);
    assert_eq!(numbers(&mined[0].negatives), [5, 6, 7]);
    let (mined, _) = setup.try_mine(rules(0, 10, 10)).unwrap();
    assert_eq!(numbers(&mined[0].negatives), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_random_draw_depends_on_the_seed_and_the_texts_alone() {
    let mut setup = ten(&[TEXTS[0]]);
    for number in 0..30 {
        setup.queries.push((format!("问题{number}"), vec![TEXTS[number % 10].into()]));
    }
    let of = |seed| rules(0, 10, 3).with(|rules| rules.sample = Sample::Random { seed });
    let drawn = |setup: &Setup, seed| {
        let (mined, _) = setup.try_mine(of(seed)).unwrap();
        let texts = |mined: &Mined| -> Vec<&str> { mined.negatives.iter().map(|of| TEXTS[of.document % 10]).collect() };
        mined.iter().map(|of| (of.query.query.content().into_owned(), texts(of).join(" "))).collect::<HashMap<_, _>>()
    };
    let (first, other) = (drawn(&setup, 1), drawn(&setup, 2));
    assert!(first.iter().filter(|(query, texts)| other[*query] != **texts).count() > 20);
    // Every document is drawn, and draws of queries differ.
    assert!(TEXTS.iter().all(|text| first.values().any(|texts| texts.contains(text))));
    setup.queries.reverse();
    assert_eq!(drawn(&setup, 1), first);
    setup.queries.truncate(5);
    assert!(drawn(&setup, 1).iter().all(|(query, texts)| first[query] == *texts));
}

#[test]
fn vectors_of_another_checkpoint_with_the_same_name_are_not_reused() {
    let setup = ten(&[TEXTS[0]]);
    let folder = tempfile::tempdir().unwrap();
    let mut retrained = setup.embedder();
    retrained.of.values_mut().for_each(|score| *score = 1.0 - *score);
    retrained.fingerprint = "retrained";
    let (documents, queries) = setup.read(None);
    let mut plan = Plan::default();
    plan.rules = rules(0, 3, 2);
    for (embedder, expected) in [(setup.embedder(), [1, 2]), (retrained, [9, 8]), (setup.embedder(), [1, 2])] {
        let stored = StoredEmbedder::open(embedder, folder.path()).unwrap();
        let source = VectorSource::new("model", &stored, &documents, VectorFormat::F32, &mut |_| {}).unwrap();
        mine(&queries, &documents, &[&source], &plan, &mut |mined| {
            assert_eq!(numbers(&mined.negatives), expected);
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn bad_vectors_and_plans_are_named() {
    let mut setup = ten(&[TEXTS[0]]);
    let (documents, queries) = setup.read(None);
    let error = |sources: &[&dyn Source], plan: &Plan| {
        mine(&queries, &documents, sources, plan, &mut |_| Ok(())).unwrap_err().to_string()
    };
    assert_eq!(error(&[], &Plan::default()), "no source of candidates: use a model, BM25 or a run");
    let run = RunSource::new("run", HashMap::new());
    let mut plan = Plan::default();
    plan.mix = Mix::Quotas(vec![10]);
    let message = "`quotas` is [10], allowed: a number for each of 1 sources, 15 in all";
    assert_eq!(error(&[&run], &plan), message);
    assert_eq!(error(&[&run], &Plan::default()), "no query has a negative left: of 0 results none were found");

    setup.corpus[3].1 = f32::NAN;
    let message = setup.try_mine(rules(0, 10, 3)).unwrap_err().to_string();
    assert_eq!(message, "the vector of document 3, \"宇宙洪荒\" is not finite");
}

#[test]
fn a_row_that_cannot_be_written_ends_the_work_in_its_group() {
    let setup = Setup::new(
        &[("a", 0.9), ("b", 0.8), ("c", 0.7)],
        &[("q", &["a"]), ("r", &["a"]), ("s", &["b"]), ("t", &["c"]), ("u", &["a"])],
    );
    let (documents, queries) = setup.read(None);
    let embedder = setup.embedder();
    let source = VectorSource::new("scores", &embedder, &documents, VectorFormat::F32, &mut |_| {}).unwrap();
    let mut plan = Plan::default();
    (plan.rules, plan.group) = (rules(0, 3, 1), 2);
    let mut passed = Vec::new();
    let error = mine(&queries, &documents, &[&source], &plan, &mut |mined| {
        passed.push(mined.number);
        if mined.number == 3 { Err(Error::new(ErrorKind::Io, "disk full")) } else { Ok(()) }
    });
    assert_eq!(error.unwrap_err().to_string(), "disk full");
    assert_eq!(passed, [0, 1, 2, 3], "in order, and none after it");
}

#[test]
fn a_report_says_what_happened_and_what_to_change() {
    let mut setup = ten(&[TEXTS[0]]);
    setup.queries.push(("问题<1>".into(), vec![TEXTS[5].into()]));
    let (_, report) = setup.mine(rules(1, 8, 5).with(|rules| rules.relative_margin = Some(0.1)));
    let markdown = report.to_markdown();
    for line in [
        "| positives | 2 | 0.8438 | 0.2210 | 0.6875 | 0.7656 | 0.8438 | 0.9219 | 1.0000 |",
        "| scores | within relative_margin | 6 | 37.5 % |",
        "| scores | taken as negatives | 6 | 37.5 % |",
        "- lower relative_margin: 5 results of queries that fell short were within relative_margin (ranks end at 8)",
    ] {
        assert!(markdown.contains(line), "{line}\n{markdown}");
    }
    let html = report.to_html().unwrap();
    assert!(html.contains("<td>0.8438</td>"), "{html}");
    assert_eq!(html.contains("<svg"), cfg!(feature = "plots"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["sources"][0]["dropped"]["relative_margin"], 6);
    assert_eq!(json["rules"]["ranks"]["through"], 8);
}
