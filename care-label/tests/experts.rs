//! Samples, sheets and what comes back from experts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use care_label::experts::{
    Allocation, By, Candidate, Dispute, ExpertLabels, Format, Join, Missing, Sample, SampleOptions, Sheets, Source,
    Value, adjudication, final_labels, label_studio_config, label_studio_tasks, read_label_studio, read_sheets,
    sheet_files,
};
use care_label::pair::Found;
use care_label::{Pair, Prompt};

fn pair(at: usize) -> Pair {
    let found = |system: usize| Found { system: format!("s{system}"), rank: at + 1, score: 1.0 };
    Pair {
        query_id: format!("q{:03}", at / 4),
        doc_id: format!("d{at:04}"),
        query: format!("问题{}：发热几天", at / 4),
        document: format!("文档{at}：多休息，\n多饮水"),
        positive: None,
        group: [Some("儿科"), Some("内科"), None][at / 4 % 3].map(str::to_owned),
        grade: None,
        systems: (0..=at % 2).map(found).collect(),
    }
}

fn pairs(count: usize) -> Vec<Pair> {
    (0..count).map(pair).collect()
}

fn candidates(pairs: &[Pair]) -> Vec<Candidate<'_>> {
    let of =
        |(at, pair): (usize, _)| Candidate { pair, label: Some((at % 5) as f64 + 0.8), range: Some((at % 3) as i32) };
    pairs.iter().enumerate().map(of).collect()
}

fn prompt() -> Prompt {
    Prompt::open("relevance").expect("a preset")
}

/// A folder with the sheets of a sample of twelve pairs for two experts, who both see all.
struct Work {
    folder: tempfile::TempDir,
    sample: Sample,
    pairs: Vec<Pair>,
}

impl Work {
    fn new(formats: &[Format]) -> Self {
        let pairs = pairs(12);
        let options = SampleOptions::new(12, &["王医生", "李医生"]).with_overlap(2).with_seed(5);
        let sample = Sample::draw(&candidates(&pairs), &prompt(), &options).expect("a sample");
        let folder = tempfile::tempdir().expect("a folder");
        Sheets::new(&sample, &pairs, &prompt()).expect("sheets").write(folder.path(), formats).expect("written");
        Self { folder, sample, pairs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rows(&self, name: &str) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.path(name)).expect("a sheet");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        reader.records().map(|row| row.expect("a row").iter().map(str::to_owned).collect()).collect()
    }

    /// Replaces a sheet by these rows.
    fn fill(&self, name: &str, rows: &[Vec<String>]) {
        std::fs::write(self.path(name), bytes(rows)).expect("written");
    }

    fn read(&self, names: &[&str], missing: Missing) -> Result<ExpertLabels, String> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        let result = read_sheets(&paths, &self.sample, missing);
        result.map_err(|e| e.to_string().replace(&format!("{}/", self.folder.path().display()), ""))
    }

    /// The error for a sheet that was filled and then changed.
    fn refused(&self, change: impl Fn(&mut Vec<Vec<String>>)) -> String {
        let mut rows = filled(self.rows("王医生.csv"));
        change(&mut rows);
        self.fill("changed.csv", &rows);
        self.read(&["changed.csv"], Missing::Accept).expect_err("refused")
    }
}

fn bytes(rows: &[Vec<String>]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().for_each(|row| writer.write_record(row).expect("a row"));
    writer.into_inner().expect("in memory")
}

/// A score for each row: 1 to 5 by its text.
fn filled(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    for row in rows.iter_mut().skip(1) {
        row[3] = (row[2].len() % 5 + 1).to_string();
    }
    rows
}

fn scores(labels: &ExpertLabels) -> Vec<Vec<Option<i32>>> {
    labels.table()
}

