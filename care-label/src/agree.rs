//! Agreement: how far the labels of judges are those of experts, and what they are worth where no expert looked.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use care_core::{Error, ErrorKind, Result};
use care_eval::agreement::{
    Coefficient, Confusion, Corrected, Estimate, ExpertSample, IntervalOptions, Level, Ratings, Weights,
};
use care_eval::stats::Interval;
use serde::{Deserialize, Serialize};

use crate::ballots::Ballots;
use crate::resolve::Label;
use crate::scale::Scale;

/// An expert's score of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertScore {
    /// Name of the expert.
    pub expert: String,
    /// Id of the query.
    pub query_id: String,
    /// Id of the document.
    pub doc_id: String,
    /// The score, a point of the scale.
    pub score: i32,
}

/// A value for pairs, by the ids of query and document.
pub type ByPair<'a, T> = HashMap<(&'a str, &'a str), T>;

/// What is compared.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Checked<'a> {
    /// The points of judges and experts.
    pub scale: Scale,
    /// The labels of all pairs, by judges alone. Those that experts have decided cannot be compared with experts.
    pub labels: &'a [Label],
    /// What the experts found.
    pub experts: &'a [ExpertScore],
    /// The judges' votes. Default none: judges are not compared one by one.
    pub ballots: Option<&'a Ballots>,
    /// Final scores of pairs that experts disputed. For others, the median of the experts counts, of an even number the
    /// lower one in the middle. Default none.
    pub adjudicated: ByPair<'a, i32>,
    /// The stratum of every label, if the sample was stratified. Default: the sample was drawn evenly from all pairs.
    pub strata: Option<ByPair<'a, String>>,
}

impl<'a> Checked<'a> {
    /// Labels and experts' scores of a sample that was drawn evenly.
    pub fn new(scale: Scale, labels: &'a [Label], experts: &'a [ExpertScore]) -> Self {
        Self { scale, labels, experts, ballots: None, adjudicated: HashMap::new(), strata: None }
    }

    /// Sets [`ballots`](Self::ballots).
    #[must_use]
    pub fn with_ballots(self, ballots: &'a Ballots) -> Self {
        Self { ballots: Some(ballots), ..self }
    }

    /// Sets [`adjudicated`](Self::adjudicated).
    #[must_use]
    pub fn with_adjudicated(self, adjudicated: ByPair<'a, i32>) -> Self {
        Self { adjudicated, ..self }
    }

    /// Sets [`strata`](Self::strata).
    #[must_use]
    pub fn with_strata(self, strata: ByPair<'a, String>) -> Self {
        Self { strata: Some(strata), ..self }
    }

    /// What the experts found for each checked pair: the adjudicated score, or else their lower median.
    ///
    /// # Errors
    /// If a score is off the scale, or an expert scores a pair twice.
    pub fn truth(&self) -> Result<ByPair<'a, i32>> {
        let mut scores: ByPair<'a, Vec<(&str, i32)>> = HashMap::new();
        for ExpertScore { expert, query_id, doc_id, score } in self.experts {
            let refuse = |problem: String| {
                let problem = format!("expert `{expert}`, pair `{query_id}`, `{doc_id}`: {problem}");
                Err(Error::new(ErrorKind::Format, problem))
            };
            if !self.scale.contains(*score) {
                return refuse(format!("the score {score} is off the scale, {} to {}", self.scale.min, self.scale.max));
            }
            let of_pair = scores.entry((query_id, doc_id)).or_default();
            if of_pair.iter().any(|(other, _)| other == expert) {
                return refuse("scored twice".into());
            }
            of_pair.push((expert, *score));
        }
        let median = |(pair, mut scores): ((&'a str, &'a str), Vec<(&str, i32)>)| {
            scores.sort_unstable_by_key(|(_, score)| *score);
            let median = scores[(scores.len() - 1) / 2].1;
            (pair, self.adjudicated.get(&pair).copied().unwrap_or(median))
        };
        Ok(scores.into_iter().map(median).collect())
    }
}

