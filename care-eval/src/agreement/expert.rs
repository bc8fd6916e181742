//! Labels of a machine, corrected by a sample that experts have checked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::estimate::{students_interval, undefined};
use super::options::IntervalOptions;
use super::ratings::Value;
use super::resample::bootstrap;
use crate::error::{Error, ErrorKind, Result};
use crate::stats::Interval;

/// A population with a machine label on every unit, of which experts have checked a random sample in each stratum.
///
/// Every total is that of the machine labels plus the mean correction of the checked units, scaled up, stratum by stratum.
/// So all machine labels count, and their errors do not bias the result, however frequent they are; fewer errors give
/// narrower intervals. Strata need different shares of checked units, e.g. more where votes disagreed. A stratum of one
/// machine label each is the best choice for precision.
///
/// Within a stratum the checked units must be drawn at random. A unit is positive if its label is at least a threshold.
///
/// ```
/// use care_eval::agreement::{ExpertSample, IntervalOptions};
///
/// let mut sample = ExpertSample::new();
/// sample.label("unanimous", 1.0, 600)?;
/// sample.label("unanimous", 0.0, 9_000)?;
/// sample.label("split", 1.0, 400)?;
/// for (stratum, machine, expert, times) in [
///     ("unanimous", 1.0, 1.0, 6),
///     ("unanimous", 0.0, 0.0, 90),
///     ("split", 1.0, 1.0, 30),
///     ("split", 1.0, 0.0, 10),
/// ] {
///     (0..times).try_for_each(|_| sample.check(stratum, machine, expert))?;
/// }
/// let precision = sample.precision(1.0, &IntervalOptions::default())?;
/// assert!((precision.value - 0.9).abs() < 1e-12); // (600 + 400 * 3 / 4) / 1000
/// # Ok::<(), care_eval::Error>(())
/// ```
///
/// # Reference
/// Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, *Prediction-powered inference*, Science 2023, in each stratum; Cochran,
/// *Sampling techniques*, 1977, for strata, ratios and finite populations. DIFFERENCE: the population is finite and wholly
/// labelled, so that only the correction has a variance, with the factor `1 - checked / population`, which is 0 where a
/// stratum is checked whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExpertSample {
    strata: BTreeMap<String, Stratum>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Stratum {
    /// Machine labels with the number of their units.
    population: BTreeMap<Value, u64>,
    /// Machine and expert labels with the number of their units.
    checked: BTreeMap<[Value; 2], u64>,
}

/// A quantity of the population as experts would label it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Corrected {
    /// The estimate.
    pub value: f64,
    /// The standard error, for a ratio to first order (delta method).
    pub standard_error: f64,
    /// Student's interval with one degree of freedom less per stratum than checked units, strata that are checked whole
    /// left out. Within `0..=1` for rates.
    pub interval: Interval,
    /// The percentile interval over resampled checked units of each stratum. `None` without resamples.
    pub bootstrap: Option<Interval>,
    /// Resamples for which the quantity is undefined; the bootstrap interval is of the others.
    pub undefined_resamples: usize,
    /// The checked units.
    pub checked: u64,
    /// The units of the population.
    pub population: u64,
}

impl ExpertSample {
    /// An empty population.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `units` of the population with a machine label to a stratum, those that will be checked included.
    ///
    /// # Errors
    /// [`ErrorKind::Rating`] if the label is not finite.
    pub fn label(&mut self, stratum: &str, machine: f64, units: u64) -> Result<()> {
        let machine = finite(stratum, "machine", machine)?;
        if units > 0 {
            *self.stratum(stratum).population.entry(machine).or_insert(0) += units;
        }
        Ok(())
    }

    /// Adds what an expert found for a unit of the population.
    ///
    /// # Errors
    /// [`ErrorKind::Rating`] if a label is not finite.
    pub fn check(&mut self, stratum: &str, machine: f64, expert: f64) -> Result<()> {
        let pair = [finite(stratum, "machine", machine)?, finite(stratum, "expert", expert)?];
        *self.stratum(stratum).checked.entry(pair).or_insert(0) += 1;
        Ok(())
    }

    /// The mean label.
    ///
    /// # Errors
    /// [`ErrorKind::Sample`] if the population is empty; if a stratum has no checked unit, or a single one of several; or
    /// if more units are checked than have the machine label. The message names the stratum.
    /// [`ErrorKind::Setting`] if the level of `options` is not in `(0, 1)`.
    pub fn mean(&self, options: &IntervalOptions) -> Result<Corrected> {
        self.ratio(|_, label| [label, 1.0], options)
    }

