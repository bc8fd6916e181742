//! `care label audit`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use care_core::files::write_atomic;
use care_core::manifest::Input;
use care_eval::agreement::IntervalOptions;
use care_eval::io::{read_qrels, read_run, write_beir_qrels};
use care_eval::{Measure, Run};
use care_label::Pair;
use care_label::audit::{Member, Role, Update, compare_systems, false_negatives, families, leave_one_out, relabel};
use care_label::judge::Judges;
use care_label::resolve::resolve;
use serde_json::json;

use super::agree::{CheckedArgs, Material};
use super::votes::RuleArgs;
use crate::commands::manifest::write_manifest;
use crate::stderr::note;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    checked: CheckedArgs,
    /// Judgements of the benchmark that is audited
    #[arg(long, value_name = "FILE")]
    qrels: Option<PathBuf>,
    #[command(flatten)]
    rule: RuleArgs,
    /// Rankings of systems (TREC, or .json); by default those in the pairs
    #[arg(long = "run", value_name = "FILE", num_args = 1..)]
    runs: Vec<PathBuf>,
    /// Models that generated texts of the benchmark, for families
    #[arg(long, value_name = "NAME", num_args = 1..)]
    generator: Vec<String>,
    /// Teachers of the evaluated systems, for families
    #[arg(long, value_name = "NAME", num_args = 1..)]
    teacher: Vec<String>,
    /// The measure by which systems are ranked
    #[arg(long, default_value = "ndcg@10")]
    measure: Measure,
    /// Let labels replace existing judgements, not only add to them
    #[arg(long)]
    replace: bool,
    /// Folder for the report, its figures and the new judgements
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let material = args.checked.open()?;
    if material.ballots.judges().len() > 1 {
        check_rule(&args, &material)?;
    }
    let old = args.qrels.as_ref().map(read_qrels).transpose()?;
    let systems = systems(&args, &material.pairs)?;
    let options = IntervalOptions::default();
    std::fs::create_dir_all(&args.output).with_context(|| format!("cannot create {}", args.output.display()))?;

    let checked: BTreeMap<_, _> = material.checked().truth()?.into_iter().collect();
    let scale = material.ballots.scale();
    let checked = checked.into_iter().map(|(pair, score)| (pair, scale.is_positive(score))).collect();
    let missing = false_negatives(&material.pairs, &material.labels, &checked, material.strata().as_ref(), &options)?;
    let mut text = format!("# Audit\n\n## Unlabelled positives\n\n{missing}");
    let mut figures = json!({ "false_negatives": missing });

    let update = if args.replace { Update::Replace } else { Update::Add };
    let base = old.clone().unwrap_or_default();
    let new = relabel(&base, &material.labels, update)?;
    write_beir_qrels(args.output.join("qrels.tsv"), &new)?;
    if let Some(old) = &old {
        let change = compare_systems(&systems, old, &new, args.measure)?;
        text += &format!("\n## Systems under old and new judgements\n\n{change}");
        figures["systems"] = serde_json::to_value(&change)?;
    }
    if material.ballots.judges().len() > 1 {
        let options = args.rule.options();
        let circular =
            leave_one_out(&material.ballots, args.rule.rule, &options, &base, update, &systems, args.measure)?;
        text += "\n## Without one judge\n";
        for without in &circular {
            text += &format!(
                "\n**without {}**: {} positive pairs, {} pairs with another outcome\n\n{}",
                without.judge, without.positive, without.changed, without.systems
            );
        }
        figures["leave_one_out"] = serde_json::to_value(&circular)?;
    }
    let families = families(&members(&args, &systems)?);
    text += &format!("\n## Families\n\n{families}");
    figures["families"] = serde_json::to_value(&families)?;

    let report = args.output.join("report.md");
    write_atomic(&report, text)?;
    write_atomic(args.output.join("report.json"), serde_json::to_string_pretty(&figures)? + "\n")?;
    let mut inputs = args.checked.inputs()?;
    inputs.extend(args.qrels.iter().map(|path| Input::of("qrels", path)).collect::<care_core::Result<Vec<_>>>()?);
    let settings = json!({
        "rule": args.rule.settings(), "votes": args.checked.count.settings(), "measure": args.measure.to_string(),
        "replace": args.replace,
    });
    write_manifest("label audit", settings, json!({ "queries": missing.queries }), inputs, &report)?;
    note!("{:.2} unlabelled positives per query; the report is {}", missing.per_query.value, report.display());
    Ok(())
}

/// Refuses another rule than the one that made the labels: leaving a judge out would be compared with other labels.
fn check_rule(args: &Args, material: &Material) -> Result<()> {
    let made = resolve(&material.ballots, args.rule.rule, &args.rule.options())?.labels;
    let made: BTreeMap<_, _> = made.iter().map(|label| (label.id(), label.outcome)).collect();
    let other = material.labels.iter().find(|label| !label.expert && made.get(&label.id()) != Some(&label.outcome));
    if let Some(label) = other {
        let (file, (query, document)) = (args.checked.labels.display(), label.id());
        bail!(
            "{file}: the label of `{query}`, `{document}` is not what `--rule {}` makes of the votes; give the rule and the \
             other options by which `care label resolve` made the labels",
            args.rule.rule
        );
    }
    Ok(())
}

/// The systems' rankings: from files, or as they are in the pairs.
fn systems(args: &Args, pairs: &[Pair]) -> Result<Vec<(String, Run)>> {
    let mut systems = Vec::new();
    for path in &args.runs {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        systems.push((name, read_run(path)?));
    }
    if systems.is_empty() {
        let mut pooled: BTreeMap<&str, Run> = BTreeMap::new();
        for pair in pairs {
            for found in &pair.systems {
                let run = pooled.entry(&found.system).or_default();
                run.insert(&pair.query_id, &pair.doc_id, found.score)?;
            }
        }
        systems = pooled.into_iter().map(|(name, run)| (name.to_owned(), run)).collect();
    }
    Ok(systems)
}

fn members(args: &Args, systems: &[(String, Run)]) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    if let Some(path) = &args.checked.count.judges {
        for judge in Judges::open(path)?.judges {
            members.push(Member::new(&judge.name, Role::Judge, &judge.model, judge.family.as_deref()));
        }
    }
    members.extend(args.generator.iter().map(|name| Member::new(name, Role::Generator, name, None)));
    members.extend(args.teacher.iter().map(|name| Member::new(name, Role::Teacher, name, None)));
    members.extend(systems.iter().map(|(name, _)| Member::new(name, Role::System, name, None)));
    Ok(members)
}
