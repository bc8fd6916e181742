//! Several models side by side, as tables of strings.

use std::collections::{BTreeMap, BTreeSet};

use care_core::{Error, ErrorKind, Result};
use care_eval::stats::{MOST_SAMPLES, holm};

use super::published::{Published, Row};
use super::settings;
use crate::compare::{Comparison, compare};
use crate::results::{Results, TaskResult};

/// Below this number of queries or pairs, intervals are warned of.
const FEW: usize = 30;

/// Models side by side, each compared with the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub(super) models: Vec<Results>,
    /// Comparisons of each model but the first.
    comparisons: Vec<Vec<Comparison>>,
    pub(super) notes: Vec<String>,
    pub(super) published: Option<Published>,
}

impl Summary {
    /// Compares each model with the first; `samples` and `seed` are those of [`compare`]. Results that cannot be compared
    /// are listed in [`notes`](Summary::notes).
    ///
    /// # Errors
    /// If there is no model, two models have the same name, or `samples` is above [`MOST_SAMPLES`].
    pub fn new(models: Vec<Results>, samples: usize, seed: u64) -> Result<Self> {
        if samples > MOST_SAMPLES {
            return Err(Error::setting("samples", samples, &format!("at most {MOST_SAMPLES}")));
        }
        let Some((first, others)) = models.split_first() else {
            return Err(Error::new(ErrorKind::Config, "there is no model to report on"));
        };
        let mut names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        names.sort_unstable();
        if let Some(equal) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::new(ErrorKind::Config, format!("two models are named {}", equal[0])));
        }
        let (mut comparisons, mut notes) = (Vec::new(), Vec::new());
        for other in others {
            let (compared, refused): (Vec<_>, Vec<_>) =
                compare(first, other, samples, seed).into_iter().partition(Result::is_ok);
            comparisons.push(compared.into_iter().flatten().collect());
            notes.extend(refused.into_iter().filter_map(|refused| Some(refused.err()?.to_string())));
        }
        Ok(Self { models, comparisons, notes, published: None })
    }

    /// Adds the scores that the CARE paper reports on CMedTEB, marked as published, beside the means of these results.
    ///
    /// # Errors
    /// If the file of scores in this build is not valid.
    pub fn with_published(self) -> Result<Self> {
        Ok(Self { published: Some(Published::read()?), ..self })
    }

    /// The results that could not be compared, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What makes comparisons doubtful: tasks with too few queries or pairs for an interval.
    pub fn warnings(&self) -> Vec<String> {
        let few = self.compared().map(|(_, comparison)| comparison).filter(|comparison| comparison.count < FEW);
        // Once per task, however many models are compared.
        let few: BTreeMap<&str, &Comparison> = few.map(|comparison| (comparison.task.as_str(), comparison)).collect();
        // Simulated with differences of nDCG@10, of which 40 % are 0: 83 % at 8 queries, 92 % at 30.
        let warning = |(task, comparison): (&str, &Comparison)| {
            let (count, items) = (comparison.count, if comparison.queries.is_empty() { "pairs" } else { "queries" });
            format!(
                "{task} has only {count} {items}. Below {FEW} a bootstrap interval is too narrow: at 8 queries it misses the \
                 true difference in 17 % of cases, not in 5 %."
            )
        };
        few.into_iter().map(warning).collect()
    }

    /// The tasks that any model has a result for.
    pub(super) fn tasks(&self) -> BTreeSet<&str> {
        self.models.iter().flat_map(|model| &model.tasks).map(|result| result.task.as_str()).collect()
    }

    /// The comparisons, each with the name of the model compared with the first.
    pub(super) fn compared(&self) -> impl Iterator<Item = (&str, &Comparison)> {
        let others = self.models.iter().skip(1).zip(&self.comparisons);
        others.flat_map(|(model, comparisons)| comparisons.iter().map(|comparison| (model.name.as_str(), comparison)))
    }

    /// The measures of the main scores, each with its tasks.
    pub(super) fn measures(&self) -> BTreeMap<String, Vec<&str>> {
        let mut measures: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for task in self.tasks() {
            measures.entry(self.measure(task)).or_default().push(task);
        }
        measures
    }

    /// The measure of a task's main score.
    fn measure(&self, task: &str) -> String {
        let mut results: Vec<&TaskResult> = self.models.iter().filter_map(|model| model.task(task)).collect();
        // Files that state it before files whose measure is a guess.
        results.sort_by_key(|result| result.single.is_none());
        results.first().map(|result| result.measure()).unwrap_or_default()
    }

    /// The table of scores: task, measure, and each model's score.
    pub(super) fn scores(&self) -> Table {
        let header = ["task", "measure"].into_iter().chain(self.models.iter().map(|model| model.name.as_str()));
        let mut table = Table::new(header, 2);
        for task in self.tasks() {
            let scores = self.models.iter().map(|model| model.task(task).map(|result| result.main_score));
            let scores: Vec<_> = scores.map(|score| score.map(|score| format!("{score:.4}"))).collect();
            // As printed: equal scores are both the best.
            let best = scores.iter().flatten().max_by(|a, b| number(a).total_cmp(&number(b)));
            let rivals = scores.iter().flatten().count() > 1;
            table.best.extend(
                (0..scores.len())
                    .filter(|&at| rivals && scores[at].as_ref() == best)
                    .map(|at| (table.rows.len(), at + 2)),
            );
            let scores = scores.iter().map(|score| score.clone().unwrap_or_else(none));
            table.rows.push([task.to_owned(), self.measure(task)].into_iter().chain(scores).collect());
        }
        table
    }

    /// The comparisons, each with its p-value corrected for the number of p-values.
    pub(super) fn corrected(&self) -> impl Iterator<Item = (&str, &Comparison, Option<f64>)> {
        let p_values: Vec<f64> = self.compared().filter_map(|(_, comparison)| comparison.p_value).collect();
        // Of the same length and order; a p-value of this crate is never out of range.
        let mut corrected = holm(&p_values).unwrap_or_default().into_iter();
        self.compared()
            .map(move |(model, comparison)| (model, comparison, comparison.p_value.and_then(|_| corrected.next())))
    }

    /// The table of comparisons.
    pub(super) fn differences(&self) -> Table {
        let difference = format!("minus {}", self.baseline());
        let header = ["task", "model", &difference, "95 % interval", "p", "p (Holm)", "better / same / worse"];
        let mut table = Table::new(header, 2);
        table.rows = self
            .corrected()
            .map(|(model, comparison, holm)| {
                let interval = comparison.interval.map(|of| format!("{} to {}", signed(of.low), signed(of.high)));
                let [p, holm] = [comparison.p_value, holm].map(|p| p.map_or_else(none, |p| format!("{p:.4}")));
                let counts = match comparison.queries.is_empty() {
                    true => none(),
                    false => comparison.counts().map(|count| count.to_string()).join(" / "),
                };
                let difference = signed(comparison.difference());
                vec![
                    comparison.task.clone(),
                    model.to_owned(),
                    difference,
                    interval.unwrap_or_else(none),
                    p,
                    holm,
                    counts,
                ]
            })
            .collect();
        table
    }

    /// The name of the model that the others are compared with.
    pub(super) fn baseline(&self) -> &str {
        self.models.first().map_or("", |model| model.name.as_str())
    }

    /// The table of published scores after the means of these results, and what to know of it; `None` if it is not asked for.
    pub(super) fn published(&self) -> Option<(Table, String)> {
        let published = self.published.as_ref()?;
        let header = [
            "model",
            "parameters, query / document",
            "data",
            "retrieval nDCG@10",
            "reranking MAP@10",
            "STS Pearson",
            "average",
            "average of retrieval and reranking",
        ];
        let mut table = Table::new(header, 3);
        let mut foreign = false;
        for model in &self.models {
            let (row, tasks) = Row::of_results(model);
            foreign |= tasks.iter().any(|task| !task.starts_with(&published.data));
            let data = if tasks.is_empty() { none() } else { tasks.join(", ") };
            table.rows.push(published_cells(&row, data));
        }
        for row in &published.rows {
            table.rows.push(published_cells(row, format!("published: {}", published.data)));
        }
        let mut note = format!(
            "In per cent. Rows marked as published are figures of {}, on its data set {}; the column \"average\" is as printed \
             there and does not follow from the others. The other rows are means over these results.",
            published.source, published.data
        );
        if foreign {
            note += &format!(
                " They are of other data than {}, so they cannot be compared with the published rows.",
                published.data
            );
        }
        Some((table, note))
    }

    /// The recorded data and settings of the results, as keys and values under titles.
    pub(super) fn about(&self) -> Vec<(String, Vec<(String, String)>)> {
        let results = self.models.iter().flat_map(|model| model.tasks.iter().map(move |result| (model, result)));
        settings::common_first(results.map(|(model, result)| (model.name.as_str(), result)))
    }
}