    /// The share of positive units.
    ///
    /// # Errors
    /// As [`mean`](Self::mean).
    pub fn positive_rate(&self, threshold: f64, options: &IntervalOptions) -> Result<Corrected> {
        let positive = positive(threshold);
        self.ratio(|_, label| [positive(label), 1.0], options).map(Corrected::within_0_and_1)
    }

    /// The share of positive units among those that the machine has labelled positive.
    ///
    /// # Errors
    /// As [`mean`](Self::mean), and [`ErrorKind::Agreement`] if the machine has labelled none positive.
    pub fn precision(&self, threshold: f64, options: &IntervalOptions) -> Result<Corrected> {
        let positive = positive(threshold);
        let parts = |machine, label| [positive(machine) * positive(label), positive(machine)];
        self.ratio(parts, options).map(Corrected::within_0_and_1)
    }

    /// The share of units that the machine has labelled positive among the positive ones.
    ///
    /// # Errors
    /// As [`mean`](Self::mean), and [`ErrorKind::Agreement`] if the estimated number of positive units is not above 0.
    pub fn recall(&self, threshold: f64, options: &IntervalOptions) -> Result<Corrected> {
        let positive = positive(threshold);
        let parts = |machine, label| [positive(machine) * positive(label), positive(label)];
        self.ratio(parts, options).map(Corrected::within_0_and_1)
    }

    fn stratum(&mut self, name: &str) -> &mut Stratum {
        self.strata.entry(name.to_owned()).or_default()
    }

    /// The ratio of two totals over the population, given what a unit adds to each by its machine label and its true label.
    fn ratio(&self, parts: impl Fn(f64, f64) -> [f64; 2], options: &IntervalOptions) -> Result<Corrected> {
        options.check()?;
        let strata =
            self.strata.iter().map(|(name, stratum)| stratum.prepare(name, &parts)).collect::<Result<Vec<_>>>()?;
        let population = strata.iter().map(|stratum| stratum.population).sum::<f64>();
        if population == 0.0 {
            return Err(Error::new(ErrorKind::Sample, "the population is empty"));
        }
        let observed: Vec<_> = strata.iter().map(Prepared::mean).collect();
        let [above, below] = totals(&strata, &observed);
        if below <= 0.0 {
            return Err(undefined("the estimated number of positive units is not above 0"));
        }
        let value = above / below;
        let variance: f64 = strata.iter().zip(&observed).map(|(stratum, mean)| stratum.variance(*mean, value)).sum();
        let standard_error = variance.sqrt() / below;
        let sampled = strata.iter().filter(|stratum| stratum.checked < stratum.population);
        let freedom = sampled.map(|stratum| stratum.checked - 1.0).sum();
        let interval = students_interval(value, standard_error, freedom, options.level);

        let groups: Vec<_> = strata.iter().map(|stratum| stratum.counts.as_slice()).collect();
        let of_resample = |counts: &[Vec<f64>]| {
            let pairs = strata.iter().zip(&observed).zip(counts);
            let means: Vec<_> = pairs.map(|((stratum, mean), counts)| stratum.rescaled(*mean, counts)).collect();
            let [above, below] = totals(&strata, &means);
            (below > 0.0).then(|| above / below)
        };
        let (bootstrap, undefined_resamples) = bootstrap(&groups, options, of_resample);
        let checked = groups.iter().copied().flatten().sum();
        let population = population as u64;
        Ok(Corrected { value, standard_error, interval, bootstrap, undefined_resamples, checked, population })
    }
}

impl Corrected {
    fn within_0_and_1(self) -> Self {
        let within =
            |interval: Interval| Interval { low: interval.low.clamp(0.0, 1.0), high: interval.high.clamp(0.0, 1.0) };
        let (value, bootstrap) = (self.value.clamp(0.0, 1.0), self.bootstrap.map(within));
        Self { value, interval: within(self.interval), bootstrap, ..self }
    }
}