#[test]
fn a_sample_is_the_same_for_a_seed_whatever_the_order_and_stands_for_its_population() {
    let mut pairs = pairs(600);
    let by = [By::Label, By::Disagreement, By::Group, By::Systems];
    for allocation in [Allocation::Proportional, Allocation::Equal, Allocation::Neyman] {
        let options =
            SampleOptions::new(250, &["a", "b", "c"]).with_strata(&by).with_allocation(allocation, 2).with_overlap(2);
        let sample = Sample::draw(&candidates(&pairs), &prompt(), &options).expect("a sample");
        let mut mixed = candidates(&pairs);
        mixed.reverse();
        assert_eq!(Sample::draw(&mixed, &prompt(), &options).expect("a sample"), sample);
        assert_ne!(
            Sample::draw(&mixed, &prompt(), &options.clone().with_seed(1)).expect("a sample").pairs,
            sample.pairs
        );
        assert_eq!(sample.strata.iter().map(|stratum| stratum.population).sum::<usize>(), 600);
        assert!(sample.strata.iter().all(|stratum| stratum.sampled >= 2.min(stratum.population)));
        let weight: f64 = sample.weights().iter().sum();
        assert!((weight - 600.0).abs() < 1e-9, "{weight}");
        let mut seen: HashMap<usize, usize> = HashMap::new();
        sample.experts.iter().flat_map(|expert| &expert.pairs).for_each(|pair| *seen.entry(*pair).or_default() += 1);
        assert!(seen.len() == 250 && seen.values().all(|times| *times == 2));
    }
    let options = SampleOptions::new(30, &["a"]).with_strata(&[By::Label, By::Group]);
    let sample = Sample::draw(&candidates(&pairs), &prompt(), &options).expect("a sample");
    // A mean of 0.8 is the label 1.
    let labels: HashSet<&Value> = sample.strata.iter().map(|stratum| &stratum.of[&By::Label]).collect();
    assert_eq!(labels, (1..=5).map(Value::Number).collect::<Vec<_>>().iter().collect());
    assert_eq!(sample.strata.len(), 15);
    pairs.push(pair(7));
    let error = Sample::draw(&candidates(&pairs), &prompt(), &SampleOptions::new(30, &["a"])).expect_err("twice");
    assert_eq!(error.to_string(), "the pair `q001`, `d0007` is duplicated");
}

#[test]
fn options_out_of_range_are_refused() {
    let pairs = pairs(40);
    let refused = |options: SampleOptions| {
        Sample::draw(&candidates(&pairs), &prompt(), &options).expect_err("refused").to_string()
    };
    let of = |experts: &[&str]| SampleOptions::new(10, experts);
    assert_eq!(refused(SampleOptions::new(0, &["a"])), "`size` is 0, allowed: >= 1");
    assert_eq!(
        refused(SampleOptions::new(41, &["a"])),
        "`size` is 41, allowed: 2 to 40 (1 strata of at least 2 pairs, or all they have)"
    );
    assert_eq!(refused(of(&["a"]).with_overlap(2)), "`per_pair` is 2, allowed: 1 to 1, the number of experts");
    assert_eq!(refused(of(&["A", "a "])), "`experts` is `a` twice, allowed: different names");
    for name in ["", "a/b", "=x", "12", "a\nb"] {
        assert!(
            refused(of(&[name])).ends_with("allowed: 1 to 60 characters that can name a file, and no number"),
            "{name}"
        );
    }
    assert_eq!(refused(of(&["a"]).with_allocation(Allocation::Equal, 0)), "`minimum` is 0, allowed: >= 1");
    let bare: Vec<_> = pairs.iter().map(|pair| Candidate { pair, label: None, range: None }).collect();
    for (by, name) in [(By::Label, "label"), (By::Disagreement, "disagreement")] {
        let error = Sample::draw(&bare, &prompt(), &of(&["a"]).with_strata(&[by])).expect_err("no pair has one");
        assert_eq!(error.to_string(), format!("`by` is `{name}`, allowed: what at least one pair has"));
    }
    assert_eq!(
        "labels".parse::<By>().expect_err("unknown").to_string(),
        "`by` is `labels`, allowed: label, disagreement, group, systems"
    );
    let refused_pair = |candidate: Candidate<'_>| {
        Sample::draw(&[candidate], &prompt(), &SampleOptions::new(1, &["a"])).expect_err("refused").to_string()
    };
    let bare = Candidate { pair: &pairs[0], label: None, range: None };
    let nan = Candidate { label: Some(f64::NAN), ..bare };
    assert_eq!(refused_pair(nan), "`label` is NaN for the pair `q000`, `d0000`, allowed: a number");
    let negative = Candidate { range: Some(-1), ..bare };
    assert_eq!(refused_pair(negative), "`range` is -1 for the pair `q000`, `d0000`, allowed: >= 0");
}

