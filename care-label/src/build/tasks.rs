//! What is in the tasks, before it is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use care_core::{Error, ErrorKind, Result};
use care_data::near::NearDuplicates;
use care_data::split::{Split, assign};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::pair::Pair;
use crate::resolve::{Label, Outcome};

/// A kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// A corpus is searched.
    Retrieval,
    /// Positives and hard negatives of each query are ordered.
    Reranking,
    /// Semantic textual similarity of two sentences.
    Sts,
}

/// How a benchmark is built.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuildOptions {
    /// The splits. Default: 80 % train, 10 % dev, 10 % test.
    pub splits: Vec<Split>,
    /// Seed of splits, candidate orders and samples. Default 0.
    pub seed: u64,
    /// Whether grades are 0 and 1 only. Default: graded.
    pub binary: bool,
    /// Most negatives of a reranking query, best-ranked first. Default 50.
    pub negatives: usize,
    /// Most pairs of the similarity task per point of the scale. Default: as many as the point with the fewest, but at
    /// least 20.
    pub pairs_per_point: Option<usize>,
    /// Which questions are near-duplicates.
    pub near: NearDuplicates,
}

impl Default for BuildOptions {
    fn default() -> Self {
        let split = |name: &str, share| Split { name: name.into(), share };
        Self {
            splits: vec![split("train", 0.8), split("dev", 0.1), split("test", 0.1)],
            seed: 0,
            binary: false,
            negatives: 50,
            pairs_per_point: None,
            near: NearDuplicates::default(),
        }
    }
}

/// A document of the corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CorpusDocument {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its title, or nothing.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// Calls a function with each document of a corpus.
pub type Visit<'a> = dyn FnMut(&mut dyn FnMut(CorpusDocument) -> Result<()>) -> Result<()> + 'a;

/// Pairs with their labels.
#[derive(Debug)]
pub struct Material<'a> {
    pairs: Vec<(&'a Pair, Option<&'a Label>)>,
}

/// A retrieval task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retrieval {
    /// Ids and texts of the queries, in the order of the pairs.
    pub queries: Vec<(String, String)>,
    /// By split, the grades of each query's documents. 0 is judged and negative.
    pub qrels: BTreeMap<String, BTreeMap<String, BTreeMap<String, i32>>>,
    /// Documents that are left out of the corpus: their pair was dropped, and they are positive for no query.
    pub left_out: BTreeSet<String>,
    /// Counts for the card.
    pub counts: BTreeMap<&'static str, usize>,
}

/// A reranking task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reranking {
    /// Queries and grades.
    pub base: Retrieval,
    /// By split, the candidates of each query in random order.
    pub candidates: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// The documents.
    pub documents: BTreeMap<String, String>,
}

/// A similarity task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sts {
    /// By split, both sentences and their mean score.
    pub rows: BTreeMap<String, Vec<(String, String, f64)>>,
    /// Counts for the card.
    pub counts: BTreeMap<&'static str, usize>,
}

/// One of the tasks.
#[derive(Debug, Clone, PartialEq)]
pub enum Built {
    /// Retrieval.
    Retrieval(Retrieval),
    /// Reranking.
    Reranking(Reranking),
    /// Similarity.
    Sts(Sts),
}

impl Retrieval {
    /// The grades of all queries, by document.
    fn grades(&self) -> impl Iterator<Item = (&String, &i32)> {
        self.qrels.values().flat_map(BTreeMap::values).flatten()
    }

    fn count_grades(&mut self) {
        let of = |wanted: &dyn Fn(i32) -> bool| self.grades().filter(|(_, grade)| wanted(**grade)).count();
        let (positives, negatives) = (of(&|grade| grade > 0), of(&|grade| grade == 0));
        self.counts.extend([("positives", positives), ("judged negatives", negatives)]);
    }
}

