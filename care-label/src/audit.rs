//! Audits: false negatives of an existing benchmark, and how much a ranking of systems owes to a single judge.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use care_core::{Error, ErrorKind, Result};
use care_eval::agreement::IntervalOptions;
use care_eval::stats::{Interval, bootstrap_interval, kendall};
use care_eval::{Evaluator, Measure, Missing, Qrels, Run};
use serde::{Deserialize, Serialize};

use crate::agree::{ByPair, CorrectedFigure, bounds, defined, eval, expert_sample, sign};
use crate::ballots::Ballots;
use crate::pair::Pair;
use crate::resolve::{Label, ResolveOptions, Rule, resolve};

/// A mean over queries with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QueryMean {
    /// The mean.
    pub value: f64,
    /// Percentile interval over resampled queries; `None` without resamples.
    pub interval: Option<Interval>,
}

/// Pairs of the pool by their existing judgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OutcomeCounts {
    /// Labelled positive.
    pub positive: u64,
    /// Labelled negative.
    pub negative: u64,
    /// Disputed, incomplete, or without a label.
    pub undecided: u64,
}

/// What an existing benchmark does not count as relevant, but judges do. Displays as Markdown.
///
/// Only pooled pairs are judged, and undecided ones are not counted, so the figures are lower bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FalseNegatives {
    /// Queries of the pool.
    pub queries: usize,
    /// Pairs with a grade above 0.
    pub graded_positive: OutcomeCounts,
    /// Pairs with a grade of 0 or below. Labelled positive, they contradict the benchmark.
    pub graded_negative: OutcomeCounts,
    /// Pairs without a grade. Labelled positive, they are the unlabelled positives.
    pub ungraded: OutcomeCounts,
    /// Unlabelled positives per query.
    pub per_query: QueryMean,
    /// Share of the queries that have any.
    pub queries_with_any: QueryMean,
    /// What experts make of it; empty without checked pairs. `confirmed` is the share of the unlabelled positives that
    /// experts confirm, `per_query` the number of unlabelled positives per query of this benchmark, those that judges
    /// missed included. The interval of `per_query` is about the experts' sample; the queries are taken as they are.
    pub corrected: Vec<CorrectedFigure>,
}

/// Counts unlabelled positives.
///
/// `pairs` are the judged pool with existing grades, `labels` what judges made of it. `checked` is what experts found,
/// positive or not, for a sample of the ungraded pairs, and `strata` the stratum of every labelled pair, if that sample was
/// not drawn evenly.
///
/// # Reference
/// CMedTEB (arXiv 2604.10937): existing Chinese medical sets have 9 to 19 unlabelled positives per query, of which experts
/// confirm 92 %.
///
/// # Errors
/// If there is no pair, a decided pair without a grade has no stratum, or the level of `options` is not in `(0, 1)`.
pub fn false_negatives(
    pairs: &[Pair],
    labels: &[Label],
    checked: &ByPair<'_, bool>,
    strata: Option<&ByPair<'_, String>>,
    options: &IntervalOptions,
) -> Result<FalseNegatives> {
    if pairs.is_empty() {
        return Err(Error::new(ErrorKind::Format, "no pair to audit"));
    }
    let of_pair: ByPair<'_, &Label> = labels.iter().map(|label| (label.id(), label)).collect();
    let mut by_grade = [OutcomeCounts::default(); 3];
    let mut unlabelled: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ungraded = Vec::new();
    for pair in pairs {
        let kind = match pair.grade {
            Some(1..) => 0,
            Some(_) => 1,
            None => 2,
        };
        let label = of_pair.get(&pair.id()).copied();
        let decided = label.and_then(|label| label.outcome.decided());
        *match decided {
            Some(true) => &mut by_grade[kind].positive,
            Some(false) => &mut by_grade[kind].negative,
            None => &mut by_grade[kind].undecided,
        } += 1;
        let count = unlabelled.entry(&pair.query_id).or_insert(0);
        if kind == 2 {
            *count += u64::from(decided == Some(true));
            ungraded.extend(label);
        }
    }
    let mean = |of: &dyn Fn(u64) -> f64| {
        let values: Vec<f64> = unlabelled.values().map(|count| of(*count)).collect();
        let interval = bootstrap_interval(&values, options.level, options.resamples, options.seed);
        QueryMean { value: values.iter().sum::<f64>() / values.len() as f64, interval }
    };
    let [graded_positive, graded_negative, ungraded_counts] = by_grade;
    let mut corrected = Vec::new();
    if !checked.is_empty() {
        let decided = (ungraded_counts.positive + ungraded_counts.negative) as f64 / unlabelled.len() as f64;
        let sample = expert_sample(ungraded, checked, strata, |label, found| (sign(label), sign(found)))?;
        let (estimate, undefined) = defined(sample.precision(1.0, options))?;
        corrected.push(CorrectedFigure { name: "confirmed", estimate, undefined });
        let (mut estimate, undefined) = defined(sample.positive_rate(1.0, options))?;
        if let Some(rate) = &mut estimate {
            let scaled = |Interval { low, high }| Interval { low: decided * low, high: decided * high };
            rate.value *= decided;
            rate.standard_error *= decided;
            rate.interval = scaled(rate.interval);
            rate.bootstrap = rate.bootstrap.map(scaled);
        }
        corrected.push(CorrectedFigure { name: "per_query", estimate, undefined });
    }
    Ok(FalseNegatives {
        queries: unlabelled.len(),
        graded_positive,
        graded_negative,
        ungraded: ungraded_counts,
        per_query: mean(&|count| count as f64),
        queries_with_any: mean(&|count| sign(count > 0)),
        corrected,
    })
}