/// How far labels, judges and experts agree. Displays as Markdown.
///
/// Coefficients are those of the pairs that experts have checked, as the sample was drawn; of a sample with more disputed
/// pairs than there are, agreement is lower than among all pairs. [`Agreement::corrected`] accounts for strata.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Agreement {
    /// Pairs that experts have checked.
    pub checked: usize,
    /// Checked pairs without a label by judges, because they are disputed or incomplete: no rating, in no coefficient.
    pub undecided: usize,
    /// Level of all intervals.
    pub level: f64,
    /// Coefficients of groups of raters.
    pub groups: Vec<Group>,
    /// Cohen's kappa of every two raters.
    pub pairwise: Vec<Pairwise>,
    /// Each judge against the experts' score.
    pub judges: Vec<JudgeAgreement>,
    /// Labels (rows; 0 negative, 1 positive) and experts (columns).
    pub confusion: Confusion,
    /// The labels of all pairs, corrected by the checked ones.
    pub corrected: Vec<CorrectedFigure>,
    /// What to keep in mind, one sentence each.
    pub warnings: Vec<String>,
}

/// Coefficients of several raters on the same pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Group {
    /// Who is compared, and on what.
    pub name: String,
    /// The coefficients.
    pub figures: Vec<Figure>,
}

/// A coefficient, or why it is undefined.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Figure {
    /// Name as in care-eval, e.g. `fleiss_kappa(identity)`.
    pub name: String,
    /// The coefficient with its intervals.
    pub estimate: Option<Estimate>,
    /// Why there is none, e.g. because all ratings are equal.
    pub undefined: Option<String>,
}

/// Two raters.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pairwise {
    /// One rater.
    pub first: String,
    /// The other.
    pub second: String,
    /// Cohen's kappa of negative and positive.
    pub binary: Figure,
    /// Cohen's kappa of the points with quadratic weights; absent for the labels, which have none.
    pub points: Option<Figure>,
}

/// A judge against the experts' score.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JudgeAgreement {
    /// Name of the judge.
    pub judge: String,
    /// Coefficients of negative and positive, and of the points.
    pub figures: Vec<Figure>,
    /// Share of the positive pairs that it finds positive; `None` without a positive pair.
    pub sensitivity: Option<f64>,
    /// Share of the negative pairs that it finds negative; `None` without a negative pair.
    pub specificity: Option<f64>,
    /// Its points (rows) and the experts' (columns).
    pub confusion: Confusion,
}

/// A quantity of all labels, as experts would find it, or why it is undefined.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CorrectedFigure {
    /// `precision`, `recall`, `positive_rate` or `agreement`.
    pub name: &'static str,
    /// The estimate.
    pub estimate: Option<Corrected>,
    /// Why there is none, e.g. because nobody has checked a stratum.
    pub undefined: Option<String>,
}