#[test]
fn strata_are_those_of_the_population_that_was_sampled_or_refused() {
    let pairs = pairs(60);
    let population = candidates(&pairs);
    let options = SampleOptions::new(20, &["a"]).with_strata(&[By::Label]);
    let sample = Sample::draw(&population, &prompt(), &options).expect("a sample");
    let strata = sample.strata_of(&population).expect("the same population");
    assert_eq!(strata, (0..60).map(|at| at % 5).collect::<Vec<_>>());
    let refused = |population: &[Candidate<'_>]| {
        let error = sample.strata_of(population).expect_err("another population").to_string();
        let why = ": these are not the pairs, labels and votes that the sample was drawn from";
        error.strip_suffix(why).expect("the reason").to_owned()
    };
    let is_sampled = |candidate: &Candidate<'_>| {
        sample.pairs.iter().any(|pair| (pair.query_id.as_str(), pair.doc_id.as_str()) == candidate.pair.id())
    };
    let label_of = |wanted: bool, label: Option<f64>| {
        let mut changed = population.clone();
        let at = changed.iter().position(|candidate| is_sampled(candidate) == wanted).expect("a pair");
        changed[at].label = label;
        (changed, at)
    };
    let (elsewhere, at) = label_of(true, Some(5.0));
    let named = format!("the pair `q{:03}`, `d{at:04}`", at / 4);
    assert_eq!(refused(&elsewhere), format!("{named} is in another stratum than when it was sampled"));
    let (unlabelled, at) = label_of(false, None);
    let named = format!("the pair `q{:03}`, `d{at:04}`", at / 4);
    assert_eq!(refused(&unlabelled), format!("{named} is in no stratum of the sample"));
    let another = pair(60);
    let more: Vec<_> = population.iter().copied().chain([Candidate { pair: &another, ..population[0] }]).collect();
    assert_eq!(refused(&more), "stratum 0 of the sample has 13 pairs now, and had 12");
    let without: Vec<_> = population.iter().copied().filter(|candidate| !is_sampled(candidate)).collect();
    let first = &sample.pairs[0];
    assert_eq!(refused(&without), format!("the pair `{}`, `{}` of the sample is absent", first.query_id, first.doc_id));
}

#[test]
fn a_sample_file_that_was_altered_is_refused() {
    let work = Work::new(&[]);
    let path = work.path("sample.json");
    work.sample.write(&path).expect("written");
    assert_eq!(Sample::read(&path).expect("read"), work.sample);
    let text = std::fs::read_to_string(&path).expect("read");
    for (from, to) in [("\"population\": 12", "\"population\": 13"), ("\"d0003\"", "\"d0033\"")] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).expect("written");
        let error = Sample::read(&path).expect_err("altered").to_string();
        assert!(error.ends_with("sample.json: the file was altered: its `id` is that of another content"), "{error}");
    }
}

#[test]
fn texts_and_prompts_are_those_of_the_sample() {
    let work = Work::new(&[]);
    let refused =
        |pairs: &[Pair], prompt: &Prompt| Sheets::new(&work.sample, pairs, prompt).expect_err("refused").to_string();
    let problem = "the pair `q002`, `d0011` of the sample is not among the pairs";
    assert_eq!(refused(&work.pairs[..11], &prompt()), problem);
    let mut changed = work.pairs.clone();
    changed[3].document = "别的".into();
    let problem = "the pair `q000`, `d0003` of the sample has another text now; draw a new sample";
    assert_eq!(refused(&changed, &prompt()), problem);
    let other = Prompt::open("sts").expect("a preset");
    assert!(refused(&work.pairs, &other).starts_with("the sample was drawn for prompt `relevance` of hash "));
}

#[test]
fn sheets_are_blind_and_read_back() {
    let work = Work::new(&[Format::Csv]);
    let text = std::fs::read_to_string(work.path("王医生.csv")).expect("a sheet");
    assert!(text.starts_with("\u{feff}编号,问题,文档,评分,备注,专家,样本,校验\r\n"), "{text}");
    for row in work.rows("王医生.csv") {
        let shown = row[..5].concat();
        assert!(!["q0", "d0", "s0", "儿科"].iter().any(|hidden| shown.contains(hidden)), "{shown}");
    }
    assert!(std::fs::read_to_string(work.path("README.txt")).expect("a guide").contains("5 完全回答"));
    let forms = ["1", "2.0", "３", "基本回答", " 5 完全回答"];
    for name in ["王医生.csv", "李医生.csv"] {
        let mut rows = filled(work.rows(name));
        rows[1][4] = "'=不确定".into();
        for row in rows.iter_mut().skip(1) {
            let at = row[3].parse::<usize>().expect("a score") - 1;
            row[3] = forms[at].into();
        }
        // Sorting is no change.
        rows[1..].sort();
        work.fill(name, &rows);
    }
    let labels = work.read(&["李医生.csv", "王医生.csv"], Missing::Refuse).expect("labels");
    assert_eq!(
        (labels.experts.as_slice(), labels.missing()),
        (["王医生", "李医生"].map(str::to_owned).as_slice(), vec![0, 0])
    );
    for (row, pair) in scores(&labels).iter().zip(&work.pairs) {
        assert_eq!(*row, [Some((pair.document.len() % 5 + 1) as i32); 2]);
    }
    let notes: Vec<_> =
        labels.pairs.iter().flat_map(|pair| &pair.answers).filter_map(|answer| answer.note.as_deref()).collect();
    assert_eq!(notes, ["=不确定"; 2]);
    let path = work.path("labels.jsonl");
    labels.write(&path).expect("written");
    let mut read = ExpertLabels::read(&path).expect("read");
    assert_eq!(read.missing(), [0, 0]);
    read.pairs.sort_by(|a, b| a.doc_id.cmp(&b.doc_id));
    assert_eq!(read, labels);
    assert_eq!(sheet_files(work.folder.path()).expect("sheets").len(), 2);
}

