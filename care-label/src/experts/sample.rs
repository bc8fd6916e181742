//! A stratified sample of pairs for experts, and its file `sample.json`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;

use care_core::files::{read_file, sha256_hex, write_atomic};
use care_core::{Error, ErrorKind, Result};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::allocate::{Allocation, allocate, weights};
use super::assign::{assign, generator};
use super::table::{canonical, has_control};
use crate::pair::Pair;
use crate::prompt::Prompt;
use crate::scale::Scale;

/// A pair that may be sampled, with what its votes say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate<'a> {
    /// The pair.
    pub pair: &'a Pair,
    /// Its label or mean score by the judges; strata take the nearest whole number. `None` if it has none.
    pub label: Option<f64>,
    /// Highest minus lowest score of its judges, >= 0. `None` if fewer than two judges scored it.
    pub range: Option<i32>,
}

/// What strata are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The label by the judges, [`Candidate::label`].
    Label,
    /// The judges' disagreement, [`Candidate::range`].
    Disagreement,
    /// The query's group, e.g. its department.
    Group,
    /// How many systems found the document.
    Systems,
}

impl By {
    const ALL: [Self; 4] = [Self::Label, Self::Disagreement, Self::Group, Self::Systems];

    /// Its name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Disagreement => "disagreement",
            Self::Group => "group",
            Self::Systems => "systems",
        }
    }
}

impl FromStr for By {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let refuse = || Error::setting("by", format!("`{name}`"), &Self::ALL.map(Self::name).join(", "));
        Self::ALL.into_iter().find(|by| by.name() == name).ok_or_else(refuse)
    }
}

/// What the pairs of a stratum have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A label, a range or a number of systems.
    Number(i64),
    /// A group.
    Text(String),
    /// The pair has none.
    None,
}

/// How a sample is drawn.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SampleOptions {
    /// Number of pairs, >= 1.
    pub size: usize,
    /// What strata are made of; nothing is one stratum. Default: nothing.
    pub by: Vec<By>,
    /// How the sample is divided among strata.
    pub allocation: Allocation,
    /// Fewest pairs of a stratum, >= 1, or all it has. Default 2, without which a stratum has no variance.
    pub minimum: usize,
    /// Seed of the draw, the assignment and the order. Default 0.
    pub seed: u64,
    /// Names of the experts, who get a sheet each. May be empty for Label Studio, which assigns by itself.
    pub experts: Vec<String>,
    /// Experts who see each pair, 1 to the number of experts. Default 1.
    pub per_pair: usize,
}

impl SampleOptions {
    /// A simple random sample of `size` pairs for these experts, one per pair.
    pub fn new(size: usize, experts: &[&str]) -> Self {
        Self {
            size,
            by: Vec::new(),
            allocation: Allocation::default(),
            minimum: 2,
            seed: 0,
            experts: experts.iter().map(|name| (*name).to_owned()).collect(),
            per_pair: 1,
        }
    }

    /// Sets what strata are made of.
    #[must_use]
    pub fn with_strata(mut self, by: &[By]) -> Self {
        self.by = by.to_vec();
        self
    }

    /// Sets how the sample is divided, and the fewest pairs of a stratum.
    #[must_use]
    pub fn with_allocation(mut self, allocation: Allocation, minimum: usize) -> Self {
        (self.allocation, self.minimum) = (allocation, minimum);
        self
    }

    /// Sets how many experts see each pair.
    #[must_use]
    pub fn with_overlap(mut self, per_pair: usize) -> Self {
        self.per_pair = per_pair;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// A sample: its strata with their sizes, its pairs, and who labels them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// SHA-256 of all below, in hexadecimal.
    pub id: String,
    /// Id of the sample whose disputed pairs these are, in an adjudication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Seed of the draw.
    pub seed: u64,
    /// How the sample was divided.
    pub allocation: Allocation,
    /// What experts are asked.
    pub prompt: Questionnaire,
    /// The strata, in order of their values.
    pub strata: Vec<Stratum>,
    /// The pairs, in order of their ids.
    pub pairs: Vec<SampledPair>,
    /// The experts with their pairs.
    pub experts: Vec<Expert>,
}

/// The part of a prompt that experts' answers refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Questionnaire {
    /// [`Prompt::name`].
    pub name: String,
    /// [`Prompt::hash`].
    pub hash: String,
    /// [`Prompt::scale`].
    pub scale: Scale,
    /// [`Prompt::labels`].
    pub labels: Vec<String>,
}

/// A part of the population that is sampled on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stratum {
    /// What its pairs have in common.
    pub of: BTreeMap<By, Value>,
    /// Number of its pairs.
    pub population: usize,
    /// Number of those in the sample.
    pub sampled: usize,
}