/// Compares labels, judges and experts.
///
/// # Errors
/// If a label is the experts' own, a score is off the scale, an expert scores a pair twice, no checked pair has a label, a
/// label has no stratum, or the level of `options` is not in `(0, 1)`.
pub fn agree(input: &Checked<'_>, options: &IntervalOptions) -> Result<Agreement> {
    if let Some(label) = input.labels.iter().find(|label| label.expert) {
        let (query, document) = label.id();
        let problem =
            format!("the label of `{query}`, `{document}` is the experts' own; compare the labels by judges alone");
        return Err(Error::new(ErrorKind::Format, problem));
    }
    let tables = Tables::new(input)?;
    if tables.undecided == tables.truth.len() {
        return Err(Error::new(ErrorKind::Format, "no pair that experts have checked has a label"));
    }
    let (experts, judges) = (tables.experts.len(), tables.judges.len());
    // Columns: experts, judges, labels, the experts' joint score.
    let (labels, joint) = (experts + judges, experts + judges + 1);
    let binary = |columns: &[usize]| eval(tables.binary.select(columns));
    let points = |columns: &[usize]| eval(tables.points.select(columns));
    let mut groups = vec![Group {
        name: "labels and experts, negative and positive".into(),
        figures: figures(&binary(&[labels, joint])?, &with_cohen(NOMINAL), options)?,
    }];
    let all_experts: Vec<usize> = (0..experts).collect();
    if experts > 1 {
        let with_labels: Vec<usize> = all_experts.iter().copied().chain([labels]).collect();
        for (name, table, coefficients) in [
            ("experts, negative and positive", binary(&all_experts)?, NOMINAL),
            ("experts, points", points(&all_experts)?, ORDINAL),
            ("experts and labels, negative and positive", binary(&with_labels)?, NOMINAL),
        ] {
            groups.push(Group { name: name.into(), figures: figures(&table, coefficients, options)? });
        }
    }
    if let Some(ballots) = input.ballots.filter(|ballots| ballots.judges().len() > 1) {
        let number = ballots.judges().len();
        let (mut of_pairs, mut of_points) = (Ratings::new(number), Ratings::new(number));
        let (mut signs, mut row_points) = (Vec::new(), Vec::new());
        for row in 0..ballots.len() {
            row_points.clear();
            row_points.extend(ballots.points(row).map(|point| point.map(f64::from)));
            signs.clear();
            signs.extend(ballots.scores(row).map(|score| score.map(|score| sign(ballots.is_positive(score)))));
            eval(of_points.push(&row_points))?;
            eval(of_pairs.push(&signs))?;
        }
        let (of_pairs, of_points) = (declared_binary(of_pairs)?, declared(of_points, input.scale)?);
        groups.push(Group {
            name: "judges on all pairs, negative and positive".into(),
            figures: figures(&of_pairs, NOMINAL, options)?,
        });
        groups.push(Group {
            name: "judges on all pairs, points".into(),
            figures: figures(&of_points, ORDINAL, options)?,
        });
    }
    let confusion = eval(Confusion::new(&tables.binary, labels, joint))?;
    Ok(Agreement {
        checked: tables.truth.len(),
        undecided: tables.undecided,
        level: options.level,
        groups,
        pairwise: pairwise(&tables, options)?,
        judges: (0..judges).map(|judge| of_judge(&tables, judge, options)).collect::<Result<_>>()?,
        corrected: corrected(input, &tables.truth, options)?,
        warnings: rare_errors(&confusion),
        confusion,
    })
}

/// Intervals of rates near 0 or 1 need some errors: from none they have no width, from a few too little.
fn rare_errors(confusion: &Confusion) -> Vec<String> {
    let errors = |label: usize, name: &str, of: &str| {
        let checked: u64 = confusion.counts[label].iter().sum();
        let wrong = confusion.counts[label][1 - label];
        (checked > 0 && wrong < 5).then(|| {
            let most = (3.0 / checked as f64).min(1.0);
            let rule = if wrong == 0 { format!(" (a rate of up to {most:.3} at 95 %)") } else { String::new() };
            format!(
                "experts refute {wrong} of {checked} checked {name} labels{rule}: with fewer than 5, the interval of {of} \
                 is too short"
            )
        })
    };
    [errors(1, "positive", "precision"), errors(0, "negative", "recall")].into_iter().flatten().collect()
}

const NOMINAL: &[Coefficient] = &[
    Coefficient::PercentAgreement(Weights::Identity),
    Coefficient::Fleiss(Weights::Identity),
    Coefficient::Krippendorff(Level::Nominal),
    Coefficient::Gwet(Weights::Identity),
];

const ORDINAL: &[Coefficient] = &[
    Coefficient::PercentAgreement(Weights::Identity),
    Coefficient::Fleiss(Weights::Quadratic),
    Coefficient::Krippendorff(Level::Ordinal),
    Coefficient::Gwet(Weights::Quadratic),
];

fn with_cohen(coefficients: &[Coefficient]) -> Vec<Coefficient> {
    coefficients.iter().copied().chain([Coefficient::Cohen(Weights::Identity)]).collect()
}