#[test]
fn altered_sheets_are_refused_with_row_and_column() {
    let work = Work::new(&[Format::Csv]);
    let code = work.rows("王医生.csv")[4][7].clone();
    type Change = Box<dyn Fn(&mut Vec<Vec<String>>)>;
    let set = |row: usize, column: usize, text: &'static str| -> Change {
        Box::new(move |rows| rows[row][column] = text.into())
    };
    let cases: Vec<(Change, String)> = vec![
        (set(3, 1, "别的问题"), "row 4, column B (问题): the text was altered".into()),
        (set(3, 2, "别的文档"), "row 4, column C (文档): the text was altered".into()),
        (
            set(2, 3, "6"),
            "row 3, column D (评分): the score is `6`, allowed: a whole number from 1 to 5, or 无关, 略有关联, 部分相关, 基本回答, \
             完全回答"
                .into(),
        ),
        (
            set(4, 7, "r00"),
            "row 5, column H (校验): `r00` is none of the expert's rows; it was altered, or the row added; 1 of 12 rows are \
             absent, those of 编号 4"
                .into(),
        ),
        (
            Box::new(|rows| drop(rows.drain(5..8))),
            "3 of 12 rows are absent, those of 编号 5 to 7".into(),
        ),
        (Box::new(|rows| rows.push(rows[4].clone())), "row 14 is a duplicate of row 5".into()),
        (
            Box::new(|rows| rows.push(["13", "新", "新", "4", "", "", "", ""].map(str::to_owned).to_vec())),
            "row 14, column H (校验): empty; the row was added".into(),
        ),
        (
            set(2, 6, "s000000000000"),
            format!(
                "row 3, column G (样本): the sheet is of sample `s000000000000`, not of this one, `s{}`",
                &work.sample.id[..12]
            ),
        ),
        (set(2, 5, "赵医生"), "row 3, column F (专家): `赵医生` is no expert of this sample, allowed: 王医生, 李医生".into()),
        (set(2, 5, "李医生"), "row 3, column F (专家): rows of several experts in one sheet".into()),
        (
            set(0, 3, "分数"),
            "row 1: column D: `分数` is none of the sheet's columns, 编号, 问题, 文档, 评分, 备注, 专家, 样本, 校验, \
             各位专家的意见"
                .into(),
        ),
        (
            Box::new(|rows| rows.iter_mut().for_each(|row| drop(row.remove(4)))),
            "row 1: the sheet lacks the columns 备注".into(),
        ),
        (set(0, 4, "评分"), "row 1: column E: `评分` is duplicated".into()),
        (
            Box::new(|rows| {
                rows.iter_mut().for_each(|row| row.push(String::new()));
                rows[2][8] = "不确定".into();
            }),
            "row 3, column I: a cell outside the table; put remarks into 备注".into(),
        ),
        (Box::new(|rows| rows.truncate(1)), "the sheet has no rows".into()),
        (Box::new(Vec::clear), "the sheet is empty".into()),
    ];
    for (change, expected) in cases {
        assert_eq!(work.refused(change), format!("changed.csv: {expected}"));
    }
    assert!(code.starts_with('r') && code.len() == 17, "{code}");
    let many = work.refused(|rows| rows.iter_mut().skip(1).for_each(|row| row[3] = "很好".into()));
    assert!(
        many.contains("row 9, column D")
            && !many.contains("row 10, column D")
            && many.ends_with("; and 4 more problems"),
        "{many}"
    );
}