impl Built {
    /// Its kind.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::Retrieval(_) => TaskKind::Retrieval,
            Self::Reranking(_) => TaskKind::Reranking,
            Self::Sts(_) => TaskKind::Sts,
        }
    }

    /// Counts for the card.
    pub fn counts(&self) -> &BTreeMap<&'static str, usize> {
        match self {
            Self::Retrieval(task) => &task.counts,
            Self::Reranking(task) => &task.base.counts,
            Self::Sts(task) => &task.counts,
        }
    }
}

impl<'a> Material<'a> {
    /// Joins pairs and labels.
    ///
    /// # Errors
    /// If a label has no pair, i.e. the files do not belong together, or nothing is labelled.
    pub fn new(pairs: &'a [Pair], labels: &'a [Label]) -> Result<Self> {
        let mut by_id: HashMap<(&str, &str), &Label> = labels.iter().map(|label| (label.id(), label)).collect();
        let pairs: Vec<_> = pairs.iter().map(|pair| (pair, by_id.remove(&pair.id()))).collect();
        if let Some((query, document)) = by_id.keys().min() {
            let problem =
                format!("the label of `{query}`, `{document}` has no pair: labels and pairs do not belong together");
            return Err(Error::new(ErrorKind::Format, problem));
        }
        if pairs
            .iter()
            .all(|(_, label)| label.is_none_or(|label| label.outcome.decided().is_none() && label.score.is_none()))
        {
            return Err(Error::new(ErrorKind::Format, "no pair has a label"));
        }
        Ok(Self { pairs })
    }

    /// The retrieval task: queries with a positive, their decided grades, and a corpus without dropped documents.
    ///
    /// # Errors
    /// If no query has a positive, or a split gets no query.
    pub fn retrieval(&self, options: &BuildOptions) -> Result<Retrieval> {
        let mut task = self.queries(options, &|grades| grades.values().any(|grade| *grade > 0), "a positive")?;
        let positive: HashSet<&String> = task.grades().filter(|(_, grade)| **grade > 0).map(|(id, _)| id).collect();
        let (stay, left_out): (BTreeSet<String>, _) =
            task.left_out.iter().cloned().partition(|id| positive.contains(id));
        task.left_out = left_out;
        for grades in task.qrels.values_mut().flat_map(BTreeMap::values_mut) {
            grades.retain(|id, _| !task.left_out.contains(id));
        }
        task.counts.insert("documents left out, as a pair of theirs was dropped", task.left_out.len());
        task.counts.insert("dropped documents that stay, as positives of other queries", stay.len());
        task.count_grades();
        Ok(task)
    }

    /// The reranking task: queries with a positive and a negative, each with all positives and its best-ranked negatives.
    ///
    /// # Errors
    /// If no query has both, or a split gets no query.
    pub fn reranking(&self, options: &BuildOptions) -> Result<Reranking> {
        let both = |grades: &BTreeMap<String, i32>| grades.values().any(|g| *g > 0) && grades.values().any(|g| *g == 0);
        let mut base = self.queries(options, &both, "a positive and a negative")?;
        let best_rank: HashMap<(&str, &str), usize> = self
            .pairs
            .iter()
            .map(|(pair, _)| (pair.id(), pair.systems.iter().map(|found| found.rank).min().unwrap_or(usize::MAX)))
            .collect();
        let (mut candidates, mut used) = (BTreeMap::new(), HashSet::new());
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        for (split, queries) in &mut base.qrels {
            let lists: &mut BTreeMap<String, Vec<String>> = candidates.entry(split.clone()).or_default();
            for (query, grades) in queries.iter_mut() {
                let mut negatives: Vec<String> =
                    grades.iter().filter(|(_, g)| **g == 0).map(|(id, _)| id.clone()).collect();
                negatives.sort_by_key(|id| (best_rank.get(&(query.as_str(), id.as_str())).copied(), id.clone()));
                for more in negatives.iter().skip(options.negatives) {
                    grades.remove(more);
                }
                let mut list: Vec<String> = grades.keys().cloned().collect();
                // In the order of ids or grades, a model whose scores tie would gain or lose by it.
                list.shuffle(&mut rng);
                used.extend(list.iter().cloned());
                lists.insert(query.clone(), list);
            }
        }
        let documents: BTreeMap<String, String> = self
            .pairs
            .iter()
            .filter(|(pair, _)| used.contains(&pair.doc_id))
            .map(|(pair, _)| (pair.doc_id.clone(), pair.document.clone()))
            .collect();
        base.counts.insert("documents", documents.len());
        base.counts.insert("candidates", candidates.values().flat_map(BTreeMap::values).map(Vec::len).sum());
        base.count_grades();
        // No corpus is searched: a document whose pair was dropped is a candidate of other queries as before.
        base.left_out.clear();
        Ok(Reranking { base, candidates, documents })
    }