/// The checked pairs as tables. Columns: experts, judges, labels, the experts' joint score.
struct Tables<'a> {
    experts: Vec<&'a str>,
    judges: Vec<&'a str>,
    truth: ByPair<'a, i32>,
    /// 0 is negative, 1 positive.
    binary: Ratings,
    points: Ratings,
    undecided: usize,
}

impl<'a> Tables<'a> {
    fn new(input: &Checked<'a>) -> Result<Self> {
        let truth = input.truth()?;
        let mut experts: Vec<&'a str> = Vec::new();
        let mut scores: ByPair<'a, BTreeMap<usize, i32>> = HashMap::new();
        for ExpertScore { expert, query_id, doc_id, score } in input.experts {
            let column = experts.iter().position(|name| name == expert).unwrap_or_else(|| {
                experts.push(expert);
                experts.len() - 1
            });
            scores.entry((query_id, doc_id)).or_default().insert(column, *score);
        }
        let judges: Vec<&'a str> = match input.ballots {
            Some(ballots) => ballots.judges().iter().map(|judging| judging.judge.as_str()).collect(),
            None => Vec::new(),
        };
        let of_truth = |pair: &(&str, &str)| truth.contains_key(pair);
        let labels = input.labels.iter().filter(|label| of_truth(&label.id()));
        let labels: ByPair<'_, Option<bool>> = labels.map(|label| (label.id(), label.outcome.decided())).collect();
        let rows: ByPair<'_, usize> = input
            .ballots
            .map(|ballots| {
                let all = (0..ballots.len()).map(|row| (ballots.pair(row), row));
                all.filter(|(pair, _)| of_truth(pair)).collect()
            })
            .unwrap_or_default();
        let columns = experts.len() + judges.len() + 2;
        let (mut binary, mut points, mut undecided) = (Ratings::new(columns), Ratings::new(columns), 0);
        for (pair, score) in &truth {
            let label = labels.get(pair).copied().flatten();
            undecided += usize::from(label.is_none());
            let mut row: Vec<Option<i32>> = (0..experts.len()).map(|at| scores[pair].get(&at).copied()).collect();
            match (input.ballots, rows.get(pair)) {
                (Some(ballots), Some(at)) => row.extend(ballots.points(*at)),
                _ => row.extend(judges.iter().map(|_| None)),
            }
            row.extend([None, Some(*score)]);
            eval(points.push(&row.iter().map(|point| point.map(f64::from)).collect::<Vec<_>>()))?;
            let mut signs: Vec<Option<f64>> =
                row.iter().map(|point| point.map(|point| sign(input.scale.is_positive(point)))).collect();
            signs[columns - 2] = label.map(sign);
            eval(binary.push(&signs))?;
        }
        let (binary, points) = (declared_binary(binary)?, declared(points, input.scale)?);
        Ok(Self { experts, judges, truth, binary, points, undecided })
    }
}

pub(crate) fn sign(positive: bool) -> f64 {
    f64::from(u8::from(positive))
}

fn declared(ratings: Ratings, scale: Scale) -> Result<Ratings> {
    eval(ratings.with_categories(scale.points().map(f64::from)))
}

fn declared_binary(ratings: Ratings) -> Result<Ratings> {
    eval(ratings.with_categories([0.0, 1.0]))
}

fn figures(ratings: &Ratings, coefficients: &[Coefficient], options: &IntervalOptions) -> Result<Vec<Figure>> {
    coefficients.iter().map(|coefficient| figure(ratings, *coefficient, options)).collect()
}

fn figure(ratings: &Ratings, coefficient: Coefficient, options: &IntervalOptions) -> Result<Figure> {
    let (estimate, undefined) = defined(coefficient.estimate(ratings, options))?;
    Ok(Figure { name: coefficient.to_string(), estimate, undefined })
}

/// The estimate, or why it is undefined; other errors are errors.
pub(crate) fn defined<T>(estimate: care_eval::Result<T>) -> Result<(Option<T>, Option<String>)> {
    use care_eval::ErrorKind::{Agreement, Sample};
    match estimate {
        Ok(estimate) => Ok((Some(estimate), None)),
        Err(e) if matches!(e.kind(), Agreement | Sample) => Ok((None, Some(e.to_string()))),
        Err(e) => eval(Err(e)),
    }
}