#[test]
fn half_filled_and_absent_sheets_are_refused_or_missing_by_choice() {
    let work = Work::new(&[Format::Csv]);
    let mut rows = filled(work.rows("王医生.csv"));
    for row in [2, 3, 4, 9] {
        rows[row][3] = " ".into();
    }
    work.fill("王医生.csv", &rows);
    let refused = work.read(&["王医生.csv"], Missing::Refuse).expect_err("half");
    assert_eq!(refused, "王医生.csv: column D (评分): 4 of 12 rows have no score, rows 3 to 5, 10");
    let labels = work.read(&["王医生.csv"], Missing::Accept).expect("labels");
    assert_eq!(labels.missing(), [4, 12]);
    work.fill("王医生.csv", &filled(work.rows("王医生.csv")));
    let refused = work.read(&["王医生.csv"], Missing::Refuse).expect_err("one expert");
    assert_eq!(refused, "no sheet of these experts: 李医生");
    work.fill("copy.csv", &filled(work.rows("王医生.csv")));
    let refused = work.read(&["王医生.csv", "copy.csv"], Missing::Accept).expect_err("twice");
    assert_eq!(refused, "copy.csv: a second sheet of `王医生`; the first is 王医生.csv");
}

#[test]
fn sheets_that_excel_saved_in_gb18030_are_read_and_lost_characters_are_explained() {
    let work = Work::new(&[Format::Csv]);
    let rows = filled(work.rows("王医生.csv"));
    let encoded = |rows: &[Vec<String>]| {
        let text = String::from_utf8(bytes(rows)).expect("UTF-8");
        encoding_rs::GB18030.encode(&text).0.into_owned()
    };
    std::fs::write(work.path("gbk.csv"), encoded(&rows)).expect("written");
    let labels = work.read(&["gbk.csv"], Missing::Accept).expect("labels");
    assert_eq!(labels.missing(), [0, 12]);
    let mut lost = rows.clone();
    lost[1][2] = format!("?{}", lost[1][2]);
    std::fs::write(work.path("gbk.csv"), encoded(&lost)).expect("written");
    let refused = work.read(&["gbk.csv"], Missing::Accept).expect_err("lost");
    let expected = "gbk.csv: row 2, column C (文档): the text was altered, perhaps by saving it as GBK, which Excel calls \
                    \"CSV\" and which lacks characters; save it as \"CSV UTF-8\" or XLSX";
    assert_eq!(refused, expected);
}

#[test]
fn files_that_are_no_sheets_are_named_as_what_they_are() {
    let work = Work::new(&[Format::Csv, Format::Page, Format::LabelStudio]);
    for (name, problem) in [
        ("王医生.html", "the page, not its labels: give the CSV file that its button 保存 downloads"),
        ("label-studio/tasks.json", "not a sheet; if it is an export of Label Studio, read it as one"),
        ("a.docx", "not a sheet: the name must end in .csv, .xlsx, .ods or .xls"),
    ] {
        assert_eq!(work.read(&[name], Missing::Accept).expect_err(name), format!("{name}: {problem}"));
    }
    let empty = work.path("none");
    std::fs::create_dir(&empty).expect("made");
    assert!(sheet_files(&empty).is_err());
}

#[test]
fn texts_that_no_cell_holds_and_prompts_with_a_positive() {
    let mut long = pairs(4);
    long[2].document = "长".repeat(32_767);
    let sample = Sample::draw(&candidates(&long), &prompt(), &SampleOptions::new(4, &["a"])).expect("a sample");
    let folder = tempfile::tempdir().expect("a folder");
    let used = prompt();
    let sheets = Sheets::new(&sample, &long, &used).expect("sheets");
    let error = sheets.write(folder.path(), &[Format::Csv]).expect_err("long").to_string();
    let expected = "a text of the pair `q000`, `d0002` has 32768 characters, but a cell holds 32767; use the HTML page or Label \
                    Studio, or shorten the text before the sample is drawn";
    assert_eq!(error, expected);
    sheets.write(folder.path(), &[Format::Page]).expect("a page has no limit");

    let prompt = Prompt::open("false-negative").expect("a preset");
    let mut pairs = pairs(4);
    let error =
        Sample::draw(&candidates(&pairs), &prompt, &SampleOptions::new(4, &["a"])).expect_err("none").to_string();
    assert!(error.starts_with("prompt `false-negative` needs a known positive; the pair `q000`, "), "{error}");
    pairs.iter_mut().for_each(|pair| pair.positive = Some("已知的答案".into()));
    let sample = Sample::draw(&candidates(&pairs), &prompt, &SampleOptions::new(4, &["a"])).expect("a sample");
    Sheets::new(&sample, &pairs, &prompt).expect("sheets").write(folder.path(), &[Format::Csv]).expect("written");
    let path = folder.path().join("a.csv");
    let text = std::fs::read_to_string(&path).expect("a sheet");
    assert!(text.starts_with("\u{feff}编号,问题,已知正确文档,文档,评分,"), "{text}");
    assert_eq!(read_sheets(&[&path], &sample, Missing::Accept).expect("labels").missing(), [4]);
    std::fs::write(&path, text.replace("已知的答案", "别的答案")).expect("written");
    let error = read_sheets(&[&path], &sample, Missing::Accept).expect_err("altered").to_string();
    assert!(error.contains("row 2, column C (已知正确文档): the text was altered"), "{error}");
}

