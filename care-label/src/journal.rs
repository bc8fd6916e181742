//! The journal `votes.jsonl`: one line per call, on disk before it counts.
//!
//! Lines are appended in groups with one sync per group. A process that is killed leaves complete lines and at most one
//! torn line at the end, which the next [`Journal::open`] removes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use care_core::files::{FolderLock, lock_folder, open_file, write_atomic};
use care_core::{Error, ErrorKind, Result};
use memchr::{memchr, memchr_iter, memrchr};
use rayon::prelude::*;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::vote::{Key, State, Vote};

/// Bytes of the file in memory while it is read.
const BLOCK: usize = 16 << 20;
/// Bytes of a block that one thread parses.
const PIECE: usize = 1 << 19;
/// Longest line, in bytes; an answer has at most 4 MB.
const LONGEST_LINE: usize = 64 << 20;
/// How every line begins.
const START: &[u8] = b"{\"key\":\"";

/// The votes of a file, and the right to append to it.
pub struct Journal {
    path: PathBuf,
    sink: Box<dyn Sink>,
    /// Bytes of complete lines.
    length: u64,
    /// Whether a torn line may be at the end, so that nothing can be appended.
    is_torn: bool,
    questions: HashMap<Key, Known>,
    judges: Vec<(String, Tally)>,
    note: Option<String>,
    _lock: FolderLock,
}

/// What is known of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Number of calls that brought an answer: scored, unparsable or refused.
    pub answers: u16,
    /// What came of the last of them; once scored, always scored.
    pub answer: Option<State>,
    /// The attempt at which the last call without an answer was made; 0 if there was none.
    pub failed_at: u16,
}

impl Known {
    /// Whether the next answer was tried and did not come.
    pub fn is_failed(&self) -> bool {
        self.failed_at > self.answers && self.answer != Some(State::Scored)
    }
}

/// Sums over all calls of a judge.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Tally {
    /// Calls with a score.
    pub scored: u64,
    /// Calls whose answer has no readable score.
    pub unparsable: u64,
    /// Calls that were declined.
    pub refused: u64,
    /// Calls without an answer.
    pub failed: u64,
    /// Tokens of prompts, as far as endpoints counted them.
    pub input_tokens: u64,
    /// Tokens of answers, as far as endpoints counted them.
    pub output_tokens: u64,
    /// Answers whose tokens the endpoint did not count.
    pub uncounted: u64,
    /// Cost, as far as prices were known, in the currency of the configuration.
    pub cost: f64,
}

impl Tally {
    fn add(&mut self, state: State, tokens: (Option<u64>, Option<u64>), cost: Option<f64>) {
        *match state {
            State::Scored => &mut self.scored,
            State::Unparsable => &mut self.unparsable,
            State::Refused => &mut self.refused,
            State::Failed => &mut self.failed,
        } += 1;
        self.input_tokens += tokens.0.unwrap_or(0);
        self.output_tokens += tokens.1.unwrap_or(0);
        self.uncounted += u64::from(tokens.0.is_none() && matches!(state, State::Scored | State::Unparsable));
        self.cost += cost.unwrap_or(0.0);
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.scored + self.unparsable + self.refused + self.failed
    }
}

/// A line of a journal, without the raw answer and the reason.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct VoteRef<'a> {
    /// [`Vote::key`].
    pub key: &'a str,
    /// [`Vote::judge`].
    #[serde(borrow)]
    pub judge: Cow<'a, str>,
    /// [`Vote::model`].
    #[serde(borrow)]
    pub model: Cow<'a, str>,
    /// [`Vote::prompt`].
    #[serde(borrow)]
    pub prompt: Cow<'a, str>,
    /// [`Vote::query_id`].
    #[serde(borrow)]
    pub query_id: Cow<'a, str>,
    /// [`Vote::doc_id`].
    #[serde(borrow)]
    pub doc_id: Cow<'a, str>,
    /// [`Vote::sample`].
    pub sample: u32,
    /// [`Vote::attempt`].
    pub attempt: u32,
    /// [`Vote::state`].
    pub state: State,
    /// [`Vote::score`].
    pub score: Option<i32>,
    /// [`Vote::input_tokens`].
    pub input_tokens: Option<u64>,
    /// [`Vote::output_tokens`].
    pub output_tokens: Option<u64>,
    /// [`Vote::cost`].
    pub cost: Option<f64>,
}

