//! Splits without leaks: near-duplicate questions are always in the same split.

use std::collections::BTreeMap;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use care_core::files::AtomicFile;
use care_core::lines::Lines;
use care_core::{Error, ErrorKind, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::disjoint::{join, root};
use crate::near::NearDuplicates;
use crate::rows::TrainingExample;
use crate::table::is_jsonl;

/// A split and its share of the questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Name, e.g. `test`.
    pub name: String,
    /// Share of the questions, above 0, up to 1; the shares of all splits sum to 1.
    pub share: f64,
}

/// Parses `train=0.8,dev=0.1,test=0.1`; a single name is everything.
///
/// # Errors
/// If a name is empty, used twice or no file name, or the shares do not sum to 1.
pub fn parse_splits(text: &str) -> Result<Vec<Split>> {
    const ALLOWED: &str =
        "NAME=SHARE,.. with different names of letters, shares that sum to 1, e.g. train=0.8,dev=0.1,test=0.1";
    let refuse = || Error::setting("splits", format!("`{text}`"), ALLOWED);
    let mut splits: Vec<Split> = Vec::new();
    for part in text.split(',') {
        let (name, share) = part.split_once('=').unwrap_or((part, "1"));
        let share: f64 = share.trim().parse().map_err(|_| refuse())?;
        let name = name.trim().to_owned();
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || splits.iter().any(|split| split.name == name) || !(share > 0.0 && share <= 1.0) {
            return Err(refuse());
        }
        splits.push(Split { name, share });
    }
    if (splits.iter().map(|split| split.share).sum::<f64>() - 1.0).abs() > 1e-6 {
        return Err(refuse());
    }
    Ok(splits)
}

/// The split of each item, by its number in `splits`. Items whose texts are near-duplicates, directly or through others,
/// are in one split; an item may have several texts.
///
/// Shares are met as nearly as the clusters allow; which clusters go where follows from the seed.
///
/// # Errors
/// If a split gets no item: there are too few, or most are near-duplicates.
pub fn assign(items: &[Vec<&str>], splits: &[Split], near: &NearDuplicates, seed: u64) -> Result<Vec<usize>> {
    let texts: Vec<&str> = items.iter().flatten().copied().collect();
    let groups = near.groups(&texts);
    // Items that share a group of texts are one cluster, named by its first item.
    let mut first_of_group: BTreeMap<usize, usize> = BTreeMap::new();
    let mut cluster: Vec<usize> = (0..items.len()).collect();
    let mut at = 0;
    for (item, texts) in items.iter().enumerate() {
        for group in &groups[at..at + texts.len()] {
            let other = *first_of_group.entry(*group).or_insert(item);
            join(&mut cluster, other, item);
        }
        at += texts.len();
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for item in 0..items.len() {
        members.entry(root(&mut cluster, item)).or_default().push(item);
    }
    // Large clusters first, so that the small ones even out the shares; among equals the seed decides.
    let mut clusters: Vec<Vec<usize>> = members.into_values().collect();
    clusters.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.len()));
    let (mut sizes, mut assigned) = (vec![0usize; splits.len()], vec![0; items.len()]);
    for cluster in clusters {
        let lacking = |at: &usize| splits[*at].share * items.len() as f64 - sizes[*at] as f64;
        let split = (0..splits.len()).max_by(|a, b| lacking(a).total_cmp(&lacking(b)).then(b.cmp(a))).unwrap_or(0);
        sizes[split] += cluster.len();
        for item in cluster {
            assigned[item] = split;
        }
    }
    match sizes.iter().position(|&size| size == 0) {
        Some(empty) => {
            let (name, items) = (&splits[empty].name, items.len());
            Err(Error::new(ErrorKind::Config, format!("split `{name}` gets none of the {items} items")))
        }
        None => Ok(assigned),
    }
}

/// How training rows are split.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SplitOptions {
    /// The splits and their shares of the rows.
    pub splits: Vec<Split>,
    /// When two texts are near-duplicates.
    pub near: NearDuplicates,
    /// Whether rows whose positives are near-duplicates are kept together too, not only those whose queries are.
    pub with_positives: bool,
    /// Seed of the order in which clusters are assigned.
    pub seed: u64,
}

