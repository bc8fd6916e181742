//! `care label experts`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use care_core::jsonl::for_each_jsonl;
use care_label::experts::{
    Dispute, ExpertLabels, FinalLabel, Format, Join, Missing, Sample, Sheets, adjudication, final_labels,
    read_label_studio, read_sheets, sheet_files, write_final_labels,
};
use care_label::pair::read_pairs;
use care_label::{Pair, Prompt, Scale};
use clap::ValueEnum;

use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The sample of `care label sample`
    #[arg(long, value_name = "FILE")]
    sample: PathBuf,
    /// Folder of the filled sheets (.csv, .xlsx, .ods, .xls), or an export of Label Studio (.json)
    #[arg(long, value_name = "DIR|FILE")]
    sheets: PathBuf,
    /// Take empty scores as missing, instead of refusing sheets that are not finished
    #[arg(long)]
    allow_missing: bool,
    /// Write the pairs that experts dispute as sheets for a senior expert of this name; needs --pairs
    #[arg(long, value_name = "NAME", requires = "pairs")]
    dispute: Option<String>,
    /// Pairs from `care label collect`, for --dispute
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// The prompt, for --dispute
    #[arg(long, value_name = "NAME|FILE", default_value = "relevance")]
    prompt: String,
    /// Folder of the senior expert's filled sheets, with their `sample.json`
    #[arg(long, value_name = "DIR")]
    adjudicated: Option<PathBuf>,
    /// How the experts' scores become one
    #[arg(long, value_enum, default_value_t = Rule::Median)]
    join: Rule,
    /// Every answer, one line per pair and expert (.jsonl); the joined labels are beside it as NAME.final.jsonl
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rule {
    Median,
    Majority,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let sample = Sample::read(&args.sample)?;
    let missing = if args.allow_missing { Missing::Accept } else { Missing::Refuse };
    let labels = read(&args.sheets, &sample, missing)?;
    labels.write(&args.output)?;
    let adjudicated = match &args.adjudicated {
        Some(folder) => {
            let sample = Sample::read(folder.join("sample.json"))?;
            Some(read(folder, &sample, Missing::Refuse)?)
        }
        None => None,
    };
    let join = match args.join {
        Rule::Median => Join::Median,
        Rule::Majority => Join::Majority,
    };
    let joined = final_labels(&labels, adjudicated.as_ref(), join)?;
    let path = args.output.with_extension("final.jsonl");
    write_final_labels(&path, &joined)?;
    let answers: usize = labels.pairs.iter().map(|pair| pair.scores().len()).sum();
    note!(
        "{answers} answers of {} experts on {} pairs; joined in {}",
        labels.experts.len(),
        labels.pairs.len(),
        path.display()
    );
    let (Some(name), Some(pairs)) = (&args.dispute, &args.pairs) else { return Ok(()) };
    let (pairs, prompt) = (read_pairs(pairs)?, Prompt::open(&args.prompt)?);
    match adjudication(&sample, &labels, &pairs, &prompt, Dispute::default(), name)? {
        Some(disputed) => {
            let folder = args.output.with_extension("disputed");
            Sheets::new(&disputed, &pairs, &prompt)?
                .with_opinions(&labels)
                .write(&folder, &[Format::Xlsx, Format::Csv])?;
            disputed.write(folder.join("sample.json"))?;
            note!("{} disputed pairs for `{name}` in {}", disputed.pairs.len(), folder.display());
        }
        None => note!("the experts dispute no pair"),
    }
    Ok(())
}

fn read(path: &Path, sample: &Sample, missing: Missing) -> Result<ExpertLabels> {
    if path.is_dir() {
        return Ok(read_sheets(&sheet_files(path)?, sample, missing)?);
    }
    match path.extension().is_some_and(|extension| extension == "json") {
        true => Ok(read_label_studio(path, sample, &BTreeMap::new(), missing)?),
        false => Ok(read_sheets(&[path], sample, missing)?),
    }
}

/// The joined labels of experts, by query and document, as grades for qrels.
pub(super) fn read_decisions(path: &Path, pairs: &[Pair], scale: Scale) -> Result<Vec<(String, String, i32)>> {
    let known: std::collections::HashSet<_> = pairs.iter().map(Pair::id).collect();
    let mut decisions = Vec::new();
    for_each_jsonl(path, &mut |_, row: FinalLabel| {
        if let Some(label) = row.label {
            decisions.push((row.query_id, row.doc_id, label));
        }
        Ok(())
    })?;
    for (query, document, label) in &mut decisions {
        if !known.contains(&(query.as_str(), document.as_str())) {
            bail!("{}: the pair `{query}`, `{document}` is not among the pairs", path.display());
        }
        // As for judges: 1 at the threshold, one more for each point above it.
        *label = (*label - scale.threshold + 1).max(0);
    }
    Ok(decisions)
}