#[cfg(feature = "xlsx")]
mod workbooks {
    use std::path::Path;

    use calamine::{Data, Reader, Xlsx, open_workbook};
    use rust_xlsxwriter::Workbook;

    use super::*;

    /// A workbook with the cells of an expert's sheet and other scores, as a spreadsheet program saves it.
    fn refill(path: &Path, score: impl Fn(usize) -> Data) {
        let mut workbook: Xlsx<_> = open_workbook(path).expect("a workbook");
        assert_eq!(workbook.sheet_names(), ["标注", "说明"]);
        let range = workbook.worksheet_range("标注").expect("cells");
        let mut saved = Workbook::new();
        saved.add_worksheet().set_name("别的").expect("a name");
        let sheet = saved.add_worksheet();
        sheet.set_name("标注").expect("a name");
        for (row, column, value) in range.cells() {
            let data = if column == 3 && row > 0 { score(row) } else { value.clone() };
            let (row, column) = (row as u32, column as u16);
            match data {
                Data::String(text) => sheet.write_string(row, column, text).map(drop),
                Data::Float(number) => sheet.write_number(row, column, number).map(drop),
                Data::Bool(value) => sheet.write_boolean(row, column, value).map(drop),
                Data::Empty => Ok(()),
                other => panic!("{other:?}"),
            }
            .expect("written");
        }
        saved.save(path).expect("saved");
    }

    #[test]
    fn workbooks_are_read_back_with_numbers_and_words() {
        let work = Work::new(&[Format::Xlsx]);
        for name in ["王医生.xlsx", "李医生.xlsx"] {
            refill(&work.path(name), |row| match row % 2 {
                0 => Data::Float((row % 5 + 1) as f64),
                _ => Data::String("基本回答".into()),
            });
        }
        let labels = work.read(&["王医生.xlsx", "李医生.xlsx"], Missing::Refuse).expect("labels");
        for (expert, of) in work.sample.experts.iter().enumerate() {
            for (at, pair) in of.pairs.iter().enumerate() {
                let row = at + 1;
                let expected = if row % 2 == 0 { row as i32 % 5 + 1 } else { 4 };
                assert_eq!(labels.table()[*pair][expert], Some(expected));
            }
        }
        assert_eq!(sheet_files(work.folder.path()).expect("sheets").len(), 2);
    }

    #[test]
    fn cells_of_another_type_are_refused() {
        for (data, shown) in [(Data::Float(4.5), "4.5"), (Data::Bool(true), "true")] {
            let work = Work::new(&[Format::Xlsx]);
            refill(&work.path("王医生.xlsx"), |row| if row == 3 { data.clone() } else { Data::Float(4.0) });
            let error = work.read(&["王医生.xlsx"], Missing::Accept).expect_err("refused");
            assert!(
                error.starts_with(&format!("王医生.xlsx: row 4, column D (评分): the score is `{shown}`, allowed: ")),
                "{error}"
            );
        }
        let work = Work::new(&[]);
        std::fs::write(work.path("王医生.xlsx"), "编号,问题").expect("written");
        let error = work.read(&["王医生.xlsx"], Missing::Accept).expect_err("no workbook");
        assert!(error.starts_with("王医生.xlsx: no workbook that can be read: "), "{error}");
    }
}