fn pairwise(tables: &Tables<'_>, options: &IntervalOptions) -> Result<Vec<Pairwise>> {
    let labels = tables.experts.len() + tables.judges.len();
    let names: Vec<&str> = tables.experts.iter().chain(&tables.judges).copied().chain(["labels"]).collect();
    let mut pairs = Vec::new();
    for (first, name) in names.iter().enumerate() {
        for (second, other) in names.iter().enumerate().skip(first + 1) {
            let cohen = |table: &Ratings, weights| {
                figure(&eval(table.select(&[first, second]))?, Coefficient::Cohen(weights), options)
            };
            let points = (second != labels).then(|| cohen(&tables.points, Weights::Quadratic)).transpose()?;
            let binary = cohen(&tables.binary, Weights::Identity)?;
            pairs.push(Pairwise { first: (*name).into(), second: (*other).into(), binary, points });
        }
    }
    Ok(pairs)
}

fn of_judge(tables: &Tables<'_>, judge: usize, options: &IntervalOptions) -> Result<JudgeAgreement> {
    let (column, joint) = (tables.experts.len() + judge, tables.experts.len() + tables.judges.len() + 1);
    let binary = eval(tables.binary.select(&[column, joint]))?;
    let points = eval(tables.points.select(&[column, joint]))?;
    let mut of_judge = figures(&binary, &with_cohen(NOMINAL), options)?;
    of_judge.push(figure(&points, Coefficient::Cohen(Weights::Quadratic), options)?);
    let signs = eval(Confusion::new(&binary, 0, 1))?;
    let share = |class: usize| {
        let all = signs.counts[0][class] + signs.counts[1][class];
        (all > 0).then(|| signs.counts[class][class] as f64 / all as f64)
    };
    Ok(JudgeAgreement {
        judge: tables.judges[judge].to_owned(),
        figures: of_judge,
        sensitivity: share(1),
        specificity: share(0),
        confusion: eval(Confusion::new(&points, 0, 1))?,
    })
}

/// The population is all pairs with a decided label.
fn corrected(input: &Checked<'_>, truth: &ByPair<'_, i32>, options: &IntervalOptions) -> Result<Vec<CorrectedFigure>> {
    let truth = truth.iter().map(|(pair, score)| (*pair, input.scale.is_positive(*score))).collect();
    let strata = input.strata.as_ref();
    let sample = expert_sample(input.labels, &truth, strata, |label, found| (sign(label), sign(found)))?;
    let alike = expert_sample(input.labels, &truth, strata, |label, found| (1.0, sign(label == found)))?;
    let estimates = [
        ("precision", sample.precision(1.0, options)),
        ("recall", sample.recall(1.0, options)),
        ("positive_rate", sample.positive_rate(1.0, options)),
        ("agreement", alike.positive_rate(1.0, options)),
    ];
    let figure = |(name, estimate)| {
        let (estimate, undefined) = defined(estimate)?;
        Ok(CorrectedFigure { name, estimate, undefined })
    };
    estimates.into_iter().map(figure).collect()
}

/// The decided labels as a population, and those that experts have checked. `values` of a label and what experts found are
/// the machine's and the experts' value; the former must not depend on the latter.
///
/// Without strata, labels are parted into positive and negative ones, of which an even sample is a stratified one too.
pub(crate) fn expert_sample<'l>(
    labels: impl IntoIterator<Item = &'l Label>,
    truth: &ByPair<'_, bool>,
    strata: Option<&ByPair<'_, String>>,
    values: impl Fn(bool, bool) -> (f64, f64),
) -> Result<ExpertSample> {
    let mut sample = ExpertSample::new();
    let mut population: BTreeMap<(&str, bool), u64> = BTreeMap::new();
    for label in labels {
        let Some(positive) = label.outcome.decided() else { continue };
        let stratum = match strata {
            None if positive => "positive",
            None => "negative",
            Some(strata) => strata.get(&label.id()).ok_or_else(|| {
                let (query, document) = label.id();
                let problem = format!("the pair `{query}`, `{document}` has a label, but no stratum");
                Error::new(ErrorKind::Format, problem)
            })?,
        };
        *population.entry((stratum, positive)).or_insert(0) += 1;
        if let Some(&found) = truth.get(&label.id()) {
            let (machine, expert) = values(positive, found);
            eval(sample.check(stratum, machine, expert))?;
        }
    }
    for ((stratum, positive), pairs) in population {
        eval(sample.label(stratum, values(positive, positive).0, pairs))?;
    }
    Ok(sample)
}

