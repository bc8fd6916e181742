//! Simulates the making of a benchmark whose truth is known: three judges with known error rates, and an expert who checks
//! some of the pairs. Prints how often the intervals cover the truth, and what each rule makes of the votes.
//!
//! ```sh
//! cargo run --release -p care-label --example simulation -- cmedteb/data/mini/qrels/train.tsv
//! ```
//!
//! The argument is a qrels file in BEIR or TREC form; a second one the number of repetitions.
#![allow(clippy::print_stdout, reason = "a program")]

use std::collections::{BTreeSet, HashMap};

use care_core::Result;
use care_eval::Qrels;
use care_eval::agreement::IntervalOptions;
use care_eval::stats::Interval;
use care_label::agree::{Checked, ExpertScore, agree};
use care_label::audit::false_negatives;
use care_label::ballots::{Ballot, Ballots};
use care_label::resolve::{Outcome, ResolveOptions, Rule, accuracies, resolve};
use care_label::{Pair, Scale, State};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sensitivity and specificity of each judge.
const JUDGES: [(&str, f64, f64); 3] = [("a", 0.90, 0.86), ("b", 0.86, 0.85), ("c", 0.80, 0.80)];

/// What is simulated.
pub struct Settings {
    /// Documents in the pool of each query.
    pub depth: usize,
    /// Share of the positives that the existing benchmark knows.
    pub known: f64,
    /// Probability that one draw decides for all judges whether they err, so that the worse ones err with the better.
    pub shared: f64,
    /// Pairs that the expert checks, drawn evenly from those with a label.
    pub checked: usize,
    /// Repetitions, with other votes and samples.
    pub repetitions: u64,
}

/// A figure over all repetitions.
#[derive(Default)]
pub struct Coverage {
    /// The true value, mean over repetitions.
    pub truth: f64,
    /// The estimate, mean over repetitions.
    pub estimate: f64,
    /// Share of the 95 % intervals with the true value.
    pub covered: f64,
}

/// What a rule makes of the votes: means over repetitions.
pub struct RuleQuality {
    /// Name of the rule.
    pub rule: String,
    /// Share of positives among pairs labelled positive.
    pub precision: f64,
    /// Share of pairs labelled positive among positives; disputed ones are missed.
    pub recall: f64,
    /// Share of pairs that are disputed.
    pub disputed: f64,
}

impl RuleQuality {
    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        2.0 * self.precision * self.recall / (self.precision + self.recall)
    }
}