/// An export of Label Studio in which annotators `who` scored every task by `score`, of its number.
fn export(
    work: &Work,
    who: &[serde_json::Value],
    score: impl Fn(usize, usize) -> serde_json::Value,
) -> serde_json::Value {
    let prompt = prompt();
    let sheets = Sheets::new(&work.sample, &work.pairs, &prompt).expect("sheets");
    let mut tasks: serde_json::Value =
        serde_json::from_str(&label_studio_tasks(&sheets).expect("tasks")).expect("JSON");
    for (at, task) in tasks.as_array_mut().expect("an array").iter_mut().enumerate() {
        task["id"] = (at + 101).into();
        task["predictions"] = serde_json::json!([]);
        let annotations = who.iter().enumerate().map(|(number, who)| {
            let mut annotation = score(at, number);
            annotation["completed_by"] = who.clone();
            annotation["lead_time"] = 4.2.into();
            annotation
        });
        task["annotations"] = annotations.collect();
    }
    tasks
}

fn choice(score: &str) -> serde_json::Value {
    serde_json::json!({ "was_cancelled": false, "result": [
        { "from_name": "score", "to_name": "document", "type": "choices", "value": { "choices": [score] } },
        { "from_name": "note", "to_name": "document", "type": "textarea", "value": { "text": ["看不清"] } },
    ]})
}

#[test]
fn label_studio_tasks_are_blind_and_exports_are_read_with_several_annotators() {
    let work = Work::new(&[Format::LabelStudio]);
    let tasks = std::fs::read_to_string(work.path("label-studio/tasks.json")).expect("tasks");
    assert!(!tasks.contains("d00") && !tasks.contains("predictions"));
    let config = std::fs::read_to_string(work.path("label-studio/config.xml")).expect("config");
    assert_eq!(config, label_studio_config(&prompt()));
    assert!(config.contains("<Choice value=\"5 完全回答\" alias=\"5\" hotkey=\"5\"/>"), "{config}");
    let who = [serde_json::json!(7), serde_json::json!({ "id": 9, "email": "li@example.org" })];
    let skipped = serde_json::json!({ "was_cancelled": true, "result": [] });
    let exported = export(&work, &who, |task, number| match (task, number) {
        (0, 1) => skipped.clone(),
        (1, _) => choice("5 完全回答"),
        (_, number) => choice(if number == 0 { "4" } else { "2" }),
    });
    let path = work.path("export.json");
    std::fs::write(&path, exported.to_string()).expect("written");
    let names = BTreeMap::from([("7".to_owned(), "王医生".to_owned())]);
    let read = |missing| {
        let result = read_label_studio(&path, &work.sample, &names, missing);
        result.map_err(|e| e.to_string().replace(&format!("{}/", work.folder.path().display()), ""))
    };
    let refused = read(Missing::Refuse).expect_err("skipped");
    assert_eq!(refused, "export.json: task 101 by `li@example.org` was skipped or has no score");
    let labels = read(Missing::Accept).expect("labels");
    assert_eq!(
        (labels.experts.as_slice(), labels.missing()),
        (["li@example.org", "王医生"].map(str::to_owned).as_slice(), vec![1, 0])
    );
    let counts = |score: Option<i32>| labels.table().iter().flatten().filter(|given| **given == score).count();
    assert_eq!([None, Some(5), Some(4), Some(2)].map(counts), [1, 2, 11, 10]);
    assert_eq!(labels.pairs[0].answers[1].note.as_deref(), Some("看不清"));
}

#[test]
fn bad_exports_of_label_studio_are_refused() {
    let work = Work::new(&[]);
    let path = work.path("export.json");
    let refused = |export: &serde_json::Value| {
        std::fs::write(&path, export.to_string()).expect("written");
        let result = read_label_studio(&path, &work.sample, &BTreeMap::new(), Missing::Refuse);
        result.expect_err("refused").to_string().replace(&format!("{}/", work.folder.path().display()), "")
    };
    let good = export(&work, &[7.into()], |_, _| choice("4"));
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut export = good.clone();
        change(&mut export);
        refused(&export)
    };
    assert_eq!(
        changed(&|e| e[2]["data"]["query"] = "别的".into()),
        "export.json: task 103: the text `query` was altered"
    );
    assert_eq!(
        changed(&|e| e[2]["data"]["row"] = "r1".into()),
        "export.json: task 103: `row` is `r1`, which is none of the sample's"
    );
    assert!(
        changed(&|e| e[2]["data"]["sample"] = "s1".into())
            .starts_with("export.json: task 103: it is of sample `s1`, not of this")
    );
    assert_eq!(changed(&|e| e[2] = e[1].clone()), "export.json: task 102 is a duplicate of task 102");
    assert_eq!(
        changed(&|e| drop(e[2].as_object_mut().expect("a task").remove("annotations"))),
        "export.json: task 103 has no `annotations`; export the project as JSON, not JSON-MIN"
    );
    assert!(
        changed(&|e| e[2]["annotations"][0] = choice("9"))
            .starts_with("export.json: task 103, annotator `unknown`: the score is `9`")
    );
    assert_eq!(
        changed(&|e| drop(e.as_array_mut().expect("tasks").drain(..3))),
        "export.json: 3 of 12 pairs have no annotation"
    );
    let twice = export(&work, &[7.into(), 7.into()], |_, _| choice("4"));
    assert!(refused(&twice).starts_with("export.json: task 101 has two annotations by `7`; delete one; task 102 has"));
    let foreign = refused(&serde_json::json!({"tasks": []}));
    assert!(
        foreign.starts_with("export.json: not a JSON export of Label Studio (choose JSON, not JSON-MIN): "),
        "{foreign}"
    );
}