pub(crate) fn eval<T>(result: care_eval::Result<T>) -> Result<T> {
    result.map_err(|e| Error::new(ErrorKind::Format, e.to_string()).with_source(e))
}

impl Agreement {
    /// The line that papers print: per cent agreement and Fleiss' kappa of labels and experts, with intervals.
    pub fn summary(&self) -> String {
        let figures = self.groups.first().map_or(&[][..], |group| &group.figures);
        let percent = match figures.first().and_then(|figure| figure.estimate) {
            Some(Estimate { value, interval, .. }) => format!("{:.1} %{}", 100.0 * value, bounds(interval, 100.0, 1)),
            None => "undefined".into(),
        };
        let kappa = figures.get(1).map_or_else(String::new, |figure| figure.to_string());
        format!("{} pairs: agreement {percent}, Fleiss' kappa {kappa}", self.checked - self.undecided)
    }
}

pub(crate) fn bounds(interval: Option<Interval>, scale: f64, digits: usize) -> String {
    interval.map_or_else(String::new, |Interval { low, high }| {
        format!(" [{:.digits$}, {:.digits$}]", scale * low, scale * high)
    })
}

impl fmt::Display for Figure {
    /// E.g. `0.731 [0.709, 0.753]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.estimate, &self.undefined) {
            (Some(Estimate { value, interval, .. }), _) => write!(f, "{value:.3}{}", bounds(*interval, 1.0, 3)),
            (None, why) => write!(f, "undefined: {}", why.as_deref().unwrap_or("no ratings")),
        }
    }
}