/// A pair in a sample. The hashes are the first 16 digits of the SHA-256 of each text without white space, so that a sheet
/// whose texts were altered is told from one that a spreadsheet program reformatted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampledPair {
    /// Id of the query.
    pub query_id: String,
    /// Id of the document.
    pub doc_id: String,
    /// Number of its stratum, from 0.
    pub stratum: usize,
    /// Hash of the query's text.
    pub query_hash: String,
    /// Hash of the document's text.
    pub document_hash: String,
    /// Hash of the known positive, if the prompt shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive_hash: Option<String>,
}

/// An expert and what they label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expert {
    /// The name, which is in the sheet and names its file.
    pub name: String,
    /// Numbers of their pairs, from 0, in the order of the sheet.
    pub pairs: Vec<usize>,
}

impl Sample {
    /// Draws a sample.
    ///
    /// The same pairs in another order give the same sample. [`SampleOptions`] documents the choices, and each pair of
    /// the sample stands for [`Sample::weights`] pairs of the population.
    ///
    /// Each pair goes to exactly `per_pair` experts, whose loads are level. An expert gets all sampled pairs of a query,
    /// next to each other, with queries and documents in a random order that differs between experts: a question is read
    /// once, and the order tells no ranks.
    ///
    /// # Errors
    /// If an option is out of its range, no pair has what strata are made of, a pair is duplicated, or the prompt needs a
    /// known positive and a pair has none.
    pub fn draw(candidates: &[Candidate<'_>], prompt: &Prompt, options: &SampleOptions) -> Result<Self> {
        check_experts(&options.experts, options.per_pair)?;
        for (field, value) in [("size", options.size), ("minimum", options.minimum)] {
            if value == 0 {
                return Err(Error::setting(field, value, ">= 1"));
            }
        }
        for by in &options.by {
            if candidates.iter().all(|candidate| value(candidate, *by) == Value::None) {
                return Err(Error::setting("by", format!("`{}`", by.name()), "what at least one pair has"));
            }
        }
        let mut strata: BTreeMap<Vec<Value>, Vec<&Candidate<'_>>> = BTreeMap::new();
        for candidate in candidates {
            check_candidate(candidate)?;
            let key = options.by.iter().map(|by| value(candidate, *by)).collect();
            strata.entry(key).or_default().push(candidate);
        }
        let populations: Vec<usize> = strata.values().map(Vec::len).collect();
        let disagreement: Vec<Option<f64>> = strata.values().map(|pairs| mean_range(pairs)).collect();
        let weights = weights(options.allocation, &populations, &disagreement, prompt.scale.points().count())?;
        let counts = allocate(&populations, &weights, options.size, options.minimum)?;
        let (mut rng, mut drawn, mut listed) = (generator(options.seed, 0), Vec::new(), Vec::new());
        for ((key, mut pairs), sampled) in strata.into_iter().zip(counts) {
            pairs.sort_unstable_by_key(|candidate| candidate.pair.id());
            if let Some(twice) = pairs.windows(2).find(|two| two[0].pair.id() == two[1].pair.id()) {
                return Err(duplicated(twice[0].pair));
            }
            let population = pairs.len();
            pairs.shuffle(&mut rng);
            drawn.extend(pairs[..sampled].iter().map(|candidate| (candidate.pair, listed.len())));
            listed.push(Stratum { of: options.by.iter().copied().zip(key).collect(), population, sampled });
        }
        let sample = Self {
            id: String::new(),
            of: None,
            seed: options.seed,
            allocation: options.allocation,
            prompt: Questionnaire::of(prompt),
            strata: listed,
            pairs: Vec::new(),
            experts: Vec::new(),
        };
        sample.with_pairs(drawn, prompt, &options.experts, options.per_pair)
    }

    /// The sample with these pairs, each with its stratum, assigned to experts.
    pub(super) fn with_pairs(
        mut self,
        mut drawn: Vec<(&Pair, usize)>,
        prompt: &Prompt,
        experts: &[String],
        per_pair: usize,
    ) -> Result<Self> {
        drawn.sort_unstable_by_key(|(pair, _)| pair.id());
        if let Some(twice) = drawn.windows(2).find(|two| two[0].0.id() == two[1].0.id()) {
            return Err(duplicated(twice[0].0));
        }
        for (pair, stratum) in &drawn {
            self.pairs.push(SampledPair {
                query_id: pair.query_id.clone(),
                doc_id: pair.doc_id.clone(),
                stratum: *stratum,
                query_hash: text_hash(&pair.query),
                document_hash: text_hash(&pair.document),
                positive_hash: positive(pair, prompt)?.map(text_hash),
            });
        }
        let assigned = self.assigned(experts.len(), per_pair);
        self.experts =
            experts.iter().zip(assigned).map(|(name, pairs)| Expert { name: name.trim().to_owned(), pairs }).collect();
        self.id = self.content_hash();
        Ok(self)
    }

    /// The pairs of each of so many experts.
    pub(super) fn assigned(&self, experts: usize, per_pair: usize) -> Vec<Vec<usize>> {
        let mut numbers = 0..;
        let queries = self.pairs.chunk_by(|a, b| a.query_id == b.query_id);
        let queries: Vec<Vec<usize>> = queries.map(|pairs| numbers.by_ref().take(pairs.len()).collect()).collect();
        assign(&queries, experts, per_pair, self.seed)
    }

    fn content_hash(&self) -> String {
        let Self { id: _, of, seed, allocation, prompt, strata, pairs, experts } = self;
        // Of a map, only its entries are serialised as they are in every format.
        let strata: Vec<_> =
            strata.iter().map(|stratum| (Vec::from_iter(&stratum.of), stratum.population, stratum.sampled)).collect();
        let parts = (of, seed, allocation, prompt, strata, pairs, experts);
        sha256_hex(serde_json::to_vec(&parts).unwrap_or_default())
    }

    /// Reads a `sample.json`.
    ///
    /// # Errors
    /// If it cannot be read, is no sample, or was altered.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let sample: Self = serde_json::from_slice(&read_file(path)?)
            .map_err(|e| Error::format(path, format!("not a sample: {e}")).with_source(e))?;
        match sample.id == sample.content_hash() {
            true => Ok(sample),
            false => Err(Error::format(path, "the file was altered: its `id` is that of another content")),
        }
    }