/// What labels do to existing judgements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Update {
    /// Existing judgements stay; decided labels of other pairs are added.
    #[default]
    Add,
    /// Decided labels replace existing judgements too.
    Replace,
}

/// Qrels with the decided labels, negative ones as grade 0. From empty qrels, those of the labels alone.
///
/// # Errors
/// None for qrels and labels that were read: a pair occurs once in each.
pub fn relabel(old: &Qrels, labels: &[Label], update: Update) -> Result<Qrels> {
    let mut grades: ByPair<'_, i32> =
        old.judgements().map(|(query, document, grade)| ((query, document), grade)).collect();
    for label in labels {
        let Some(grade) = label.grade else { continue };
        match update {
            Update::Add => {
                grades.entry(label.id()).or_insert(grade);
            }
            Update::Replace => {
                grades.insert(label.id(), grade);
            }
        }
    }
    eval(Qrels::from_judgements(grades.into_iter().map(|((query, document), grade)| (query, document, grade))))
}

/// A system under two sets of qrels.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SystemScores {
    /// Name of the system.
    pub system: String,
    /// Its score under the first qrels.
    pub old: f64,
    /// Its score under the second.
    pub new: f64,
    /// Its rank under the first, from 1; equal scores share the better rank.
    pub old_rank: usize,
    /// Its rank under the second.
    pub new_rank: usize,
}

/// The systems under two sets of qrels. Displays as Markdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RankChange {
    /// The measure.
    pub measure: String,
    /// Queries that are judged in both, over which all means are. A query that a system does not answer scores 0.
    pub queries: usize,
    /// Queries that only one of the two judges, which are left out.
    pub other_queries: usize,
    /// The systems, best first under the second qrels.
    pub systems: Vec<SystemScores>,
    /// Kendall's tau-b of the two rankings; `None` if it is undefined, e.g. for one system.
    pub tau: Option<f64>,
    /// Most ranks that a system moves.
    pub largest_move: usize,
}