    /// The similarity task: pairs with their mean score, balanced over the points of the scale.
    ///
    /// # Errors
    /// If fewer than two different scores exist, or a split gets no pair.
    pub fn sts(&self, options: &BuildOptions) -> Result<Sts> {
        let scored: Vec<(&Pair, f64)> = self
            .pairs
            .iter()
            .filter_map(|(pair, label)| {
                let label = label.filter(|label| label.outcome != Outcome::Incomplete)?;
                Some((*pair, label.score?))
            })
            .collect();
        let mut points: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (at, (_, score)) in scored.iter().enumerate() {
            points.entry(score.round() as i64).or_default().push(at);
        }
        if points.len() < 2 {
            return Err(Error::new(ErrorKind::Format, "a similarity task needs pairs with different scores"));
        }
        let fewest = points.values().map(Vec::len).min().unwrap_or_default().max(20);
        let most = options.pairs_per_point.unwrap_or(fewest);
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let mut chosen: Vec<usize> = Vec::new();
        for at in points.values_mut() {
            at.shuffle(&mut rng);
            at.truncate(most);
            chosen.append(at);
        }
        chosen.sort_unstable();
        let items: Vec<Vec<&str>> =
            chosen.iter().map(|at| vec![scored[*at].0.query.as_str(), scored[*at].0.document.as_str()]).collect();
        let splits = assign(&items, &options.splits, &options.near, options.seed)?;
        let mut task = Sts::default();
        for (at, split) in chosen.iter().zip(splits) {
            let (pair, score) = scored[*at];
            let row = (pair.query.clone(), pair.document.clone(), score);
            task.rows.entry(options.splits[split].name.clone()).or_default().push(row);
        }
        let left_out = scored.len() - chosen.len();
        task.counts = BTreeMap::from([("pairs", chosen.len()), ("pairs left out to balance scores", left_out)]);
        Ok(task)
    }