    /// Writes a `sample.json`, atomically.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::io("write", path, e.into()))?;
        write_atomic(path, text + "\n")
    }

    /// The number of the stratum, from 0, of each pair of the population.
    ///
    /// # Errors
    /// If this is not what the sample was drawn from: a pair is in no stratum, a stratum has another size, or a pair of the
    /// sample is absent or in another stratum. Figures would then be those of a population that was not sampled.
    pub fn strata_of(&self, population: &[Candidate<'_>]) -> Result<Vec<usize>> {
        let refuse = |problem: String| {
            let why = "these are not the pairs, labels and votes that the sample was drawn from";
            Error::new(ErrorKind::Config, format!("{problem}: {why}"))
        };
        let named = |(query, document): (&str, &str)| format!("the pair `{query}`, `{document}`");
        let mut sizes = vec![0; self.strata.len()];
        let mut of_pair = HashMap::with_capacity(population.len());
        let mut strata = Vec::with_capacity(population.len());
        for candidate in population {
            let belongs = |stratum: &Stratum| stratum.of.iter().all(|(by, of)| value(candidate, *by) == *of);
            let id = candidate.pair.id();
            let Some(stratum) = self.strata.iter().position(belongs) else {
                return Err(refuse(format!("{} is in no stratum of the sample", named(id))));
            };
            sizes[stratum] += 1;
            of_pair.insert(id, stratum);
            strata.push(stratum);
        }
        for pair in &self.pairs {
            let id = (pair.query_id.as_str(), pair.doc_id.as_str());
            match of_pair.get(&id) {
                Some(stratum) if *stratum == pair.stratum => {}
                Some(_) => return Err(refuse(format!("{} is in another stratum than when it was sampled", named(id)))),
                None => return Err(refuse(format!("{} of the sample is absent", named(id)))),
            }
        }
        match self.strata.iter().zip(&sizes).position(|(stratum, size)| stratum.population != *size) {
            Some(at) => {
                let (found, drawn) = (sizes[at], self.strata[at].population);
                Err(refuse(format!("stratum {at} of the sample has {found} pairs now, and had {drawn}")))
            }
            None => Ok(strata),
        }
    }

    /// The pairs of the population that each pair of the sample stands for, in their order: the size of its stratum
    /// divided by the pairs sampled of it. They sum to the population.
    pub fn weights(&self) -> Vec<f64> {
        let weight = |pair: &SampledPair| {
            self.strata.get(pair.stratum).map_or(f64::NAN, |of| of.population as f64 / of.sampled as f64)
        };
        self.pairs.iter().map(weight).collect()
    }

    /// The name of the sample in sheets: short, and no number to a spreadsheet program.
    pub(super) fn short_id(&self) -> String {
        format!("s{}", self.id.get(..12).unwrap_or_default())
    }

    /// What identifies a row of an expert's sheet; a sheet for no expert in particular has an empty name.
    pub(super) fn row_code(&self, expert: &str, pair: usize) -> String {
        let SampledPair { query_id, doc_id, .. } = &self.pairs[pair];
        let hash = sha256_hex(serde_json::to_vec(&(&self.id, expert, query_id, doc_id)).unwrap_or_default());
        format!("r{}", &hash[..16])
    }

    /// The sample's pairs among `pairs`, in the sample's order.
    ///
    /// # Errors
    /// If one is absent, or its texts are no longer those that were sampled.
    pub fn texts<'a>(&self, pairs: &'a [Pair]) -> Result<Vec<&'a Pair>> {
        let by_id: HashMap<(&str, &str), &Pair> = pairs.iter().map(|pair| (pair.id(), pair)).collect();
        let find = |of: &SampledPair| {
            let named = format!("the pair `{}`, `{}` of the sample", of.query_id, of.doc_id);
            let pair = by_id
                .get(&(of.query_id.as_str(), of.doc_id.as_str()))
                .ok_or_else(|| Error::new(ErrorKind::Format, format!("{named} is not among the pairs")))?;
            let positive = pair.positive.as_deref().map(text_hash);
            if text_hash(&pair.query) != of.query_hash
                || text_hash(&pair.document) != of.document_hash
                || of.positive_hash.is_some() && positive != of.positive_hash
            {
                return Err(Error::new(ErrorKind::Format, format!("{named} has another text now; draw a new sample")));
            }
            Ok(*pair)
        };
        self.pairs.iter().map(find).collect()
    }
}

