//! `care label agree`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::files::write_atomic;
use care_core::jsonl::for_each_jsonl;
use care_core::manifest::Input;
use care_eval::agreement::IntervalOptions;
use care_label::agree::{Checked, ExpertScore, agree};
use care_label::ballots::Ballots;
use care_label::experts::{ExpertLabels, FinalLabel, Sample, Source};
use care_label::pair::read_pairs;
use care_label::resolve::{Label, read_labels};
use care_label::{Pair, Prompt};
use serde_json::json;

use super::sample::candidates;
use super::votes::{CountArgs, scale};
use crate::commands::manifest::write_manifest;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    checked: CheckedArgs,
    /// Level of the intervals
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    level: f64,
    /// Resamples of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1000)]
    resamples: usize,
    /// The report (.md); its figures are beside it as .json
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Labels, votes and what experts made of a sample.
#[derive(clap::Args)]
pub(super) struct CheckedArgs {
    /// Pairs from `care label collect`
    #[arg(long, value_name = "FILE")]
    pub(super) pairs: PathBuf,
    /// Votes from `care label judge`
    #[arg(long, value_name = "FILE")]
    pub(super) votes: PathBuf,
    /// Labels of the judges alone, from `care label resolve` without --experts
    #[arg(long, value_name = "FILE")]
    pub(super) labels: PathBuf,
    /// The prompt, for its scale
    #[arg(long, value_name = "NAME|FILE", default_value = "relevance")]
    pub(super) prompt: String,
    /// Score from which a vote is positive, as for `care label resolve`
    #[arg(long, value_name = "N")]
    pub(super) threshold: Option<i32>,
    #[command(flatten)]
    pub(super) count: CountArgs,
    /// The sample of `care label sample`
    #[arg(long, value_name = "FILE", requires = "experts")]
    pub(super) sample: Option<PathBuf>,
    /// Answers of the experts, from `care label experts`
    #[arg(long, value_name = "FILE", requires = "sample")]
    pub(super) experts: Option<PathBuf>,
}

/// What the files hold.
pub(super) struct Material {
    pub(super) pairs: Vec<Pair>,
    pub(super) labels: Vec<Label>,
    pub(super) ballots: Ballots,
    pub(super) experts: Vec<ExpertScore>,
    adjudicated: Vec<FinalLabel>,
    strata: Option<Vec<String>>,
}

impl CheckedArgs {
    pub(super) fn open(&self) -> Result<Material> {
        let (pairs, labels) = (read_pairs(&self.pairs)?, read_labels(&self.labels)?);
        let prompt = Prompt::open(&self.prompt)?;
        let scale = scale(&prompt, self.threshold)?;
        let ballots = self.count.ballots(&self.votes, &prompt, scale, &pairs)?;
        let (mut experts, mut adjudicated, mut strata) = (vec![], vec![], None);
        if let (Some(sample), Some(path)) = (&self.sample, &self.experts) {
            let (file, answers) = (sample, ExpertLabels::read(path)?);
            let sample = Sample::read(file)?;
            if answers.sample != sample.id {
                bail!("{}: the answers are to another sample than {}", path.display(), file.display());
            }
            experts = scores(&answers);
            adjudicated = read_adjudicated(&path.with_extension("final.jsonl"))?;
            let population = candidates(&pairs, &labels, Some(&ballots));
            let numbers = sample.strata_of(&population).map_err(|e| e.in_file(file))?;
            strata = Some(numbers.iter().map(usize::to_string).collect());
        }
        Ok(Material { pairs, labels, ballots, experts, adjudicated, strata })
    }

    /// The files that were read, for the manifest.
    pub(super) fn inputs(&self) -> Result<Vec<Input>> {
        let mut inputs = vec![
            Input::of("pairs", &self.pairs)?,
            Input::of("votes", &self.votes)?,
            Input::of("labels", &self.labels)?,
        ];
        for (role, path) in [("sample", &self.sample), ("experts", &self.experts)] {
            inputs.extend(path.iter().map(|path| Input::of(role, path)).collect::<care_core::Result<Vec<_>>>()?);
        }
        inputs.extend(self.count.inputs()?);
        Ok(inputs)
    }
}

impl Material {
    /// What is compared.
    pub(super) fn checked(&self) -> Checked<'_> {
        let adjudicated =
            self.adjudicated.iter().filter_map(|row| Some(((row.query_id.as_str(), row.doc_id.as_str()), row.label?)));
        let mut checked = Checked::new(self.ballots.scale(), &self.labels, &self.experts)
            .with_ballots(&self.ballots)
            .with_adjudicated(adjudicated.collect());
        if let Some(strata) = &self.strata {
            checked = checked.with_strata(self.pairs.iter().map(Pair::id).zip(strata.iter().cloned()).collect());
        }
        checked
    }

    /// The stratum of each pair.
    pub(super) fn strata(&self) -> Option<HashMap<(&str, &str), String>> {
        self.strata.as_ref().map(|strata| self.pairs.iter().map(Pair::id).zip(strata.iter().cloned()).collect())
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let material = args.checked.open()?;
    let options = IntervalOptions::default().with_level(args.level).with_resamples(args.resamples);
    let agreement = agree(&material.checked(), &options)?;
    write_atomic(&args.output, format!("# Agreement\n\n{agreement}"))?;
    write_atomic(args.output.with_extension("json"), serde_json::to_string_pretty(&agreement)? + "\n")?;
    let counts = json!({ "pairs": material.labels.len(), "answers of experts": material.experts.len() });
    let settings = json!({ "votes": args.checked.count.settings(), "level": args.level, "resamples": args.resamples });
    write_manifest("label agree", settings, counts, args.checked.inputs()?, &args.output)?;
    note!("{}", agreement.summary());
    Ok(())
}

fn scores(labels: &ExpertLabels) -> Vec<ExpertScore> {
    let mut scores = Vec::new();
    for pair in &labels.pairs {
        for answer in &pair.answers {
            scores.extend(answer.score.map(|score| ExpertScore {
                expert: labels.experts[answer.expert].clone(),
                query_id: pair.query_id.clone(),
                doc_id: pair.doc_id.clone(),
                score,
            }));
        }
    }
    scores
}

/// The labels that were adjudicated, if the file exists.
fn read_adjudicated(path: &Path) -> Result<Vec<FinalLabel>> {
    let mut rows = Vec::new();
    if path.exists() {
        for_each_jsonl(path, &mut |_, row: FinalLabel| {
            rows.extend((row.source == Source::Adjudicated).then_some(row));
            Ok(())
        })?;
    }
    Ok(rows)
}