    /// Queries that are worth a place, split, with their grades, and all documents of a dropped pair as those left out.
    fn queries(
        &self,
        options: &BuildOptions,
        is_worth: &dyn Fn(&BTreeMap<String, i32>) -> bool,
        needed: &str,
    ) -> Result<Retrieval> {
        let (mut order, mut texts) = (Vec::new(), HashMap::new());
        let mut grades: HashMap<&str, BTreeMap<String, i32>> = HashMap::new();
        let (mut dropped, mut unjudged) = (BTreeSet::new(), 0);
        for (pair, label) in &self.pairs {
            if texts.insert(pair.query_id.as_str(), pair.query.as_str()).is_none() {
                order.push(pair.query_id.as_str());
            }
            match label.map(|label| label.grade) {
                Some(Some(grade)) => {
                    let grade = if options.binary { grade.min(1) } else { grade };
                    grades.entry(&pair.query_id).or_default().insert(pair.doc_id.clone(), grade);
                }
                Some(None) => unjudged += 1,
                None => {
                    dropped.insert(pair.doc_id.clone());
                }
            }
        }
        let worth: Vec<&str> = order.iter().copied().filter(|id| grades.get(id).is_some_and(is_worth)).collect();
        if worth.is_empty() {
            return Err(Error::new(ErrorKind::Format, format!("no query has {needed}")));
        }
        let items: Vec<Vec<&str>> = worth.iter().map(|id| vec![texts[id]]).collect();
        let splits = assign(&items, &options.splits, &options.near, options.seed)?;
        let mut task = Retrieval::default();
        for (id, split) in worth.iter().zip(splits) {
            task.queries.push(((*id).to_owned(), texts[id].to_owned()));
            let grades = grades.remove(id).unwrap_or_default();
            task.qrels.entry(options.splits[split].name.clone()).or_default().insert((*id).to_owned(), grades);
        }
        task.counts = BTreeMap::from([
            ("queries", task.queries.len()),
            ("queries left out", order.len() - worth.len()),
            ("unjudged pairs", unjudged),
        ]);
        task.left_out = dropped;
        Ok(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::parse_splits;
    use crate::pair::Found;

    fn pair(query: usize, doc: &str, rank: usize) -> Pair {
        Pair {
            query_id: format!("q{query}"),
            doc_id: doc.into(),
            query: format!(
                "问题{query}{}",
                char::from_u32(0x4e00 + query as u32 * 97).expect("Han").to_string().repeat(9)
            ),
            document: format!("文档{doc}"),
            positive: None,
            group: None,
            grade: None,
            systems: vec![Found { system: "bm25".into(), rank, score: 1.0 }],
        }
    }

    fn label(query: usize, doc: &str, grade: Option<i32>, score: f64) -> Label {
        Label {
            query_id: format!("q{query}"),
            doc_id: doc.into(),
            outcome: grade.map_or(Outcome::Disputed, |grade| Outcome::of(grade > 0)),
            grade,
            score: Some(score),
            probability: None,
            votes: 3,
            expert: false,
        }
    }

    fn test_only() -> BuildOptions {
        BuildOptions { splits: parse_splits("test").expect("one"), ..BuildOptions::default() }
    }

    #[test]
    fn retrieval_keeps_grades_and_leaves_dropped_documents_out() {
        let pairs =
            [pair(1, "a", 1), pair(1, "b", 2), pair(1, "c", 3), pair(1, "d", 4), pair(2, "c", 1), pair(3, "e", 1)];
        // `d` is dropped; `c` is dropped for q1 but a positive of q2; q3 has no positive.
        let labels = [
            label(1, "a", Some(2), 5.0),
            label(1, "b", Some(0), 1.0),
            label(2, "c", Some(1), 4.0),
            label(3, "e", Some(0), 1.0),
        ];
        let material = Material::new(&pairs, &labels).expect("joined");
        let task = material.retrieval(&test_only()).expect("a task");
        assert_eq!(task.queries.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["q1", "q2"]);
        assert_eq!(task.qrels["test"]["q1"], BTreeMap::from([("a".into(), 2), ("b".into(), 0)]));
        assert_eq!(task.left_out, BTreeSet::from(["d".to_owned()]));
        assert_eq!((task.counts["queries left out"], task.counts["positives"]), (1, 2));
        assert_eq!(task.counts["dropped documents that stay, as positives of other queries"], 1);
        let binary = material.retrieval(&BuildOptions { binary: true, ..test_only() }).expect("a task");
        assert_eq!(binary.qrels["test"]["q1"]["a"], 1);
    }

    #[test]
    fn reranking_takes_the_hardest_negatives_in_random_order() {
        let pairs: Vec<_> = (0..30).map(|at| pair(1, &format!("d{at:02}"), at + 1)).collect();
        let labels: Vec<_> =
            (0..30).map(|at| label(1, &format!("d{at:02}"), Some(i32::from(at % 10 == 0)), 1.0)).collect();
        let options = BuildOptions { negatives: 5, ..test_only() };
        let task = Material::new(&pairs, &labels).expect("joined").reranking(&options).expect("a task");
        let list = &task.candidates["test"]["q1"];
        let sorted: BTreeSet<_> = list.iter().map(String::as_str).collect();
        assert_eq!(sorted, BTreeSet::from(["d00", "d10", "d20", "d01", "d02", "d03", "d04", "d05"]));
        assert_ne!(list.iter().map(String::as_str).collect::<Vec<_>>(), sorted.into_iter().collect::<Vec<_>>());
        assert_eq!((task.documents.len(), task.base.counts["candidates"]), (8, 8));
        assert_eq!((task.base.counts["positives"], task.base.counts["judged negatives"]), (3, 5));
    }

    #[test]
    fn a_pair_that_was_dropped_takes_its_document_from_no_other_list_of_candidates() {
        // `b` is dropped for q1; q2 has no other negative.
        let pairs = [pair(1, "a", 1), pair(1, "b", 2), pair(1, "c", 3), pair(2, "a", 1), pair(2, "b", 2)];
        let labels = [
            label(1, "a", Some(1), 5.0),
            label(1, "c", Some(0), 1.0),
            label(2, "a", Some(1), 5.0),
            label(2, "b", Some(0), 1.0),
        ];
        let material = Material::new(&pairs, &labels).expect("joined");
        let task = material.reranking(&test_only()).expect("a task");
        let candidates = |query: &str| task.candidates["test"][query].iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(candidates("q1"), BTreeSet::from(["a".to_owned(), "c".to_owned()]));
        assert_eq!(candidates("q2"), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        let counts = &task.base.counts;
        assert_eq!((counts["positives"], counts["judged negatives"], counts["documents"]), (2, 2, 3));
        assert!(counts.keys().all(|name| !name.contains("left out, as")), "{counts:?}");
        let task = material.retrieval(&test_only()).expect("a task");
        assert_eq!(task.qrels["test"]["q2"], BTreeMap::from([("a".into(), 1)]));
        assert_eq!((task.counts["judged negatives"], &task.left_out), (1, &BTreeSet::from(["b".to_owned()])));
    }

    #[test]
    fn similarity_is_balanced_over_the_scale() {
        let pairs: Vec<_> = (0..300).map(|at| pair(at, &format!("d{at}"), 1)).collect();
        let labels: Vec<_> =
            (0..300).map(|at| label(at, &format!("d{at}"), None, if at < 30 { 5.0 } else { 0.4 })).collect();
        let material = Material::new(&pairs, &labels).expect("joined");
        let task = material.sts(&test_only()).expect("a task");
        let high = task.rows["test"].iter().filter(|row| row.2 == 5.0).count();
        assert_eq!((task.rows["test"].len(), high, task.counts["pairs left out to balance scores"]), (60, 30, 240));
        let few = material.sts(&BuildOptions { pairs_per_point: Some(4), ..test_only() }).expect("a task");
        assert_eq!(few.rows["test"].len(), 8);
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let (pairs, labels) = ([pair(1, "a", 1)], [label(1, "a", Some(0), 1.0)]);
        let material = Material::new(&pairs, &labels).expect("joined");
        assert_eq!(material.retrieval(&test_only()).expect_err("none").to_string(), "no query has a positive");
        assert_eq!(
            material.reranking(&test_only()).expect_err("none").to_string(),
            "no query has a positive and a negative"
        );
        assert!(material.sts(&test_only()).expect_err("one score").to_string().contains("different scores"));
        let positive = [label(1, "a", Some(1), 1.0)];
        let material = Material::new(&pairs, &positive).expect("joined");
        let refused = material.retrieval(&BuildOptions::default()).expect_err("one query for three splits");
        assert_eq!(refused.to_string(), "split `dev` gets none of the 1 items");
        let foreign = [label(2, "a", Some(1), 1.0)];
        assert!(Material::new(&pairs, &foreign).expect_err("foreign").to_string().contains("`q2`, `a` has no pair"));
        assert_eq!(Material::new(&pairs, &[]).expect_err("nothing").to_string(), "no pair has a label");
    }
}