impl Questionnaire {
    pub(super) fn of(prompt: &Prompt) -> Self {
        Self { name: prompt.name.clone(), hash: prompt.hash(), scale: prompt.scale, labels: prompt.labels.clone() }
    }
}

/// The hash of a text in a sample.
pub(super) fn text_hash(text: &str) -> String {
    sha256_hex(canonical(text))[..16].to_owned()
}

/// The known positive that a prompt shows.
pub(super) fn positive<'a>(pair: &'a Pair, prompt: &Prompt) -> Result<Option<&'a str>> {
    if !prompt.wants_positive() {
        return Ok(None);
    }
    let (query, document) = pair.id();
    let problem = format!("prompt `{}` needs a known positive; the pair `{query}`, `{document}` has none", prompt.name);
    pair.positive.as_deref().map(Some).ok_or_else(|| Error::new(ErrorKind::Config, problem))
}

fn duplicated(pair: &Pair) -> Error {
    Error::new(ErrorKind::Format, format!("the pair `{}`, `{}` is duplicated", pair.query_id, pair.doc_id))
}

/// Names become file names and cells.
pub(super) fn check_experts(experts: &[String], per_pair: usize) -> Result<()> {
    let mut seen = HashSet::new();
    for name in experts.iter().map(|name| name.trim()) {
        let bad = name.is_empty()
            || name.chars().count() > 60
            || name.starts_with(['.', '=', '+', '-', '@', '\''])
            || name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|'])
            || has_control(name)
            || name.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ',');
        if bad {
            let allowed = "1 to 60 characters that can name a file, and no number";
            return Err(Error::setting("experts", format!("`{name}`"), allowed));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(Error::setting("experts", format!("`{name}` twice"), "different names"));
        }
    }
    if !experts.is_empty() && !(1..=experts.len()).contains(&per_pair) {
        return Err(Error::setting("per_pair", per_pair, &format!("1 to {}, the number of experts", experts.len())));
    }
    Ok(())
}

fn check_candidate(candidate: &Candidate<'_>) -> Result<()> {
    let (query, document) = candidate.pair.id();
    let named = |value: String| format!("{value} for the pair `{query}`, `{document}`");
    match (candidate.label, candidate.range) {
        (Some(label), _) if !label.is_finite() => Err(Error::setting("label", named(label.to_string()), "a number")),
        (_, Some(range)) if range < 0 => Err(Error::setting("range", named(range.to_string()), ">= 0")),
        _ => Ok(()),
    }
}

fn value(candidate: &Candidate<'_>, by: By) -> Value {
    let number = match by {
        By::Label => candidate.label.map(|label| label.round() as i64),
        By::Disagreement => candidate.range.map(i64::from),
        By::Systems => Some(candidate.pair.systems.len() as i64),
        By::Group => return candidate.pair.group.clone().map_or(Value::None, Value::Text),
    };
    number.map_or(Value::None, Value::Number)
}

/// The mean range of scores of a stratum; `None` if no pair has one.
fn mean_range(pairs: &[&Candidate<'_>]) -> Option<f64> {
    let ranges: Vec<f64> = pairs.iter().filter_map(|candidate| candidate.range).map(f64::from).collect();
    (!ranges.is_empty()).then(|| ranges.iter().sum::<f64>() / ranges.len() as f64)
}