/// A line that is checked while it is parsed, in parallel.
trait Row {
    /// # Errors
    /// The problem, if it is no vote.
    fn check(&self) -> std::result::Result<(), String>;
}

impl Row for VoteRef<'_> {
    fn check(&self) -> std::result::Result<(), String> {
        check(self.state, self.score, self.attempt)?;
        parse_key(self.key).map(drop)
    }
}

impl Row for Line<'_> {
    fn check(&self) -> std::result::Result<(), String> {
        check(self.state, self.score, self.attempt.into())
    }
}

/// What resuming needs of a line.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(deserialize_with = "key_of")]
    key: Key,
    #[serde(borrow)]
    judge: Cow<'a, str>,
    attempt: u16,
    state: State,
    score: Option<i32>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cost: Option<f64>,
}

/// A file that lines are appended to.
trait Sink: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts off what is beyond.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Sink for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)?;
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.sync_data()
    }
}

impl Journal {
    /// Opens a journal for appending, or creates it; its folder is locked until it is dropped.
    ///
    /// A torn line at the end, as a killed process leaves it, is removed, and [`Journal::note`] says so.
    ///
    /// # Errors
    /// If another process works in the folder, the file cannot be read or written, or a line is no vote; the message
    /// names the line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
        let lock = lock_folder(folder)?;
        if !path.exists() {
            write_atomic(path, b"")?;
        }
        let file = File::options().append(true).open(path).map_err(|e| Error::io("write", path, e))?;
        let mut journal = Self {
            path: path.to_owned(),
            sink: Box::new(file),
            length: 0,
            is_torn: false,
            questions: HashMap::new(),
            judges: Vec::new(),
            note: None,
            _lock: lock,
        };
        journal.load()?;
        Ok(journal)
    }

    fn load(&mut self) -> Result<()> {
        let path = self.path.clone();
        let tail = for_each_block(&path, &mut |first, block| {
            let pieces = parsed::<Line<'_>>(&path, first, block)?;
            pieces.iter().flatten().for_each(|line| self.index(line));
            self.length += block.len() as u64;
            Ok(pieces.iter().map(Vec::len).sum())
        })?;
        let writing = |e| Error::io("write", &path, e);
        if let Some(line) = tail.line::<Line<'_>>(&path)? {
            self.index(&line);
            self.sink.append(b"\n").map_err(writing)?;
            self.length += tail.bytes.len() as u64 + 1;
            return Ok(());
        }
        if tail.bytes.is_empty() {
            return Ok(());
        }
        self.sink.cut(self.length).map_err(writing)?;
        let length = tail.bytes.len();
        self.note = Some(format!("line {} was torn and is removed ({length} bytes)", tail.number));
        Ok(())
    }

    /// What opening mended, if anything.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is known of the question with this [`key`](crate::vote::key); `None` if no call was made.
    pub fn known(&self, key: &Key) -> Option<Known> {
        self.questions.get(key).copied()
    }

    /// The sums of every judge, in the order in which they first occur.
    pub fn tallies(&self) -> impl Iterator<Item = (&str, &Tally)> {
        self.judges.iter().map(|(judge, tally)| (judge.as_str(), tally))
    }

    /// The sums of one judge.
    pub fn tally(&self, judge: &str) -> Tally {
        self.tallies().find(|(name, _)| *name == judge).map_or_else(Tally::default, |(_, tally)| *tally)
    }

    /// Appends lines and syncs them to disk, all together: when this returns, they count.
    ///
    /// # Errors
    /// If a vote has a score and another state than [`State::Scored`], or the reverse, or a malformed key; or if the file
    /// cannot be written, e.g. because the disk is full. None of the lines counts then, and earlier ones are kept.
    pub fn append(&mut self, votes: &[Vote]) -> Result<()> {
        let refuse = |problem: String| Error::new(ErrorKind::Format, problem);
        if self.is_torn {
            return Err(refuse(format!("{} has a torn line; open it again", self.path.display())));
        }
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        for vote in votes {
            let row = Line {
                key: parse_key(&vote.key).map_err(refuse)?,
                judge: Cow::Borrowed(vote.judge.as_str()),
                attempt: u16::try_from(vote.attempt).unwrap_or(u16::MAX),
                state: vote.state,
                score: vote.score,
                input_tokens: vote.input_tokens,
                output_tokens: vote.output_tokens,
                cost: vote.cost,
            };
            row.check().map_err(refuse)?;
            rows.push(row);
            serde_json::to_writer(&mut lines, vote).map_err(|e| refuse(format!("a vote cannot be written: {e}")))?;
            lines.push(b'\n');
        }
        if let Err(cause) = self.sink.append(&lines) {
            self.is_torn = self.sink.cut(self.length).is_err();
            let problem = format!(
                "cannot write {}: {cause}; {} answers are not recorded, all earlier ones are kept",
                self.path.display(),
                votes.len()
            );
            return Err(Error::new(ErrorKind::Io, problem).with_source(cause));
        }
        self.length += lines.len() as u64;
        rows.iter().for_each(|row| self.index(row));
        Ok(())
    }

    fn index(&mut self, line: &Line<'_>) {
        let judge = match self.judges.iter().position(|(name, _)| *name == line.judge) {
            Some(judge) => judge,
            None => {
                self.judges.push((line.judge.clone().into_owned(), Tally::default()));
                self.judges.len() - 1
            }
        };
        self.judges[judge].1.add(line.state, (line.input_tokens, line.output_tokens), line.cost);
        let known = self.questions.entry(line.key).or_insert(Known { answers: 0, answer: None, failed_at: 0 });
        match line.state {
            State::Failed => known.failed_at = line.attempt,
            state => {
                known.answers = known.answers.saturating_add(1);
                if known.answer != Some(State::Scored) {
                    known.answer = Some(state);
                }
            }
        }
    }
}