/// Scores systems under two sets of qrels, e.g. before and after [`relabel`].
///
/// # Errors
/// If there is no system, a name occurs twice, or no query is judged in both.
pub fn compare_systems(systems: &[(String, Run)], old: &Qrels, new: &Qrels, measure: Measure) -> Result<RankChange> {
    let names: HashSet<&str> = systems.iter().map(|(name, _)| name.as_str()).collect();
    if systems.is_empty() || names.len() < systems.len() {
        return Err(Error::setting("systems", "empty, or a name twice", "runs of different systems"));
    }
    let common: HashSet<&str> = old.iter().map(|(query, _)| query).filter(|query| new.get(query).is_some()).collect();
    if common.is_empty() {
        return Err(Error::new(ErrorKind::Format, "no query is judged in both qrels"));
    }
    let scores = |qrels: &Qrels| -> Result<Vec<f64>> {
        let judged = qrels.judgements().filter(|(query, _, _)| common.contains(query));
        let qrels = eval(Qrels::from_judgements(judged))?;
        let evaluator = Evaluator::new([measure]).missing(Missing::Zero);
        let score = |(_, run): &(String, Run)| {
            let evaluation = eval(evaluator.evaluate(&qrels, run))?;
            Ok(evaluation.measures.get(measure).unwrap_or_default())
        };
        systems.iter().map(score).collect()
    };
    let (before, after) = (scores(old)?, scores(new)?);
    let rank = |scores: &[f64], at: usize| 1 + scores.iter().filter(|other| **other > scores[at]).count();
    let row = |(at, (name, _)): (usize, &(String, Run))| SystemScores {
        system: name.clone(),
        old: before[at],
        new: after[at],
        old_rank: rank(&before, at),
        new_rank: rank(&after, at),
    };
    let mut rows: Vec<SystemScores> = systems.iter().enumerate().map(row).collect();
    rows.sort_by_key(|row| row.new_rank);
    Ok(RankChange {
        measure: measure.to_string(),
        queries: common.len(),
        other_queries: old.len() + new.len() - 2 * common.len(),
        tau: kendall(&before, &after).ok(),
        largest_move: rows.iter().map(|row| row.old_rank.abs_diff(row.new_rank)).max().unwrap_or(0),
        systems: rows,
    })
}

/// The labels without one judge.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WithoutJudge {
    /// The judge that is left out.
    pub judge: String,
    /// Pairs that are positive without it.
    pub positive: u64,
    /// Pairs whose outcome is another one than with all judges.
    pub changed: u64,
    /// The systems by the qrels of all judges (old) and without this one (new).
    pub systems: RankChange,
    /// Remarks of the rule's model, e.g. that two judges do not identify it.
    pub warnings: Vec<String>,
}

/// Leaves out one judge after the other, labels the pairs by the same rule, and scores the systems again: how much the
/// ranking owes to a judge, e.g. to one of the family of a system.
///
/// `base` are existing judgements, which labels change by `update`; empty for a new benchmark. A setting of
/// [`ResolveOptions::min_votes`] is lowered to the number of judges that are left.
///
/// # Errors
/// If there is only one judge, or as [`resolve`] and [`compare_systems`].
pub fn leave_one_out(
    ballots: &Ballots,
    rule: Rule,
    options: &ResolveOptions,
    base: &Qrels,
    update: Update,
    systems: &[(String, Run)],
    measure: Measure,
) -> Result<Vec<WithoutJudge>> {
    let all = resolve(ballots, rule, options)?.labels;
    let qrels = relabel(base, &all, update)?;
    let mut options = options.clone();
    options.min_votes = options.min_votes.map(|votes| votes.min(ballots.judges().len().saturating_sub(1)));
    let without = |judge: &str| {
        let resolution = resolve(&ballots.without(judge)?, rule, &options)?;
        let outcomes = all.iter().zip(&resolution.labels);
        let fewer = relabel(base, &resolution.labels, update)?;
        Ok(WithoutJudge {
            judge: judge.to_owned(),
            positive: resolution.counts.positive,
            changed: outcomes.filter(|(with, without)| with.outcome != without.outcome).count() as u64,
            systems: compare_systems(systems, &qrels, &fewer, measure)?,
            warnings: resolution.model.map(|model| model.warnings).unwrap_or_default(),
        })
    };
    ballots.judges().iter().map(|judging| without(&judging.judge)).collect()
}

/// What a model does in a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It scores pairs.
    Judge,
    /// It wrote queries or documents.
    Generator,
    /// A system was trained on its output.
    Teacher,
    /// It is evaluated.
    System,
}

impl Role {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Judge, "judges"),
        (Self::Generator, "generators"),
        (Self::Teacher, "teachers"),
        (Self::System, "systems"),
    ];
}

/// A model with its role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its family; `None` if it is not known.
    pub family: Option<String>,
}

impl Member {
    /// A member of the given family, or of the one that [`family_of`] finds in the model's name.
    pub fn new(name: impl Into<String>, role: Role, model: &str, family: Option<&str>) -> Self {
        let family = family.or_else(|| family_of(model)).map(str::to_lowercase);
        Self { name: name.into(), role, family }
    }
}

