//! The options of `care data mine` that choose negatives.

use anyhow::{Result, bail};
use care_data::mine::{Against, RankCount, Ranks, Rules, Sample, Short};
use care_data::near::NearDuplicates;
use clap::ValueEnum;

#[derive(clap::Args)]
pub(crate) struct RuleArgs {
    /// Rules that are known by a name; options beside it change single rules. nv-retriever: ranks 0-100, relative margin
    /// 0.05, the 10 best
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// Ranks of candidates: the FROM best results are passed over, results up to and with rank TO are candidates [default:
    /// 10-210]
    #[arg(long, value_name = "FROM-TO", value_parser = ranks)]
    ranks: Option<Ranks>,
    /// What a rank counts: all results, positives included (as in FlagEmbedding), or results that no other rule drops (as
    /// in sentence-transformers)
    #[arg(long, value_name = "WHAT", default_value = "results")]
    count_ranks: Count,
    /// Results that are looked at; by default the last of the ranks
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Highest score of a negative
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    max_score: Option<f64>,
    /// Lowest score of a negative
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    min_score: Option<f64>,
    /// A negative scores at least this much less than the positive
    #[arg(long, value_name = "X")]
    absolute_margin: Option<f64>,
    /// A negative scores less than the positive by at least this share of the positive's score
    #[arg(long, alias = "margin", value_name = "X")]
    relative_margin: Option<f64>,
    /// The positive that margins count from, where there are several: lowest (the strictest), mean or highest
    #[arg(long, value_name = "WHICH", default_value = "lowest")]
    against: Against,
    /// Negatives per query [default: 15]
    #[arg(long, value_name = "N", conflicts_with = "quota")]
    negatives: Option<usize>,
    /// Negatives from a source: model=N, bm25=N, or the name of a run; by default sources are fused by reciprocal rank
    #[arg(long, value_name = "SOURCE=N", num_args = 1..)]
    quota: Vec<String>,
    /// Take the best candidates, or draw them at random
    #[arg(long, value_name = "HOW", default_value = "top")]
    sample: How,
    /// Seed of random draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A query with too few negatives is kept as it is, left out, or filled up with random documents
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    short: TooFew,
    /// Least Jaccard similarity of the character trigrams of a near-duplicate of a positive, 0.3 to 1
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    near_threshold: f64,
    /// Let near-duplicates of positives be negatives
    #[arg(long, conflicts_with = "near_threshold")]
    allow_near_duplicates: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    NvRetriever,
}

#[derive(Clone, Copy, ValueEnum)]
enum Count {
    Results,
    Allowed,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    Top,
    Random,
}

#[derive(Clone, Copy, ValueEnum)]
enum TooFew {
    Keep,
    Drop,
    Fill,
}

fn ranks(text: &str) -> std::result::Result<Ranks, String> {
    let parsed = text.split_once('-').and_then(|(skip, through)| Some((skip.parse().ok()?, through.parse().ok()?)));
    let (skip, through) = parsed.ok_or("allowed: FROM-TO, e.g. 10-210")?;
    Ok(Ranks { skip, through })
}

impl RuleArgs {
    pub(super) fn rules(&self) -> Result<Rules> {
        let base = match self.preset {
            Some(Preset::NvRetriever) => Rules::nv_retriever(),
            None => Rules::default(),
        };
        let near = NearDuplicates::new(3, self.near_threshold)?;
        Ok(base.with(|rules| {
            rules.ranks = self.ranks.unwrap_or(rules.ranks);
            rules.count = match self.count_ranks {
                Count::Results => RankCount::Results,
                Count::Allowed => RankCount::Allowed,
            };
            rules.depth = self.depth;
            (rules.max_score, rules.min_score) = (self.max_score, self.min_score);
            rules.absolute_margin = self.absolute_margin;
            rules.relative_margin = self.relative_margin.or(rules.relative_margin);
            rules.against = self.against;
            rules.negatives = self.negatives.unwrap_or(rules.negatives);
            rules.sample = match self.sample {
                How::Top => Sample::Top,
                How::Random => Sample::Random { seed: self.seed },
            };
            rules.short = match self.short {
                TooFew::Keep => Short::Keep,
                TooFew::Drop => Short::Drop,
                TooFew::Fill => Short::Fill { seed: self.seed },
            };
            rules.near = (!self.allow_near_duplicates).then_some(near);
        }))
    }

    /// The number of negatives of each source, if they are set.
    pub(super) fn quotas(&self, names: &[String]) -> Result<Option<Vec<usize>>> {
        if self.quota.is_empty() {
            return Ok(None);
        }
        let mut quotas = vec![None; names.len()];
        for quota in &self.quota {
            let parsed = quota.split_once('=').and_then(|(name, count)| Some((name, count.parse::<usize>().ok()?)));
            let Some((name, count)) = parsed else { bail!("--quota {quota}: allowed: SOURCE=N, e.g. bm25=5") };
            let Some(at) = names.iter().position(|other| other == name) else {
                bail!("--quota {quota}: there is no source of this name; the sources are {}", names.join(", "));
            };
            if quotas[at].replace(count).is_some() {
                bail!("--quota {quota}: the source has a quota already");
            }
        }
        Ok(Some(quotas.into_iter().map(Option::unwrap_or_default).collect()))
    }
}