fn published_cells(row: &Row, data: String) -> Vec<String> {
    let scores = [row.retrieval, row.reranking, row.sts, row.average, row.average_of_two];
    let scores = scores.map(|score| score.map_or_else(none, |score| format!("{score:.2}")));
    [row.model.clone(), row.parameters.clone().unwrap_or_else(none), data].into_iter().chain(scores).collect()
}

/// A difference with its sign; one that rounds to 0 is +0.
fn signed(value: f64) -> String {
    let text = format!("{value:+.4}");
    if text == "-0.0000" { "+0.0000".to_owned() } else { text }
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NEG_INFINITY)
}

/// The cell of a value that there is not.
fn none() -> String {
    "–".to_owned()
}

/// A table of strings.
pub(super) struct Table {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// The first columns, which are text; the others are numbers.
    pub(super) text_columns: usize,
    /// Row and column of the best scores.
    pub(super) best: BTreeSet<(usize, usize)>,
}

impl Table {
    pub(super) fn new<'a>(header: impl IntoIterator<Item = &'a str>, text_columns: usize) -> Self {
        let header = header.into_iter().map(str::to_owned).collect();
        Self { header, rows: Vec::new(), text_columns, best: BTreeSet::new() }
    }

    /// The rows, each cell with whether it is the best score.
    pub(super) fn cells(&self) -> impl Iterator<Item = impl Iterator<Item = (&str, bool)>> {
        self.rows.iter().enumerate().map(move |(row, cells)| {
            let best = move |column| self.best.contains(&(row, column));
            cells.iter().enumerate().map(move |(column, cell)| (cell.as_str(), best(column)))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::Single;
    use crate::results::TaskResult;

    fn model(name: &str, shift: f64) -> Results {
        let queries =
            (0..30).map(|n| (format!("q{n:02}"), (f64::from(n % 7) / 10.0 + shift * f64::from(n % 2)).min(1.0)));
        let queries: std::collections::BTreeMap<String, f64> = queries.collect();
        let main_score = queries.values().sum::<f64>() / 30.0;
        let pairs = (0..20).map(|n| (f64::from(n), f64::from(n * (n % 3)) + shift)).collect();
        let result = |task: &str, main_score, single| TaskResult {
            task: task.to_owned(),
            data: "fnv1a-1".to_owned(),
            main_score,
            scores: Default::default(),
            single: Some(single),
            about: json!({"ties": "trec_eval", "settings": {"query": {"instruction": "a | b <c> {text}"}}}),
        };
        let ranking = Single::Queries { main: "ndcg@10".to_owned(), queries };
        let sts = Single::Pairs { main: "cosine_spearman".to_owned(), pairs };
        Results {
            name: name.to_owned(),
            tasks: vec![result("retrieval", main_score, ranking), result("sts", 0.5, sts)],
        }
    }

    #[test]
    fn markdown_holds_scores_differences_and_rules() {
        let summary = Summary::new(vec![model("base", 0.0), model("new|er", 0.2)], 500, 1).expect("comparable");
        let text = summary.to_markdown();
        assert!(text.contains("| task | measure | base | new\\|er |\n|---|---|---|---|\n"), "{text}");
        assert!(text.contains("| retrieval | ndcg@10 | 0.2833 | **0.3833** |"), "{text}");
        assert!(text.contains("| retrieval | new\\|er | +0.1000 | +0.0"), "{text}");
        assert!(text.contains("| 15 / 15 / 0 |"), "{text}");
        assert!(text.contains("- ties: trec_eval\n"), "{text}");
    }

    #[test]
    fn the_page_asks_nothing_of_a_network_and_shows_texts_as_they_are() {
        let summary = Summary::new(vec![model("base", 0.0), model("<b>new</b>", 0.2)], 500, 1).expect("comparable");
        let page = summary.to_html().expect("drawn");
        assert!(page.contains("&lt;b&gt;new&lt;/b&gt;") && !page.contains("<b>new"), "escaped");
        let pictures = if cfg!(feature = "plots") { [5, 2] } else { [0, 0] };
        assert_eq!(page.matches("<svg").count(), pictures[0], "scores and intervals of two measures, queries");
        for address in ["src=", "href=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(address), "{address}");
        }
        let alone = Summary::new(vec![model("base", 0.0)], 500, 1).expect("one model");
        assert_eq!(alone.to_html().expect("drawn").matches("<svg").count(), pictures[1]);
    }

    #[test]
    fn what_cannot_be_compared_is_shown_without_its_comparison() {
        let mut foreign = model("theirs", 0.1);
        foreign.tasks[0].single = None;
        let summary = Summary::new(vec![model("ours", 0.0), foreign], 100, 1).expect("one task is comparable");
        let note = "ours and theirs cannot be compared on retrieval: a result file has no scores per query";
        assert_eq!(summary.notes(), [note]);
        let (text, page) = (summary.to_markdown(), summary.to_html().expect("drawn"));
        assert!(text.contains(note) && page.contains(note));
        assert!(text.contains("| retrieval | ndcg@10 | 0.2833 | **0.3333** |"), "{text}");
        assert!(text.contains("| sts | theirs |") && !text.contains("| retrieval | theirs |"), "{text}");
    }

    #[test]
    #[cfg(feature = "plots")]
    fn numbers_in_pictures_are_readable_with_one_task_and_two_models() {
        let mut models = [model("base", 0.0), model("new", 0.2)];
        models.iter_mut().for_each(|model| model.tasks.truncate(1));
        let page = Summary::new(models.to_vec(), 500, 1).expect("comparable").to_html().expect("drawn");
        let sizes = page.split("font-size=\"").skip(1).map(|rest| rest.split('"').next().expect("quoted"));
        let sizes: Vec<f64> = sizes.map(|size| size.parse().expect("a number")).collect();
        assert!(sizes.len() > 20 && sizes.iter().all(|size| *size >= 10.0), "{sizes:?}");
        assert!(!page.contains("\n-0.0\n") && !page.contains("\n10.0\n"), "short numbers");
        assert!(page.contains("ndcg@10 minus base"), "an axis says its measure");
    }

    #[test]
    fn each_measure_has_its_own_chart() {
        let summary = Summary::new(vec![model("base", 0.0), model("new", 0.2)], 100, 1).expect("comparable");
        let measures: Vec<_> = summary.measures().into_iter().collect();
        assert_eq!(measures, [("cosine_spearman".to_owned(), vec!["sts"]), ("ndcg@10".to_owned(), vec!["retrieval"])]);
    }

    #[test]
    fn few_queries_are_warned_of() {
        let many = Summary::new(vec![model("base", 0.0), model("new", 0.2)], 100, 1).expect("comparable");
        assert_eq!(many.warnings().len(), 1, "20 pairs, and 30 queries: {:?}", many.warnings());
        let few = [0.0, 0.2].map(|shift| {
            let mut model = model(&format!("m{shift}"), shift);
            if let Some(Single::Queries { queries, .. }) = &mut model.tasks[0].single {
                queries.retain(|id, _| id.as_str() < "q08");
            }
            model
        });
        let summary = Summary::new(few.to_vec(), 100, 1).expect("comparable");
        let warning = "retrieval has only 8 queries. Below 30 a bootstrap interval is too narrow: at 8 queries it \
                       misses the true difference in 17 % of cases, not in 5 %.";
        assert_eq!(summary.warnings()[0], warning);
        let page = summary.to_html().expect("drawn");
        assert!(summary.to_markdown().contains(&format!("**Warning**: {warning}")) && page.contains(warning));
    }

    #[test]
    fn latex_and_csv_hold_the_same_numbers() {
        let models = vec![model("base", 0.0), model("new_1, \"b\"", 0.2)];
        let summary = Summary::new(models, 500, 1).expect("comparable");
        let latex = summary.to_latex();
        assert!(
            latex.contains("\\begin{tabular}{llrr}\n\\toprule\ntask & measure & base & new\\_1, \"b\" \\\\\n"),
            "{latex}"
        );
        assert!(latex.contains("retrieval & ndcg@10 & 0.2833 & \\textbf{0.3833} \\\\\n"), "{latex}");
        assert!(latex.contains("& $+0.1000$ & $+0.0"), "{latex}");
        let csv = summary.to_csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with("task,measure,model,score,queries,baseline,difference,"), "{csv}");
        assert!(lines[1].starts_with("retrieval,ndcg@10,base,0.2833"), "{csv}");
        assert!(lines[1].ends_with(",30,,,,,,,,,,measured"), "{csv}");
        assert!(lines[2].starts_with("retrieval,ndcg@10,\"new_1, \"\"b\"\"\",0.3833"), "{csv}");
        assert!(lines[2].contains(",30,base,0.1") && lines[2].ends_with(",15,15,0,measured"), "{csv}");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn published_scores_are_marked_and_kept_apart() {
        let summary = Summary::new(vec![model("base", 0.0)], 100, 1).expect("one model");
        assert!(!summary.to_markdown().contains("Published"));
        let summary = summary.with_published().expect("valid");
        let text = summary.to_markdown();
        for row in [
            "| base | – | – | – | – | – | – | – |",
            "| CARE-0.3B-4B | 305 M / 4.02 B | published: CMedTEB | 55.91 | 72.84 | 88.53 | 78.13 | 64.38 |",
            "| KALE | – | published: CMedTEB | 42.67 | 67.42 | – | – | 55.05 |",
        ] {
            assert!(text.contains(row), "{row} in {text}");
        }
        let page = summary.to_html().expect("drawn");
        assert!(page.contains("published: CMedTEB") && summary.to_latex().contains("published: CMedTEB"));
        let row = "CMedTEB-retrieval,ndcg@10,CARE-0.3B-4B,0.5591,,,,,,,,,,,\"published: ";
        assert!(summary.to_csv().contains(row), "{}", summary.to_csv());

        let mut own = model("base", 0.0);
        own.tasks[0].scores.insert("ndcg_at_10".to_owned(), 0.25);
        own.tasks[1].scores.insert("cosine_pearson".to_owned(), 0.5);
        let text =
            Summary::new(vec![own.clone()], 100, 1).and_then(Summary::with_published).expect("valid").to_markdown();
        assert!(text.contains("| base | – | retrieval, sts | 25.00 | – | 50.00 | – | – |"), "{text}");
        assert!(text.contains("They are of other data than CMedTEB"), "{text}");
        own.tasks.iter_mut().for_each(|result| result.task.insert_str(0, "CMedTEB-"));
        let text = Summary::new(vec![own], 100, 1).and_then(Summary::with_published).expect("valid").to_markdown();
        assert!(
            text.contains("| base | – | CMedTEB-retrieval, CMedTEB-sts |") && !text.contains("other data"),
            "{text}"
        );
    }

    #[test]
    fn p_values_are_corrected_for_the_number_in_the_table() {
        let models = [("base", 0.0), ("a", 0.2), ("b", 0.05), ("c", -0.02)].map(|(name, shift)| model(name, shift));
        let summary = Summary::new(models.to_vec(), 500, 1).expect("comparable");
        let raw: Vec<f64> = summary.compared().filter_map(|(_, comparison)| comparison.p_value).collect();
        let expected: Vec<String> = holm(&raw).expect("valid").iter().map(|p| format!("{p:.4}")).collect();
        let table = summary.differences();
        assert_eq!(table.header[4..6], ["p", "p (Holm)"]);
        let ranked: Vec<_> = table.rows.iter().filter(|row| row[0] == "retrieval").collect();
        assert_eq!((raw.len(), ranked.len()), (3, 3));
        for (row, (raw, expected)) in ranked.iter().zip(raw.iter().zip(&expected)) {
            assert_eq!((&row[4], &row[5]), (&format!("{raw:.4}"), expected));
        }
        assert!(ranked.iter().any(|row| row[4] != row[5]), "{ranked:?}");
        assert!(table.rows.iter().filter(|row| row[0] == "sts").all(|row| row[4..6] == ["–", "–"]));
    }

    #[test]
    fn no_model_or_one_twice_is_refused() {
        let error = Summary::new(vec![model("base", 0.0)], 1_000_001, 1).expect_err("too many").to_string();
        assert_eq!(error, "`samples` is 1000001, allowed: at most 1000000");
        let error = Summary::new(Vec::new(), 10, 1).expect_err("none").to_string();
        assert_eq!(error, "there is no model to report on");
        let error = Summary::new(vec![model("a", 0.0), model("a", 0.1)], 10, 1).expect_err("twice").to_string();
        assert_eq!(error, "two models are named a");
    }
}