/// Beginnings of words in the names of models, and the family.
const FAMILIES: [(&str, &str); 32] = [
    ("deepseek", "deepseek"),
    ("qwen", "qwen"),
    ("qwq", "qwen"),
    ("doubao", "doubao"),
    ("seed", "doubao"),
    ("gpt", "gpt"),
    ("chatgpt", "gpt"),
    ("o1", "gpt"),
    ("o3", "gpt"),
    ("o4", "gpt"),
    ("claude", "claude"),
    ("gemini", "gemini"),
    ("gemma", "gemini"),
    ("llama", "llama"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("glm", "glm"),
    ("chatglm", "glm"),
    ("ernie", "ernie"),
    ("baichuan", "baichuan"),
    ("internlm", "internlm"),
    ("kimi", "kimi"),
    ("moonshot", "kimi"),
    ("hunyuan", "hunyuan"),
    ("minimax", "minimax"),
    ("yi", "yi"),
    ("phi", "phi"),
    ("smollm", "smollm"),
    ("bge", "bge"),
    ("e5", "e5"),
    ("gte", "gte"),
    ("conan", "conan"),
];

/// The family in a model's name, e.g. `qwen` for `Qwen/Qwen3-8B`. A guess: of a name with several families the one first in
/// our list, though `DeepSeek-R1-Distill-Qwen-7B` is kin to both; a family in the configuration overrides it.
pub fn family_of(model: &str) -> Option<&'static str> {
    let model = model.to_lowercase();
    let words = || model.split(|c: char| !c.is_alphanumeric());
    // `qwen3`, but not `yield` for `yi`.
    let is = |word: &str, start: &str| {
        word.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    FAMILIES.iter().find(|(start, _)| words().any(|word| is(word, start))).map(|(_, family)| *family)
}

/// A family with its members by role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Family {
    /// Name of the family.
    pub family: String,
    /// Names of its members, by role.
    pub members: BTreeMap<Role, Vec<String>>,
    /// Whether it has a judge and another member, with which that judge may share errors or preferences.
    pub circular: bool,
}

/// Which models are of one family. Displays as Markdown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Families {
    /// The families, by name.
    pub families: Vec<Family>,
    /// Names of members whose family is not known.
    pub unknown: Vec<String>,
}

/// Groups models by family.
pub fn families(members: &[Member]) -> Families {
    let mut grouped: BTreeMap<&str, BTreeMap<Role, Vec<String>>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for Member { name, role, family } in members {
        match family {
            Some(family) => grouped.entry(family).or_default().entry(*role).or_default().push(name.clone()),
            None => unknown.push(name.clone()),
        }
    }
    let family = |(family, members): (&str, BTreeMap<Role, Vec<String>>)| {
        let all: usize = members.values().map(Vec::len).sum();
        Family { family: family.to_owned(), circular: members.contains_key(&Role::Judge) && all > 1, members }
    };
    Families { families: grouped.into_iter().map(family).collect(), unknown }
}

impl fmt::Display for QueryMean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}{}", self.value, bounds(self.interval, 1.0, 2))
    }
}

impl fmt::Display for FalseNegatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| existing grade | labelled positive | negative | undecided |\n|---|---|---|---|")?;
        for (name, counts) in
            [("above 0", self.graded_positive), ("0 or below", self.graded_negative), ("none", self.ungraded)]
        {
            writeln!(f, "| {name} | {} | {} | {} |", counts.positive, counts.negative, counts.undecided)?;
        }
        writeln!(f, "\n| {} queries | |\n|---|---|", self.queries)?;
        writeln!(f, "| unlabelled positives per query | {} |", self.per_query)?;
        writeln!(f, "| queries that have any | {} |", self.queries_with_any)?;
        for figure in &self.corrected {
            let name = match figure.name {
                "confirmed" => "confirmed by experts",
                _ => "unlabelled positives per query, corrected",
            };
            writeln!(f, "| {name} | {figure} |")?;
        }
        Ok(())
    }
}