impl fmt::Display for CorrectedFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.estimate, &self.undefined) {
            (Some(Corrected { value, interval, .. }), _) => write!(f, "{value:.3}{}", bounds(Some(*interval), 1.0, 3)),
            (None, why) => write!(f, "undefined: {}", why.as_deref().unwrap_or("no sample")),
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checked, undecided, level, .. } = self;
        writeln!(f, "{}\n", self.summary())?;
        writeln!(
            f,
            "{checked} pairs checked, {undecided} of them without a label. Intervals: {:.0} %.",
            100.0 * level
        )?;
        for Group { name, figures } in &self.groups {
            writeln!(f, "\n**{name}**\n\n| coefficient | value | bootstrap | pairs |\n|---|---|---|---|")?;
            for figure in figures {
                let estimate = figure.estimate;
                let bootstrap = bounds(estimate.and_then(|estimate| estimate.bootstrap), 1.0, 3);
                let units = estimate.map_or_else(String::new, |estimate| estimate.units.to_string());
                writeln!(f, "| {} | {figure} | {} | {units} |", figure.name, bootstrap.trim())?;
            }
        }
        writeln!(
            f,
            "\n**all labels, corrected by the checked pairs**\n\n| quantity | value | bootstrap |\n|---|---|---|"
        )?;
        for figure in &self.corrected {
            let bootstrap = bounds(figure.estimate.and_then(|estimate| estimate.bootstrap), 1.0, 3);
            writeln!(f, "| {} | {figure} | {} |", figure.name, bootstrap.trim())?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "\n- {warning}"))?;
        writeln!(f, "\n**labels (rows) and experts (columns)**\n\n```text\n{}```", self.confusion)?;
        writeln!(
            f,
            "\n**two raters: Cohen's kappa**\n\n| | | negative and positive | points, quadratic |\n|---|---|---|---|"
        )?;
        for Pairwise { first, second, binary, points } in &self.pairwise {
            let points = points.as_ref().map_or_else(String::new, Figure::to_string);
            writeln!(f, "| {first} | {second} | {binary} | {points} |")?;
        }
        for JudgeAgreement { judge, figures, sensitivity, specificity, confusion } in &self.judges {
            writeln!(f, "\n**judge `{judge}` and experts**\n\n| coefficient | value |\n|---|---|")?;
            figures.iter().try_for_each(|figure| writeln!(f, "| {} | {figure} |", figure.name))?;
            for (name, share) in [("sensitivity", sensitivity), ("specificity", specificity)] {
                let share = share.map_or_else(|| "undefined".into(), |share| format!("{share:.3}"));
                writeln!(f, "| {name} | {share} |")?;
            }
            writeln!(f, "\nPoints of the judge (rows) and of the experts (columns):\n\n```text\n{confusion}```")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ballots::table;
    use crate::resolve::{Outcome, ResolveOptions, Rule, resolve};

    fn five() -> Scale {
        Scale::new(1, 5, 4).expect("five points")
    }

    fn scores(of: &[(&str, usize, i32)]) -> Vec<ExpertScore> {
        let score = |(expert, row, score): &(&str, usize, i32)| ExpertScore {
            expert: (*expert).into(),
            query_id: format!("q{row}"),
            doc_id: format!("d{row}"),
            score: *score,
        };
        of.iter().map(score).collect()
    }

    fn options() -> IntervalOptions {
        IntervalOptions::default().with_resamples(50)
    }

    const ROWS: [&[Option<i32>]; 6] = [
        &[Some(5), Some(4), Some(5)],
        &[Some(5), Some(5), Some(4)],
        &[Some(1), Some(2), Some(1)],
        &[Some(2), Some(3), Some(1)],
        &[Some(1), Some(1), Some(3)],
        &[Some(5), Some(1), Some(1)],
    ];

    #[test]
    fn labels_judges_and_experts_are_compared_as_by_hand() {
        let ballots = table(five(), &ROWS);
        let labels = resolve(&ballots, Rule::Unanimous, &ResolveOptions::default()).expect("labels").labels;
        // Experts: positive, negative (4 and 2: the lower median), negative, negative, positive, and a disputed pair.
        let experts = scores(&[
            ("li", 0, 5),
            ("li", 1, 4),
            ("wu", 1, 2),
            ("li", 2, 1),
            ("wu", 2, 1),
            ("li", 3, 3),
            ("wu", 4, 5),
            ("wu", 5, 5),
        ]);
        let checked = Checked::new(five(), &labels, &experts).with_ballots(&ballots);
        let report = agree(&checked, &options()).expect("a report");
        assert_eq!((report.checked, report.undecided), (6, 1));
        assert_eq!(
            report.warnings[0],
            "experts refute 1 of 2 checked positive labels: with fewer than 5, the interval of precision is too short"
        );
        assert_eq!(report.confusion.counts, [[2, 1], [1, 1]]);
        let value = |figure: &Figure| figure.estimate.expect("defined").value;
        assert!((value(&report.groups[0].figures[0]) - 0.6).abs() < 1e-12);
        // Cohen: observed 0.6, chance 0.4 * 0.4 + 0.6 * 0.6.
        let cohen = report.groups[0].figures.last().expect("Cohen");
        assert_eq!(cohen.name, "cohen_kappa(identity)");
        assert!((value(cohen) - 0.08 / 0.48).abs() < 1e-12);
        let judge = &report.judges[0];
        assert_eq!((judge.sensitivity, judge.specificity), (Some(2.0 / 3.0), Some(2.0 / 3.0)));
        assert_eq!((report.pairwise.len(), report.groups.len()), (15, 6));
        assert!(report.pairwise[3].points.is_some() && report.pairwise[14].points.is_none());
        // Of 2 positive labels one is confirmed, of 3 negative ones two; all are checked, so nothing is uncertain.
        let corrected: Vec<_> = report.corrected.iter().map(|figure| figure.estimate.expect("defined")).collect();
        assert_eq!(corrected.iter().map(|c| c.value).collect::<Vec<_>>(), [0.5, 0.5, 0.4, 0.6]);
        assert!(corrected.iter().all(|c| c.standard_error == 0.0));
        let text = report.to_string();
        assert!(text.starts_with("5 pairs: agreement 60.0 % ["), "{text}");
        assert!(text.contains("| li | wu |") && text.contains("**judge `j2` and experts**"));
        let adjudicated = HashMap::from([(("q1", "d1"), 5)]);
        let report = agree(&checked.with_adjudicated(adjudicated), &options()).expect("a report");
        assert_eq!(report.confusion.counts, [[2, 1], [0, 2]]);
    }

    #[test]
    fn what_is_undefined_says_why() {
        let ballots = table(five(), &ROWS);
        let labels = resolve(&ballots, Rule::Unanimous, &ResolveOptions::default()).expect("labels").labels;
        let experts = scores(&[("li", 0, 5), ("li", 1, 5)]);
        let report = agree(&Checked::new(five(), &labels, &experts), &options()).expect("a report");
        let kappa = &report.groups[0].figures[1];
        assert!(kappa.estimate.is_none() && kappa.to_string().starts_with("undefined: "), "{kappa}");
        assert!(report.corrected[1].to_string().contains("none of its 3 units is checked"), "{}", report.corrected[1]);
        assert_eq!(report.pairwise.len(), 1);
        assert_eq!(
            report.warnings,
            ["experts refute 0 of 2 checked positive labels (a rate of up to 1.000 at 95 %): with fewer than 5, the \
              interval of precision is too short"]
        );
    }

    #[test]
    fn strata_weigh_what_was_sampled_more_often() {
        // 8 pairs in the stratum `easy`, of which 2 are checked and right; 4 in `hard`, 2 checked, one of them wrong.
        let labels: Vec<Label> = (0..12)
            .map(|row| crate::resolve::label(&format!("q{row}"), &format!("d{row}"), Outcome::Positive))
            .collect();
        let experts = scores(&[("li", 0, 5), ("li", 1, 5), ("li", 8, 5), ("li", 9, 1)]);
        let strata: ByPair<'_, String> = labels
            .iter()
            .enumerate()
            .map(|(row, label)| (label.id(), if row < 8 { "easy" } else { "hard" }.to_owned()))
            .collect();
        let checked = Checked::new(five(), &labels, &experts).with_strata(strata.clone());
        let report = agree(&checked, &options()).expect("a report");
        let agreement = report.corrected[3].estimate.expect("defined");
        assert!((agreement.value - 10.0 / 12.0).abs() < 1e-12);
        let mut fewer = strata;
        fewer.remove(&("q3", "d3"));
        let checked = Checked::new(five(), &labels, &experts).with_strata(fewer);
        let error = agree(&checked, &options()).expect_err("no stratum");
        assert_eq!(error.to_string(), "the pair `q3`, `d3` has a label, but no stratum");
    }

    #[test]
    fn bad_scores_are_named() {
        let labels = [crate::resolve::label("q0", "d0", Outcome::Positive)];
        let refused = |labels: &[Label], of: &[(&str, usize, i32)]| {
            agree(&Checked::new(five(), labels, &scores(of)), &options()).expect_err("refused").to_string()
        };
        assert_eq!(
            refused(&labels, &[("li", 0, 6)]),
            "expert `li`, pair `q0`, `d0`: the score 6 is off the scale, 1 to 5"
        );
        assert_eq!(refused(&labels, &[("li", 0, 5), ("li", 0, 5)]), "expert `li`, pair `q0`, `d0`: scored twice");
        assert_eq!(refused(&labels, &[("li", 7, 5)]), "no pair that experts have checked has a label");
        let own = [Label { expert: true, ..labels[0].clone() }];
        assert_eq!(
            refused(&own, &[("li", 0, 5)]),
            "the label of `q0`, `d0` is the experts' own; compare the labels by judges alone"
        );
    }
}
