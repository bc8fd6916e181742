//! `care label sample`

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use care_label::ballots::Ballots;
use care_label::experts::{Allocation, By, Candidate, Format, Sample, SampleOptions, Sheets};
use care_label::pair::read_pairs;
use care_label::resolve::{Label, read_labels};
use care_label::{Pair, Prompt};

use super::votes::CountArgs;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pairs from `care label collect`, or the disputed pairs of `care label resolve`
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Votes, for strata by the judges' disagreement
    #[arg(long, value_name = "FILE")]
    votes: Option<PathBuf>,
    #[command(flatten)]
    count: CountArgs,
    /// Labels, for strata by label
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The prompt, whose scale and words experts use
    #[arg(long, value_name = "NAME|FILE", default_value = "relevance")]
    prompt: String,
    /// Number of pairs
    #[arg(long, value_name = "N")]
    size: usize,
    /// What strata are made of: label, disagreement, group, systems
    #[arg(long, value_name = "WHAT", num_args = 1..)]
    by: Vec<By>,
    /// How the sample is divided among strata: proportional, equal or neyman
    #[arg(long, default_value = "proportional")]
    allocation: Allocation,
    /// Fewest pairs of a stratum
    #[arg(long, value_name = "N", default_value_t = 2)]
    minimum: usize,
    /// Names of the experts, who get a sheet each
    #[arg(long, value_name = "NAME", num_args = 1..)]
    experts: Vec<String>,
    /// Experts who see each pair
    #[arg(long, value_name = "N", default_value_t = 1)]
    per_pair: usize,
    /// Seed of the draw and of the order
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Forms of the sheets: csv, xlsx, html (a page that works offline), label-studio
    #[arg(long, value_name = "FORM", num_args = 1.., default_values = ["xlsx"])]
    format: Vec<Format>,
    /// Folder for the sheets and `sample.json`, which reads them back
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    for (by, option, is_given) in
        [(By::Label, "--labels", args.labels.is_some()), (By::Disagreement, "--votes", args.votes.is_some())]
    {
        if args.by.contains(&by) && !is_given {
            bail!("--by {} needs {option}", by.name());
        }
    }
    if args.count.is_set() && args.votes.is_none() {
        bail!("--judges, --without and --version say which --votes count");
    }
    let pairs = read_pairs(&args.pairs)?;
    let prompt = Prompt::open(&args.prompt)?;
    let labels = args.labels.as_ref().map(read_labels).transpose()?;
    let ballots = match &args.votes {
        Some(votes) => Some(args.count.ballots(votes, &prompt, prompt.scale, &pairs)?),
        None => None,
    };
    let candidates = candidates(&pairs, labels.as_deref().unwrap_or_default(), ballots.as_ref());
    let names: Vec<&str> = args.experts.iter().map(String::as_str).collect();
    let options = SampleOptions::new(args.size, &names)
        .with_strata(&args.by)
        .with_allocation(args.allocation, args.minimum)
        .with_overlap(args.per_pair)
        .with_seed(args.seed);
    let sample = Sample::draw(&candidates, &prompt, &options)?;
    let files = Sheets::new(&sample, &pairs, &prompt)?.write(&args.output, &args.format)?;
    sample.write(args.output.join("sample.json"))?;
    note!(
        "{} pairs of {} in {} strata; {} files in {}",
        sample.pairs.len(),
        pairs.len(),
        sample.strata.len(),
        files.len(),
        args.output.display()
    );
    Ok(())
}

/// The pairs with what strata are made of.
pub(super) fn candidates<'a>(pairs: &'a [Pair], labels: &[Label], ballots: Option<&Ballots>) -> Vec<Candidate<'a>> {
    let by_id: HashMap<(&str, &str), &Label> = labels.iter().map(|label| (label.id(), label)).collect();
    let rows = ballots.map(Ballots::rows);
    let range = |pair: &Pair| {
        let scores: Vec<f64> = ballots?.scores(*rows.as_ref()?.get(&pair.id())?).flatten().collect();
        let highest = scores.iter().copied().reduce(f64::max)?;
        let lowest = scores.iter().copied().reduce(f64::min)?;
        (scores.len() > 1).then_some((highest - lowest).round() as i32)
    };
    let label = |pair: &Pair| by_id.get(&pair.id()).and_then(|label| label.score);
    pairs.iter().map(|pair| Candidate { pair, label: label(pair), range: range(pair) }).collect()
}