impl Stratum {
    fn prepare(&self, name: &str, parts: &impl Fn(f64, f64) -> [f64; 2]) -> Result<Prepared> {
        let refuse = |problem: String| Err(Error::new(ErrorKind::Sample, format!("stratum {name:?}: {problem}")));
        let (population, checked): (u64, u64) = (self.population.values().sum(), self.checked.values().sum());
        let mut with_label = BTreeMap::new();
        self.checked.iter().for_each(|([machine, _], units)| *with_label.entry(*machine).or_insert(0) += units);
        for (machine, units) in with_label {
            let labelled = self.population.get(&machine).copied().unwrap_or(0);
            if units > labelled {
                let label = machine.0;
                return refuse(format!(
                    "{units} checked units have the machine label {label}, the population has {labelled}"
                ));
            }
        }
        match (checked, population) {
            (0, 1..) => {
                return refuse(format!("none of its {population} units is checked; check some, or merge strata"));
            }
            (1, 2..) => return refuse(format!("1 of its {population} units is checked, a variance needs 2")),
            _ => {}
        }
        let mut machine = [0.0; 2];
        for (label, units) in &self.population {
            let predicted = parts(label.0, label.0);
            (0..2).for_each(|part| machine[part] += *units as f64 * predicted[part]);
        }
        let correction = |[machine, expert]: &[Value; 2]| {
            let (predicted, found) = (parts(machine.0, machine.0), parts(machine.0, expert.0));
            [found[0] - predicted[0], found[1] - predicted[1]]
        };
        Ok(Prepared {
            population: population as f64,
            checked: checked as f64,
            machine,
            corrections: self.checked.keys().map(correction).collect(),
            counts: self.checked.values().copied().collect(),
        })
    }
}

/// A stratum for one quantity.
struct Prepared {
    population: f64,
    checked: f64,
    /// Both totals by the machine labels.
    machine: [f64; 2],
    /// What the expert's label changes of both, by pair of labels.
    corrections: Vec<[f64; 2]>,
    counts: Vec<u64>,
}

impl Prepared {
    fn mean(&self) -> [f64; 2] {
        self.mean_of(self.counts.iter().map(|count| *count as f64))
    }

    fn mean_of(&self, counts: impl Iterator<Item = f64>) -> [f64; 2] {
        let mut mean = [0.0; 2];
        for (correction, count) in self.corrections.iter().zip(counts) {
            (0..2).for_each(|part| mean[part] += count * correction[part] / self.checked);
        }
        mean
    }

    /// The variance of the total of `above - value * below`.
    fn variance(&self, mean: [f64; 2], value: f64) -> f64 {
        if self.checked >= self.population {
            return 0.0;
        }
        let residual = |[above, below]: [f64; 2]| above - value * below;
        let deviation = |correction: &[f64; 2]| residual(*correction) - residual(mean);
        let rows = self.corrections.iter().zip(&self.counts);
        let squares: f64 = rows.map(|(correction, count)| *count as f64 * deviation(correction).powi(2)).sum();
        let of_mean = squares / (self.checked - 1.0) / self.checked;
        self.population.powi(2) * of_mean * (1.0 - self.checked / self.population)
    }

    /// The mean correction of a resample, with its distance from the observed one scaled so that the resamples have the
    /// variance of a sample without replacement (Rao and Wu 1988).
    fn rescaled(&self, observed: [f64; 2], counts: &[f64]) -> [f64; 2] {
        if self.checked >= self.population {
            return observed;
        }
        let scale = ((1.0 - self.checked / self.population) * self.checked / (self.checked - 1.0)).sqrt();
        let resampled = self.mean_of(counts.iter().copied());
        [0, 1].map(|part| observed[part] + scale * (resampled[part] - observed[part]))
    }
}

fn totals(strata: &[Prepared], means: &[[f64; 2]]) -> [f64; 2] {
    let total = |part: usize| {
        let pairs = strata.iter().zip(means);
        pairs.map(|(stratum, mean)| stratum.machine[part] + stratum.population * mean[part]).sum()
    };
    [total(0), total(1)]
}

/// 1 for a label at or above the threshold, 0 for others.
fn positive(threshold: f64) -> impl Fn(f64) -> f64 {
    move |label| f64::from(u8::from(label >= threshold))
}

fn finite(stratum: &str, who: &str, label: f64) -> Result<Value> {
    let refuse = |problem| Error::new(ErrorKind::Rating, format!("stratum {stratum:?}: the {who} label {problem}"));
    Value::new(label).map_err(refuse)
}