impl SplitOptions {
    /// Splits by the queries alone, with [`NearDuplicates::default`] and seed 0.
    pub fn new(splits: Vec<Split>) -> Self {
        Self { splits, near: NearDuplicates::default(), with_positives: false, seed: 0 }
    }

    /// Another rule for near-duplicates.
    #[must_use]
    pub fn with_near(mut self, near: NearDuplicates) -> Self {
        self.near = near;
        self
    }

    /// Keeps rows with near-duplicate positives together too.
    #[must_use]
    pub fn with_positives(mut self, with_positives: bool) -> Self {
        self.with_positives = with_positives;
        self
    }

    /// Another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Splits a JSON Lines file of training rows into one file per split, without leaks: `path_of` names the file of a split.
/// Lines are kept as they are, in their order. Returns the number of rows of each split.
///
/// Queries (and positives, on request) are in memory, the other texts are not.
///
/// # Errors
/// If the file is no JSON Lines, cannot be read, or a line is no training row (the message names file and line), if an
/// output cannot be written, or if a split gets no row; no output then appears.
pub fn split_rows(
    path: impl AsRef<Path>,
    path_of: &dyn Fn(&str) -> PathBuf,
    options: &SplitOptions,
) -> Result<Vec<usize>> {
    let path = path.as_ref();
    if !is_jsonl(path) {
        return Err(Error::format(path, "rows are split from JSON Lines; convert the file with `care data convert`"));
    }
    let mut items: Vec<Vec<String>> = Vec::new();
    for_each_line(path, &mut |number, line| {
        let named = |problem: String| Error::line(path, number, problem);
        let row = TrainingExample::from_json(line).map_err(named)?;
        row.check().map_err(named)?;
        let positives = if options.with_positives { row.positives } else { Vec::new() };
        items.push([vec![row.query], positives].concat());
        Ok(())
    })?;
    let texts: Vec<Vec<&str>> = items.iter().map(|texts| texts.iter().map(String::as_str).collect()).collect();
    let assigned = assign(&texts, &options.splits, &options.near, options.seed)
        .map_err(|e| Error::format(path, &e).with_source(e))?;
    let count = |split| assigned.iter().filter(|&&at| at == split).count();
    let counts: Vec<usize> = (0..options.splits.len()).map(count).collect();

    let paths: Vec<PathBuf> = options.splits.iter().map(|split| path_of(&split.name)).collect();
    let create = |path: &PathBuf| Ok(BufWriter::new(AtomicFile::create(path)?));
    let mut outputs = paths.iter().map(create).collect::<Result<Vec<_>>>()?;
    let mut of_row = assigned.iter();
    for_each_line(path, &mut |_, line| {
        let &split = of_row.next().ok_or_else(|| Error::format(path, "the file has grown while it was split"))?;
        writeln!(outputs[split], "{line}").map_err(|e| Error::io("write", &paths[split], e))
    })?;
    for (output, path) in outputs.into_iter().zip(&paths) {
        output.into_inner().map_err(|e| Error::io("write", path, e.into_error()))?.commit()?;
    }
    Ok(counts)
}

/// Calls `each` with the number and the text of every line that is not blank.
fn for_each_line(path: &Path, each: &mut dyn FnMut(usize, &str) -> Result<()>) -> Result<()> {
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line()? {
        if !line.trim().is_empty() {
            each(number, line)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_parsed_or_refused() {
        let splits = parse_splits("train=0.8, dev=0.1,test=0.1").expect("three");
        assert_eq!(splits.iter().map(|split| split.name.as_str()).collect::<Vec<_>>(), ["train", "dev", "test"]);
        assert_eq!(parse_splits("test").expect("one")[0].share, 1.0);
        for bad in ["", "train=0.8", "a=0.5,a=0.5", "a=x,b=0.5", "a=1.5,b=-0.5", "../a=1", "a=0.5,b=nan"] {
            assert!(parse_splits(bad).expect_err(bad).to_string().starts_with(&format!("`splits` is `{bad}`")));
        }
    }

    #[test]
    fn near_duplicates_share_a_split_and_shares_are_met() {
        let mut texts: Vec<String> =
            (0..200).map(|n| format!("第{n}个问题：{}怎么办", "头痛发热咳嗽胸闷腹泻".repeat(n % 7 + 1))).collect();
        for at in 0..100 {
            let copy = format!("{}？ ", texts[at]);
            texts.push(copy);
        }
        let items: Vec<Vec<&str>> = texts.iter().map(|text| vec![text.as_str()]).collect();
        let splits = parse_splits("train=0.8,dev=0.1,test=0.1").expect("three");
        let near = NearDuplicates::new(3, 0.95).expect("in range");
        let assigned = assign(&items, &splits, &near, 7).expect("none is empty");
        for pair in near.pairs(&texts) {
            assert_eq!(assigned[pair.first], assigned[pair.second]);
        }
        assert_eq!(assigned, assign(&items, &splits, &near, 7).expect("none is empty"));
        let size = |split| assigned.iter().filter(|at| **at == split).count();
        assert!(
            size(0).abs_diff(240) <= 12 && size(1).abs_diff(30) <= 12 && size(2) > 15,
            "{} {} {}",
            size(0),
            size(1),
            size(2)
        );
    }

    #[test]
    fn rows_are_split_whole_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        let symptoms = ["头痛", "发热", "咳嗽", "胸闷", "腹泻", "失眠", "皮疹", "耳鸣", "便秘", "乏力"];
        let line = |n: usize| {
            let question = format!("{}怎么办{}", symptoms[n % 10].repeat(3), "？".repeat(n / 10));
            format!("{{\"query\":\"{question}\",\"pos\":[\"答{n}\"],\"extra\":{n}}}")
        };
        let lines: Vec<String> = (0..40).map(line).collect();
        std::fs::write(&path, lines.join("\n\n")).expect("written");
        let options = SplitOptions::new(parse_splits("train=0.8,test=0.2").expect("two")).with_seed(3);
        let path_of = |name: &str| folder.path().join(format!("{name}.jsonl"));
        assert_eq!(split_rows(&path, &path_of, &options).expect("split"), [32, 8]);
        let read = |name: &str| std::fs::read_to_string(path_of(name)).expect("written");
        let (train, test) = (read("train"), read("test"));
        let is_test = |line: &&String| test.lines().any(|of_test| of_test == line.as_str());
        let (of_test, of_train): (Vec<_>, Vec<_>) = lines.iter().partition(is_test);
        assert_eq!(test.lines().collect::<Vec<_>>(), of_test);
        assert_eq!(train.lines().collect::<Vec<_>>(), of_train);
        let symptom = |line: &str| line.chars().skip(10).take(2).collect::<String>();
        assert!(test.lines().all(|test| train.lines().all(|train| symptom(test) != symptom(train))), "no leak");

        let refusal = |content: &str, splits: &str| {
            std::fs::write(&path, content).expect("written");
            let options = SplitOptions::new(parse_splits(splits).expect("splits"));
            let message = split_rows(&path, &path_of, &options).expect_err("refused").to_string();
            message.replace(&folder.path().display().to_string(), "F")
        };
        assert_eq!(refusal("{\"query\":\"a\",\"pos\":[]}", "train"), "F/rows.jsonl:1: `pos` is empty");
        let one = "{\"query\":\"a\",\"pos\":[\"b\"]}\n";
        assert_eq!(refusal(one, "a=0.5,b=0.5"), "F/rows.jsonl: split `b` gets none of the 1 items");
    }

    #[test]
    fn items_that_share_a_text_are_together() {
        let items = [vec!["甲甲甲", "乙乙乙"], vec!["丙丙丙", "丁丁丁"], vec!["乙乙乙", "丙丙丙"], vec!["戊戊戊"]];
        let splits = parse_splits("a=0.5,b=0.5").expect("two");
        let assigned = assign(&items, &splits, &NearDuplicates::default(), 0).expect("none is empty");
        assert_eq!((assigned[0], assigned[1]), (assigned[2], assigned[2]));
        assert_ne!(assigned[0], assigned[3]);
    }
}