impl fmt::Display for RankChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| {}, {} queries | old | new | old rank | new rank |\n|---|---|---|---|---|",
            self.measure, self.queries
        )?;
        for SystemScores { system, old, new, old_rank, new_rank } in &self.systems {
            writeln!(f, "| {system} | {old:.4} | {new:.4} | {old_rank} | {new_rank} |")?;
        }
        let tau = self.tau.map_or_else(|| "undefined".to_owned(), |tau| format!("{tau:.3}"));
        writeln!(f, "\nKendall's tau-b {tau}, largest move {} ranks.", self.largest_move)
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = Role::ALL.map(|(_, name)| name).join(" | ");
        writeln!(f, "| family | {heads} | circular |\n|---|---|---|---|---|---|")?;
        for Family { family, members, circular } in &self.families {
            write!(f, "| {family} |")?;
            for (role, _) in Role::ALL {
                write!(f, " {} |", members.get(&role).map(|names| names.join(", ")).unwrap_or_default())?;
            }
            writeln!(f, " {} |", if *circular { "yes" } else { "" })?;
        }
        if !self.unknown.is_empty() {
            writeln!(f, "\nFamily not known: {}.", self.unknown.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::ballots::table;
    use crate::resolve::{Outcome, label};
    use crate::scale::Scale;

    fn pair(query: &str, document: &str, grade: Option<i32>) -> Pair {
        Pair {
            query_id: query.into(),
            doc_id: document.into(),
            query: "q".into(),
            document: "d".into(),
            positive: None,
            group: None,
            grade,
            systems: vec![],
        }
    }

    #[test]
    fn unlabelled_positives_are_counted_and_corrected() {
        let pairs = [
            pair("q1", "a", Some(1)),
            pair("q1", "b", None),
            pair("q1", "c", None),
            pair("q1", "d", None),
            pair("q2", "a", Some(2)),
            pair("q2", "b", Some(0)),
            pair("q2", "c", None),
            pair("q2", "d", None),
        ];
        use Outcome::{Disputed, Negative, Positive};
        let labels = [
            label("q1", "a", Positive),
            label("q1", "b", Positive),
            label("q1", "c", Positive),
            label("q1", "d", Negative),
            label("q2", "a", Negative),
            label("q2", "b", Positive),
            label("q2", "c", Negative),
            label("q2", "d", Disputed),
        ];
        let options = IntervalOptions::default().with_resamples(200);
        let nothing = HashMap::new();
        let found = false_negatives(&pairs, &labels, &nothing, None, &options).expect("an audit");
        assert_eq!((found.per_query.value, found.queries_with_any.value, found.queries), (1.0, 0.5, 2));
        assert_eq!(found.per_query.interval, Some(Interval { low: 0.0, high: 2.0 }));
        assert_eq!(found.ungraded, OutcomeCounts { positive: 2, negative: 2, undecided: 1 });
        assert_eq!((found.graded_negative.positive, found.graded_positive.negative), (1, 1));
        assert!(found.corrected.is_empty());
        // All are checked: one of two is confirmed, and one of the negatives is positive.
        let checked =
            HashMap::from([(("q1", "b"), true), (("q1", "c"), false), (("q1", "d"), true), (("q2", "c"), false)]);
        let found = false_negatives(&pairs, &labels, &checked, None, &options).expect("an audit");
        let values: Vec<f64> = found.corrected.iter().map(|figure| figure.estimate.expect("defined").value).collect();
        assert_eq!(values, [0.5, 1.0]);
        let text = found.to_string();
        assert!(
            text.contains("| none | 2 | 2 | 1 |") && text.contains("| confirmed by experts | 0.500 [0.500, 0.500] |")
        );
        let error = false_negatives(&[], &labels, &nothing, None, &options).expect_err("no pair");
        assert_eq!(error.to_string(), "no pair to audit");
    }

    #[test]
    fn labels_add_to_judgements_or_replace_them() {
        let old = Qrels::from_judgements([("q", "a", 2), ("q", "b", 0)]).expect("qrels");
        let labels = [
            label("q", "a", Outcome::Negative),
            label("q", "b", Outcome::Positive),
            label("q", "c", Outcome::Positive),
            label("q", "d", Outcome::Disputed),
        ];
        let grades = |update| {
            let qrels = relabel(&old, &labels, update).expect("qrels");
            qrels.judgements().map(|(_, document, grade)| format!("{document}{grade}")).collect::<String>()
        };
        assert_eq!(grades(Update::Add), "a2b0c1");
        assert_eq!(grades(Update::Replace), "a0b1c1");
    }

    fn systems() -> Vec<(String, Run)> {
        let run = |of: [(&str, &str, f32); 4]| Run::from_scores(of).expect("a run");
        vec![
            ("near".into(), run([("q0", "d0", 3.0), ("q0", "x", 2.0), ("q1", "d1", 1.0), ("q1", "x", 2.0)])),
            ("far".into(), run([("q0", "d0", 1.0), ("q0", "x", 2.0), ("q1", "d1", 3.0), ("q1", "x", 2.0)])),
        ]
    }

    #[test]
    fn systems_are_ranked_under_both_qrels_over_the_same_queries() {
        let old = Qrels::from_judgements([("q0", "d0", 1), ("q9", "d9", 1)]).expect("qrels");
        let new = Qrels::from_judgements([("q0", "d0", 0), ("q0", "x", 1), ("q1", "d1", 1)]).expect("qrels");
        let measure: Measure = "mrr@10".parse().expect("a measure");
        let change = compare_systems(&systems(), &old, &new, measure).expect("compared");
        assert_eq!((change.queries, change.other_queries, change.largest_move, change.tau), (1, 2, 1, Some(-1.0)));
        let first = &change.systems[0];
        assert_eq!((first.system.as_str(), first.old, first.new, first.old_rank), ("far", 0.5, 1.0, 2));
        assert!(change.to_string().contains("| far | 0.5000 | 1.0000 | 2 | 1 |"), "{change}");
        let other = Qrels::from_judgements([("q5", "d0", 1)]).expect("qrels");
        let error = compare_systems(&systems(), &old, &other, measure).expect_err("nothing in common");
        assert_eq!(error.to_string(), "no query is judged in both qrels");
        let twice = [systems(), systems()].concat();
        assert!(compare_systems(&twice, &old, &new, measure).expect_err("twice").to_string().contains("a name twice"));
    }

    #[test]
    fn without_a_judge_the_ranking_may_change() {
        // Judge 2 alone keeps the first pair from being positive.
        let rows: [&[Option<i32>]; 2] = [&[Some(1), Some(1), Some(0)], &[Some(0), Some(0), Some(0)]];
        let ballots = table(Scale::new(0, 1, 1).expect("two points"), &rows);
        let measure: Measure = "mrr@10".parse().expect("a measure");
        let base = Qrels::from_judgements([("q0", "x", 1), ("q1", "x", 1)]).expect("qrels");
        let options = ResolveOptions::default().with_min_votes(3);
        let without =
            leave_one_out(&ballots, Rule::Unanimous, &options, &base, Update::Add, &systems(), measure).expect("three");
        let summary: Vec<_> = without.iter().map(|w| (w.judge.as_str(), w.positive, w.changed)).collect();
        assert_eq!(summary, [("j0", 0, 0), ("j1", 0, 0), ("j2", 1, 1)]);
        // With `d0` positive, both systems find a relevant document first for q0.
        let scores: Vec<_> = without[2].systems.systems.iter().map(|s| (s.system.as_str(), s.old, s.new)).collect();
        assert_eq!(scores, [("near", 0.75, 1.0), ("far", 0.75, 0.75)]);
        let one = table(Scale::new(0, 1, 1).expect("two points"), &[&[Some(1)]]);
        assert!(
            leave_one_out(&one, Rule::Mean, &ResolveOptions::default(), &base, Update::Add, &systems(), measure)
                .is_err()
        );
    }

    #[test]
    fn families_are_found_in_names_and_joined() {
        for (model, family) in [
            ("Qwen/Qwen3-8B", Some("qwen")),
            ("gte-Qwen2-1.5B-instruct", Some("qwen")),
            ("doubao-1-5-pro-32k", Some("doubao")),
            ("gpt-4o-2024-08-06", Some("gpt")),
            ("o3-mini", Some("gpt")),
            ("BAAI/bge-large-zh-v1.5", Some("bge")),
            ("yield-model", None),
            ("Med-Emb-8B", None),
        ] {
            assert_eq!(family_of(model), family, "{model}");
        }
        let members = [
            Member::new("deepseek", Role::Judge, "deepseek-chat", None),
            Member::new("local", Role::Judge, "model.gguf", Some("Qwen")),
            Member::new("care-4b", Role::System, "x", Some("qwen")),
            Member::new("bm25", Role::System, "bm25", None),
        ];
        let found = families(&members);
        assert_eq!(
            found.to_string(),
            "| family | judges | generators | teachers | systems | circular |\n|---|---|---|---|---|---|\n\
             | deepseek | deepseek |  |  |  |  |\n| qwen | local |  |  | care-4b | yes |\n\nFamily not known: bm25.\n"
        );
    }
}