/// The figures of a simulation: pairs, coverage by name, and the rules.
pub type Simulated = (usize, Vec<(&'static str, Coverage)>, Vec<RuleQuality>);

#[allow(dead_code, reason = "tests use the rest of this file")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "cmedteb/data/mini/qrels/train.tsv".into());
    let repetitions = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(200);
    let qrels = care_eval::io::read_qrels(&path)
        .map_err(|e| care_core::Error::new(care_core::ErrorKind::Format, e.to_string()).with_source(e))?;
    for (name, shared) in [("independent errors", 0.0), ("a third of the errors shared", 1.0 / 3.0)] {
        let settings = Settings { depth: 30, known: 0.5, shared, checked: 5000, repetitions };
        let (pairs, coverage, rules) = simulate(&qrels, &settings)?;
        println!("\n{name}: {pairs} pairs, {} checked, {repetitions} repetitions\n", settings.checked);
        println!("| unanimous rule | truth | estimate | 95 % intervals with the truth |\n|---|---|---|---|");
        for (name, Coverage { truth, estimate, covered }) in coverage {
            println!("| {name} | {truth:.3} | {estimate:.3} | {:.1} % |", 100.0 * covered);
        }
        println!("\n| rule | precision | recall | F1 | disputed |\n|---|---|---|---|---|");
        for rule in rules {
            let RuleQuality { rule: name, precision, recall, disputed } = &rule;
            println!("| {name} | {precision:.3} | {recall:.3} | {:.3} | {:.1} % |", rule.f1(), 100.0 * disputed);
        }
    }
    Ok(())
}

/// A true value, its estimate and the interval.
type Found = (f64, f64, Interval);

/// Runs a simulation on judgements that are taken as the truth.
///
/// # Errors
/// If no labelled pair is checked.
pub fn simulate(truth: &Qrels, settings: &Settings) -> Result<Simulated> {
    let scale = Scale::new(1, 5, 4)?;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let pool = pool(truth, settings, &mut rng);
    let options = IntervalOptions::default().with_resamples(0);
    let mut figures: Vec<(&'static str, Vec<Found>)> =
        ["precision", "recall", "positive rate", "kappa", "unlabelled positives per query"]
            .map(|name| (name, Vec::new()))
            .into();
    let mut rules: Vec<RuleQuality> = Vec::new();
    for repetition in 0..settings.repetitions {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + repetition);
        let ballots = votes(&pool, scale, settings.shared, &mut rng)?;
        let labels = resolve(&ballots, Rule::Unanimous, &ResolveOptions::default())?.labels;
        let mut decided: Vec<usize> = (0..labels.len()).filter(|at| labels[*at].outcome.decided().is_some()).collect();
        let counts = Counts::of(decided.iter().map(|at| (labels[*at].outcome, pool[*at].1)));

        decided.shuffle(&mut rng);
        let sample = &decided[..settings.checked.min(decided.len())];
        let experts: Vec<ExpertScore> = sample.iter().map(|at| checked(&pool[*at])).collect();
        let report = agree(&Checked::new(scale, &labels, &experts), &options)?;
        let corrected = |at: usize| report.corrected[at].estimate.map(|c| (c.value, c.interval));
        let kappa = report.groups[0].figures[1].estimate.and_then(|kappa| Some((kappa.value, kappa.interval?)));

        let positive: HashMap<(&str, &str), bool> = sample.iter().map(|at| (pool[*at].0.id(), pool[*at].1)).collect();
        let pairs: Vec<Pair> = pool.iter().map(|(pair, _)| pair.clone()).collect();
        let audit = false_negatives(&pairs, &labels, &positive, None, &options)?;
        let missed = audit.corrected[1].estimate.map(|c| (c.value, c.interval));
        let unlabelled = decided.iter().filter(|at| pool[**at].1 && pool[**at].0.grade.is_none()).count();

        let estimates = [
            (counts.precision(), corrected(0)),
            (counts.recall(), corrected(1)),
            (counts.positive_rate(), corrected(2)),
            (counts.kappa(), kappa),
            (unlabelled as f64 / audit.queries as f64, missed),
        ];
        for ((_, figures), (truth, found)) in figures.iter_mut().zip(estimates) {
            figures.extend(found.map(|(value, interval)| (truth, value, interval)));
        }
        qualities(&ballots, &pool, &positive, &mut rules)?;
    }
    let repetitions = settings.repetitions as f64;
    for rule in &mut rules {
        rule.precision /= repetitions;
        rule.recall /= repetitions;
        rule.disputed /= repetitions;
    }
    let coverage = figures.into_iter().map(|(name, found)| {
        let mean = |of: &dyn Fn(&Found) -> f64| found.iter().map(of).sum::<f64>() / repetitions;
        let truth = mean(&|(truth, _, _)| *truth);
        // The interval of a kappa is about the judges, of which these votes are one draw; all others are about the pairs.
        let target = |of: f64| if name == "kappa" { truth } else { of };
        let covered = mean(&|(of, _, i)| f64::from(u8::from(i.low <= target(*of) && target(*of) <= i.high)));
        (name, Coverage { truth, estimate: mean(&|(_, value, _)| *value), covered })
    });
    Ok((pool.len(), coverage.collect(), rules))
}

/// Each query's positives and random other documents, with the truth. Of the positives, the existing benchmark has some.
fn pool(truth: &Qrels, settings: &Settings, rng: &mut ChaCha8Rng) -> Vec<(Pair, bool)> {
    let all: BTreeSet<&str> = truth.judgements().map(|(_, document, _)| document).collect();
    let all: Vec<&str> = all.into_iter().collect();
    let mut pool = Vec::new();
    for (query, _) in truth.iter() {
        let positives: BTreeSet<&str> = truth.relevant(query).map(|(document, _)| document).collect();
        let mut documents = positives.clone();
        while documents.len() < settings.depth.min(all.len()) {
            documents.insert(all[rng.random_range(0..all.len())]);
        }
        for document in documents {
            let positive = positives.contains(document);
            let grade = (positive && rng.random::<f64>() < settings.known).then_some(1);
            let (query_id, doc_id) = (query.to_owned(), document.to_owned());
            let (query, document) = (query_id.clone(), doc_id.clone());
            let (positive_text, group, systems) = (None, None, vec![]);
            pool.push((
                Pair { query_id, doc_id, query, document, positive: positive_text, group, grade, systems },
                positive,
            ));
        }
    }
    pool
}

fn votes(pool: &[(Pair, bool)], scale: Scale, shared: f64, rng: &mut ChaCha8Rng) -> Result<Ballots> {
    let mut builder = Ballots::builder(scale);
    for (pair, positive) in pool {
        let common = (rng.random::<f64>() < shared).then(|| rng.random::<f64>());
        for (judge, sensitivity, specificity) in JUDGES {
            let right = common.unwrap_or_else(|| rng.random()) < if *positive { sensitivity } else { specificity };
            let score = if right == *positive { rng.random_range(4..=5) } else { rng.random_range(1..=3) };
            builder.add(&Ballot {
                key: None,
                judge: judge.into(),
                model: judge.into(),
                prompt: "simulated".into(),
                query_id: pair.query_id.clone(),
                doc_id: pair.doc_id.clone(),
                sample: 0,
                attempt: 1,
                state: State::Scored,
                score: Some(score),
            })?;
        }
    }
    builder.finish()
}

fn checked((pair, positive): &(Pair, bool)) -> ExpertScore {
    let (query_id, doc_id) = (pair.query_id.clone(), pair.doc_id.clone());
    ExpertScore { expert: "expert".into(), query_id, doc_id, score: if *positive { 5 } else { 1 } }
}

/// Adds the quality of each rule to the sums.
fn qualities(
    ballots: &Ballots,
    pool: &[(Pair, bool)],
    checked: &HashMap<(&str, &str), bool>,
    sums: &mut Vec<RuleQuality>,
) -> Result<()> {
    let plain = ResolveOptions::default();
    let by_experts = plain.clone().with_accuracies(accuracies(ballots, checked)?);
    let mut rules: Vec<(String, Rule, &ResolveOptions)> = Rule::ALL.map(|rule| (rule.to_string(), rule, &plain)).into();
    rules.push(("weighted, by experts".into(), Rule::Weighted, &by_experts));
    for (at, (name, rule, options)) in rules.into_iter().enumerate() {
        let labels = resolve(ballots, rule, options)?.labels;
        let counts = Counts::of(labels.iter().zip(pool).map(|(label, (_, positive))| (label.outcome, *positive)));
        if sums.len() == at {
            sums.push(RuleQuality { rule: name, precision: 0.0, recall: 0.0, disputed: 0.0 });
        }
        sums[at].precision += counts.precision();
        sums[at].recall += counts.recall();
        sums[at].disputed += counts.disputed / labels.len() as f64;
    }
    Ok(())
}

/// Labels against the truth.
#[derive(Default)]
struct Counts {
    /// By label, then by truth.
    decided: [[f64; 2]; 2],
    disputed: f64,
    disputed_positive: f64,
}

impl Counts {
    fn of(pairs: impl Iterator<Item = (Outcome, bool)>) -> Self {
        let mut counts = Self::default();
        for (outcome, truth) in pairs {
            match outcome.decided() {
                Some(label) => counts.decided[usize::from(label)][usize::from(truth)] += 1.0,
                None => {
                    counts.disputed += 1.0;
                    counts.disputed_positive += f64::from(u8::from(truth));
                }
            }
        }
        counts
    }

    fn precision(&self) -> f64 {
        self.decided[1][1] / (self.decided[1][0] + self.decided[1][1])
    }

    fn recall(&self) -> f64 {
        self.decided[1][1] / (self.decided[0][1] + self.decided[1][1] + self.disputed_positive)
    }

    fn all(&self) -> f64 {
        self.decided.iter().flatten().sum()
    }

    fn positive_rate(&self) -> f64 {
        (self.decided[0][1] + self.decided[1][1]) / self.all()
    }

    /// Fleiss' kappa of labels and truth.
    fn kappa(&self) -> f64 {
        let all = self.all();
        let labels = (self.decided[1][0] + self.decided[1][1]) / all;
        let share = (labels + self.positive_rate()) / 2.0;
        let chance = share * share + (1.0 - share) * (1.0 - share);
        ((self.decided[0][0] + self.decided[1][1]) / all - chance) / (1.0 - chance)
    }
}