#[test]
fn disputed_pairs_go_to_another_expert_who_sees_scores_but_no_names() {
    let work = Work::new(&[Format::Csv]);
    for (name, others) in [("王医生.csv", 4), ("李医生.csv", 4)] {
        let mut rows = work.rows(name);
        for row in rows.iter_mut().skip(1) {
            // The experts differ on the documents 3 and 7, by 3 and by 1.
            let first = name == "王医生.csv";
            row[3] = if row[2].starts_with("文档3：") { if first { 2 } else { 5 } } else { others }.to_string();
            if row[2].starts_with("文档7：") {
                row[3] = if first { "5" } else { "4" }.into();
                row[4] = if first { "=剂量不同" } else { "" }.into();
            }
        }
        work.fill(name, &rows);
    }
    let labels = work.read(&["王医生.csv", "李医生.csv"], Missing::Refuse).expect("labels");
    let wide = Dispute::default().with_no_majority(false);
    let draw = |dispute, expert: &str| adjudication(&work.sample, &labels, &work.pairs, &prompt(), dispute, expert);
    assert_eq!(draw(wide, "赵主任").expect("drawn").expect("one").pairs.len(), 1);
    assert_eq!(draw(wide.with_range(4), "赵主任").expect("drawn"), None);
    assert_eq!(draw(wide.with_range(0), "赵主任").expect_err("0").to_string(), "`range` is 0, allowed: >= 1");
    let sample = draw(Dispute::default(), "赵主任").expect("drawn").expect("two");
    assert_eq!((sample.pairs.len(), sample.of.as_deref()), (2, Some(work.sample.id.as_str())));
    assert_eq!(sample.weights(), [1.0, 1.0]);
    let used = prompt();
    let sheets = Sheets::new(&sample, &work.pairs, &used).expect("sheets").with_opinions(&labels);
    let folder = tempfile::tempdir().expect("a folder");
    sheets.write(folder.path(), &[Format::Csv, Format::Page]).expect("written");
    let path = folder.path().join("赵主任.csv");
    let text = std::fs::read_to_string(&path).expect("a sheet");
    assert!(text.contains("2 略有关联\n5 完全回答") && text.contains("4 基本回答\n5 完全回答（=剂量不同）"), "{text}");
    assert!(!text.contains("王医生") && !text.contains("李医生"), "{text}");
    let filled = text
        .replace("（=剂量不同）\",,", "（=剂量不同）\",4,")
        .replace("2 略有关联\n5 完全回答\",,", "2 略有关联\n5 完全回答\",3,");
    std::fs::write(&path, filled).expect("written");
    let decided = read_sheets(&[&path], &sample, Missing::Refuse).expect("labels");
    let last = final_labels(&labels, Some(&decided), Join::Median).expect("labels");
    let adjudicated: Vec<_> = last
        .iter()
        .filter(|label| label.source == Source::Adjudicated)
        .map(|label| (label.doc_id.as_str(), label.label))
        .collect();
    assert_eq!(adjudicated, [("d0003", Some(3)), ("d0007", Some(4))]);
    assert!(last.iter().filter(|label| label.source == Source::Experts).all(|label| label.label == Some(4)));
    // A sheet of the first sample is none of the adjudication.
    let error = read_sheets(&[work.path("王医生.csv")], &sample, Missing::Accept).expect_err("foreign").to_string();
    assert!(error.contains("column G (样本)") || error.contains("(样本): the sheet is of sample"), "{error}");
}