fn check(state: State, score: Option<i32>, attempt: u32) -> std::result::Result<(), String> {
    if (state == State::Scored) != score.is_some() {
        return Err("a score needs the state `scored`, and the reverse".into());
    }
    if attempt == 0 {
        return Err("`attempt` is 0, allowed: >= 1".into());
    }
    Ok(())
}

fn parse_key(key: &str) -> std::result::Result<Key, String> {
    Key::parse(key).ok_or_else(|| format!("`key` is `{key}`, allowed: a SHA-256 in lower-case hexadecimal"))
}

fn key_of<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Key, D::Error> {
    parse_key(<&str>::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Calls `each` with the line, from 1, and the content of every vote of a journal, those without a score included. A torn
/// line at the end is left out. No lock is needed: a journal can be read while it is written.
///
/// A question has several lines if answers were unparsable, refused or failed. Only one is scored, unless journals were
/// joined by hand; the first counts then.
///
/// # Errors
/// If the file cannot be read, a line is no vote (the message names it), or `each` fails.
pub fn read_votes(path: impl AsRef<Path>, each: &mut dyn FnMut(usize, &VoteRef<'_>) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    if path.extension().is_some_and(|extension| extension == "gz") {
        return Err(Error::format(path, "a journal is read as it is written: unpack it"));
    }
    let tail = for_each_block(path, &mut |first, block| {
        let pieces = parsed::<VoteRef<'_>>(path, first, block)?;
        (first..).zip(pieces.iter().flatten()).try_for_each(|(line, vote)| each(line, vote))?;
        Ok(pieces.iter().map(Vec::len).sum())
    })?;
    tail.line(path)?.map_or(Ok(()), |vote| each(tail.number, &vote))
}

/// What follows the last line end.
struct Tail {
    bytes: Vec<u8>,
    number: usize,
}

impl Tail {
    /// The last line, if only its line end is missing; `None` if there is nothing, or what a killed process or a failing
    /// disk leaves.
    fn line<'a, T: Deserialize<'a> + Row>(&'a self, path: &Path) -> Result<Option<T>> {
        if let Ok(line) = serde_json::from_slice::<T>(&self.bytes) {
            return line.check().map(|()| Some(line)).map_err(|problem| Error::line(path, self.number, problem));
        }
        let is_ours = self.bytes.iter().zip(START).all(|(byte, start)| byte == start);
        if !is_ours && self.bytes.iter().any(|byte| *byte != 0) {
            return Err(Error::line(path, self.number, "no vote, so this file is no journal"));
        }
        Ok(None)
    }
}

/// Calls `each` with blocks of complete lines and the number of the first of them, from 1; it returns how many they are.
fn for_each_block(path: &Path, each: &mut dyn FnMut(usize, &[u8]) -> Result<usize>) -> Result<Tail> {
    let failed = |e| Error::io("read", path, e);
    let mut file = open_file(path)?;
    let mut tail = Tail { bytes: Vec::new(), number: 1 };
    loop {
        let carried = tail.bytes.len();
        let read = Read::by_ref(&mut file).take(BLOCK as u64).read_to_end(&mut tail.bytes).map_err(failed)?;
        if read == 0 {
            return Ok(tail);
        }
        let Some(end) = memrchr(b'\n', &tail.bytes[carried..]) else {
            if tail.bytes.len() > LONGEST_LINE {
                return Err(Error::line(path, tail.number, format!("longer than {LONGEST_LINE} bytes")));
            }
            continue;
        };
        let end = carried + end + 1;
        tail.number += each(tail.number, &tail.bytes[..end])?;
        tail.bytes.drain(..end);
    }
}

/// The lines of a block in order, piece by piece: parsed in parallel.
fn parsed<'a, T: Deserialize<'a> + Row + Send>(path: &Path, first: usize, block: &'a [u8]) -> Result<Vec<Vec<T>>> {
    let (mut pieces, mut rest) = (Vec::new(), block);
    while !rest.is_empty() {
        let least = PIECE.min(rest.len());
        let end = memchr(b'\n', &rest[least..]).map_or(rest.len(), |at| least + at + 1);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    let of_piece = |piece: &'a [u8]| {
        let (mut rows, mut start) = (Vec::with_capacity(piece.len() / 512), 0);
        for end in memchr_iter(b'\n', piece) {
            let row = serde_json::from_slice(&piece[start..end]).map_err(|error| described(&error));
            let row = row.and_then(|row: T| row.check().map(|()| row));
            rows.push(row.map_err(|problem| (rows.len(), problem))?);
            start = end + 1;
        }
        Ok(rows)
    };
    let pieces: Vec<std::result::Result<Vec<T>, (usize, String)>> = pieces.into_par_iter().map(of_piece).collect();
    let mut number = first;
    let of_block = |rows: std::result::Result<Vec<T>, (usize, String)>| match rows {
        Ok(rows) => {
            number += rows.len();
            Ok(rows)
        }
        Err((before, problem)) => Err(Error::line(path, number + before, problem)),
    };
    pieces.into_iter().map(of_block).collect()
}

/// What is wrong with a line, without its number in a block.
fn described(error: &serde_json::Error) -> String {
    let error = error.to_string();
    let problem = error.rsplit_once(" at line ").map_or(error.as_str(), |(problem, _)| problem);
    format!("no vote: {problem}; restore the line or remove it")
}

#[cfg(test)]
mod tests {
    use care_core::files::sha256_hex;

    use super::*;

    fn vote(question: u32, attempt: u32, state: State) -> Vote {
        let scored = state == State::Scored;
        Vote {
            key: sha256_hex(question.to_string()),
            judge: format!("j{}", question % 2),
            model: "m".into(),
            prompt: "p".into(),
            query_id: format!("问\"{question}"),
            doc_id: "d".into(),
            sample: 0,
            attempt,
            state,
            score: scored.then_some(4),
            reason: Some("一\n二".into()),
            answer: Some("{\"score\": 4}".into()),
            error: None,
            input_tokens: scored.then_some(100),
            output_tokens: scored.then_some(10),
            cost: scored.then_some(0.5),
            time: "2026-11-29T03:00:00Z".into(),
            seconds: Some(1.5),
        }
    }

    fn key(question: u32) -> Key {
        Key::parse(&vote(question, 1, State::Scored).key).expect("a key")
    }

    /// A journal with two groups of lines; returns its folder, path and content.
    fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/votes.jsonl");
        let mut journal = Journal::open(&path).expect("created");
        journal.append(&[vote(1, 1, State::Unparsable), vote(2, 1, State::Scored)]).expect("written");
        journal.append(&[vote(1, 2, State::Scored), vote(3, 1, State::Failed)]).expect("written");
        assert_eq!(journal.note(), None);
        drop(journal);
        let content = fs::read(&path).expect("read");
        (folder, path, content)
    }

    #[test]
    fn what_is_appended_is_known_now_and_after_opening_again() {
        let (_folder, path, _) = written();
        let journal = Journal::open(&path).expect("opened");
        let one = journal.known(&key(1)).expect("known");
        assert_eq!((one.answers, one.answer, one.is_failed()), (2, Some(State::Scored), false));
        let three = journal.known(&key(3)).expect("known");
        assert_eq!((three.answers, three.answer, three.is_failed()), (0, None, true));
        assert_eq!(journal.known(&key(4)), None);
        let expected = Tally {
            scored: 1,
            unparsable: 1,
            failed: 1,
            input_tokens: 100,
            output_tokens: 10,
            uncounted: 1,
            cost: 0.5,
            ..Tally::default()
        };
        assert_eq!(
            (journal.tally("j1"), journal.tally("j1").calls(), journal.tally("x")),
            (expected, 3, Tally::default())
        );
        let mut read = Vec::new();
        read_votes(&path, &mut |_, vote| {
            read.push((vote.query_id.clone().into_owned(), vote.attempt, vote.state, vote.score));
            Ok(())
        })
        .expect("read while it is open");
        assert_eq!(read[2], ("问\"1".into(), 2, State::Scored, Some(4)));
        assert_eq!(read.len(), 4);
        let second = Journal::open(&path).err().expect("in use").to_string();
        assert!(second.contains("is in use by process"), "{second}");
    }

    #[test]
    fn a_journal_torn_at_any_byte_keeps_its_complete_lines() {
        let (_folder, path, content) = written();
        let ends: Vec<usize> =
            content.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        let near = |cut: usize| cut < 12 || ends.iter().any(|end| cut.abs_diff(*end) < 3);
        for cut in (0..=content.len()).filter(|cut| cut % 53 == 0 || near(*cut)) {
            fs::write(&path, &content[..cut]).expect("written");
            let mut before = 0;
            read_votes(&path, &mut |line, _| {
                before += 1;
                assert_eq!(line, before);
                Ok(())
            })
            .expect("the torn line is left out");
            let mut journal = Journal::open(&path).expect("opened");
            // A line whose line end alone is missing is complete.
            let complete = ends.iter().filter(|end| **end <= cut).count();
            let calls: u64 = journal.tallies().map(|(_, tally)| tally.calls()).sum();
            assert_eq!((calls, before), (complete as u64, complete), "cut at {cut}");
            let is_torn = cut > 0 && !ends.contains(&cut) && !ends.contains(&(cut - 1));
            assert_eq!(journal.note().is_some(), is_torn, "cut at {cut}");
            journal.append(&[vote(9, 1, State::Scored)]).expect("appended");
            let mut read = 0;
            read_votes(&path, &mut |_, _| {
                read += 1;
                Ok(())
            })
            .expect("all lines are whole");
            assert_eq!(read, complete + 1, "cut at {cut}");
        }
        fs::write(&path, [&content[..], &[0; 512]].concat()).expect("written");
        assert!(Journal::open(&path).expect("zeros of a power failure").note().is_some());
        assert_eq!(fs::read(&path).expect("read"), content);
    }

    #[test]
    fn broken_lines_and_other_files_are_refused_and_kept() {
        let (_folder, path, content) = written();
        let text = String::from_utf8(content).expect("text");
        for (broken, problem) in [
            (text.replacen("\"attempt\":2", "\"attempt\":0", 1), ":3: `attempt` is 0, allowed: >= 1"),
            (text.replacen("\"scored\"", "\"failed\"", 1), ":2: a score needs the state `scored`, and the reverse"),
            (text.replacen("\"scored\"", "\"good\"", 1), ":2: no vote: unknown variant `good`"),
            (text.replacen("{\"key\":\"", "{\"key\":\"x", 1), ":1: no vote: `key` is `x6b86b"),
            (text.replacen('\n', "\n\n", 1), ":2: no vote: EOF while parsing a value; restore the line or remove it"),
            ("a text".into(), ":1: no vote, so this file is no journal"),
        ] {
            assert_ne!(broken, text);
            fs::write(&path, &broken).expect("written");
            let error = Journal::open(&path).err().expect(problem).to_string();
            assert!(error.contains(&format!("votes.jsonl{problem}")), "{error}");
            assert_eq!(fs::read_to_string(&path).expect("kept"), broken);
        }
        let packed =
            read_votes(path.with_file_name("votes.jsonl.gz"), &mut |_, _| Ok(())).expect_err("packed").to_string();
        assert!(packed.ends_with("votes.jsonl.gz: a journal is read as it is written: unpack it"), "{packed}");
        let mut journal = Journal::open(path.with_file_name("other.jsonl")).expect("created");
        let mut odd = vote(1, 1, State::Scored);
        odd.score = None;
        assert!(journal.append(&[odd]).is_err());
        assert_eq!(journal.tallies().count(), 0);
    }

    /// A disk with room for so many bytes more.
    struct Small {
        file: File,
        room: usize,
        can_cut: bool,
    }

    impl Sink for Small {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            let fits = bytes.len().min(self.room);
            self.room -= fits;
            self.file.append(&bytes[..fits])?;
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            if self.can_cut { self.file.cut(length) } else { Err(io::ErrorKind::Other.into()) }
        }
    }

    #[test]
    fn a_full_disk_loses_only_the_group_that_did_not_fit() {
        for can_cut in [true, false] {
            let (_folder, path, content) = written();
            let mut journal = Journal::open(&path).expect("opened");
            let file = File::options().append(true).open(&path).expect("opened");
            journal.sink = Box::new(Small { file, room: 500, can_cut });
            let group = [vote(5, 1, State::Scored), vote(6, 1, State::Scored)];
            let error = journal.append(&group).expect_err("full").to_string();
            assert!(error.contains("votes.jsonl: no storage space; 2 answers are not recorded"), "{error}");
            assert_eq!((journal.known(&key(5)), journal.tally("j0").calls()), (None, 1));
            journal.sink = Box::new(File::options().append(true).open(&path).expect("opened"));
            assert_eq!(journal.append(&group).is_ok(), can_cut);
            drop(journal);
            let lines = if can_cut { 6 } else { 5 };
            let journal = Journal::open(&path).expect("opened");
            assert_eq!(fs::read(&path).expect("read")[..content.len()], content);
            assert_eq!(journal.tallies().map(|(_, tally)| tally.calls()).sum::<u64>(), lines);
        }
    }
}
