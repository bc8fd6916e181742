//! Judges all pairs online: all judges concurrently, resumable, within a budget.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::vec;

use backon::{BackoffBuilder, ExponentialBuilder};
use care_core::{Error, Result};

use crate::estimate::{Question, Questions, Spent, answer_tokens, questions, within_budget};
use crate::journal::Journal;
use crate::judge::client::{Client, Failure, FailureKind, request_body};
use crate::judge::{Budget, Gate, Judge, Judges, Rates, nap};
use crate::pair::Pair;
use crate::prompt::Prompt;
use crate::vote::{Call, State, Vote};

/// Longest wait between two tries of a call, unless the endpoint asks for more.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Questions in a row without any answer after which an endpoint counts as down.
const DOWN: u32 = 3;
/// Calls of a judge over which the share without a score is watched; more than half stop the judge.
const WINDOW: usize = 100;
/// Tries at a rate limit count so many times less than others while other calls succeed.
const LENIENCE: u32 = 5;
/// Between two reports of progress.
const PULSE: Duration = Duration::from_millis(500);
/// Calls after which the estimate of prompt tokens is corrected by what the endpoint counts.
const CALIBRATED: f64 = 10.0;

/// How to judge.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// When set, calls in flight are finished and recorded, and no other is made.
    pub stop: Arc<AtomicBool>,
    /// Tries of a call at passing failures (rate limits, errors of the server, the network), >= 1. Default 8, which is
    /// about two minutes.
    pub tries: u32,
    /// Wait before the second try; it doubles with every further one, up to 60 seconds, with jitter. Default 1 second.
    pub retry_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { stop: Arc::default(), tries: 8, retry_delay: Duration::from_secs(1) }
    }
}

impl Options {
    /// Sets [`Options::stop`].
    #[must_use]
    pub fn with_stop(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Sets [`Options::tries`].
    #[must_use]
    pub fn with_tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// Sets [`Options::retry_delay`].
    #[must_use]
    pub fn with_retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }
}

/// Why a run ended before all questions were settled.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stop {
    /// [`Options::stop`] was set.
    Interrupted,
    /// The next call could exceed the budget.
    Budget(String),
    /// The journal could not be written.
    Journal(Error),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Budget(problem) => f.write_str(problem),
            Self::Journal(error) => error.fmt(f),
        }
    }
}

/// Where a run stands.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// One entry per judge, in the order of the configuration.
    pub judges: Vec<JudgeSummary>,
    /// Duration of this run in seconds.
    pub seconds: f64,
    /// Why the whole run ended early; single judges: [`JudgeSummary::stopped`].
    pub stopped: Option<Stop>,
}

/// Where a judge stands.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct JudgeSummary {
    /// Its name.
    pub judge: String,
    /// All questions: pairs times samples.
    pub questions: u64,
    /// Questions with a score, from this run or an earlier one.
    pub scored: u64,
    /// Questions without a vote: no answer could be read.
    pub unparsable: u64,
    /// Questions without a vote: every answer was declined, or the last one.
    pub refused: u64,
    /// Questions that failed in this run; the next run asks them again.
    pub failed: u64,
    /// Calls of this run, in the journal.
    pub calls: u64,
    /// Tries of this run that failed in passing and were repeated; not in the journal.
    pub retries: u64,
    /// Tokens of prompts in this run, as the endpoint counts them.
    pub input_tokens: u64,
    /// Tokens of answers in this run, as the endpoint counts them.
    pub output_tokens: u64,
    /// Cost of this run, as far as prices are known.
    pub cost: f64,
    /// Concurrent calls that the endpoint bears now, at most [`Judge::concurrency`].
    pub concurrency: u32,
    /// Why this judge stopped before its questions were settled. The others went on.
    pub stopped: Option<String>,
}

impl JudgeSummary {
    /// Questions that are not settled and did not fail: not yet asked, or to be asked again.
    pub fn open(&self) -> u64 {
        self.questions - self.scored - self.unparsable - self.refused - self.failed
    }

    fn record(&mut self, vote: &Vote, is_last: bool) {
        self.calls += 1;
        self.input_tokens += vote.input_tokens.unwrap_or(0);
        self.output_tokens += vote.output_tokens.unwrap_or(0);
        self.cost += vote.cost.unwrap_or(0.0);
        match vote.state {
            State::Scored => self.scored += 1,
            State::Failed => self.failed += 1,
            State::Unparsable if is_last => self.unparsable += 1,
            State::Refused if is_last => self.refused += 1,
            State::Unparsable | State::Refused => {}
        }
    }
}

impl Summary {
    /// Whether every question of every judge is settled.
    pub fn is_complete(&self) -> bool {
        self.judges.iter().all(|judge| judge.open() + judge.failed == 0)
    }

    /// Calls of this run.
    pub fn calls(&self) -> u64 {
        self.judges.iter().map(|judge| judge.calls).sum()
    }

    /// Calls per second in this run.
    pub fn calls_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.calls() as f64 / self.seconds } else { 0.0 }
    }

    /// Tokens of prompts and answers in this run.
    pub fn tokens(&self) -> u64 {
        self.judges.iter().map(|judge| judge.input_tokens + judge.output_tokens).sum()
    }

    /// Cost of this run, as far as prices are known.
    pub fn cost(&self) -> f64 {
        self.judges.iter().map(|judge| judge.cost).sum()
    }
}

/// Asks every judge about every pair, except what the journal has, and records each call.
///
/// - Answers that cannot be read, and refusals, are asked again up to `attempts` calls per question; then there is no
///   vote.
/// - Passing failures are repeated with growing waits. A question that gets no answer is recorded as failed and asked
///   again in the next run, last.
/// - A judge stops, and the others go on, if its key, address, model or request is wrong, its account is empty, its
///   endpoint answers three questions in a row not at all, or more than half of its last 100 calls brought no score.
/// - A worker asks the next question when its last answer is on disk, so a killed process loses at most the calls in
///   flight: `concurrency` per judge.
/// - `progress` is called after each group of answers and at least twice a second, on the calling thread.
///
/// # Errors
/// Before the first call: if a pair occurs twice, the prompt needs a known positive that a pair lacks, a key is not in
/// the environment, or the budget is below the estimate. What happens later is in the [`Summary`].
pub fn judge_pairs(
    pairs: &[Pair],
    judges: &Judges,
    prompt: &Prompt,
    journal: &mut Journal,
    options: &Options,
    progress: &mut dyn FnMut(&Summary),
) -> Result<Summary> {
    if options.tries == 0 {
        return Err(Error::setting("tries", 0, ">= 1"));
    }
    let questions = questions(pairs, judges, prompt, journal)?;
    let clients = judges.judges.iter().map(Client::new).collect::<Result<Vec<_>>>()?;
    let purse = Purse::new(judges, prompt, journal, &questions)?;
    let mut summary =
        Summary { judges: judges.judges.iter().zip(&questions).map(begun).collect(), ..Summary::default() };
    let stations: Vec<Station<'_>> = (judges.judges.iter().zip(clients).zip(questions))
        .map(|((judge, client), questions)| Station::new(judge, client, questions))
        .collect();
    let court = Court {
        pairs,
        prompt,
        prompt_hash: prompt.hash(),
        attempts: judges.attempts,
        options,
        purse,
        is_over: AtomicBool::new(false),
        stations,
    };
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for (at, station) in court.stations.iter().enumerate() {
            for _ in 0..station.threads {
                let (court, sender) = (&court, sender.clone());
                scope.spawn(move || court.work(at, &sender));
            }
        }
        drop(sender);
        record(&court, &receiver, journal, &mut summary, progress);
    });
    if summary.stopped.is_none() {
        summary.stopped = court.purse.problem();
    }
    if summary.stopped.is_none() && options.stop.load(Ordering::Relaxed) && !summary.is_complete() {
        summary.stopped = Some(Stop::Interrupted);
    }
    progress(&summary);
    Ok(summary)
}

fn begun((judge, questions): (&Judge, &Questions)) -> JudgeSummary {
    let Questions { open, scored, unparsable, refused } = questions;
    JudgeSummary {
        judge: judge.name.clone(),
        questions: open.len() as u64 + scored + unparsable + refused,
        scored: *scored,
        unparsable: *unparsable,
        refused: *refused,
        concurrency: judge.concurrency,
        ..JudgeSummary::default()
    }
}

/// Writes what workers send, a group at a time, until all have ended.
fn record(
    court: &Court<'_>,
    receiver: &Receiver<Message>,
    journal: &mut Journal,
    summary: &mut Summary,
    progress: &mut dyn FnMut(&Summary),
) {
    let start = Instant::now();
    loop {
        let group: Vec<Message> = match receiver.recv_timeout(PULSE) {
            Ok(first) => [first].into_iter().chain(receiver.try_iter()).collect(),
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let (votes, rest): (Vec<_>, Vec<_>) =
            group.into_iter().map(|message| (message.vote, (message.station, message.recorded))).unzip();
        if summary.stopped.is_none()
            && !votes.is_empty()
            && let Err(error) = journal.append(&votes)
        {
            court.is_over.store(true, Ordering::Relaxed);
            summary.stopped = Some(Stop::Journal(error));
        }
        if summary.stopped.is_none() {
            for (vote, (station, recorded)) in votes.iter().zip(rest) {
                summary.judges[station].record(vote, vote.attempt >= court.attempts);
                // The worker may have been stopped.
                recorded.send(()).ok();
            }
        }
        court.report(summary, start);
        progress(summary);
    }
    court.report(summary, start);
}

/// An answer on its way to the journal.
struct Message {
    station: usize,
    vote: Vote,
    /// Told when the vote is on disk; dropped if it could not be written.
    recorded: SyncSender<()>,
}

/// All that workers share.
struct Court<'a> {
    pairs: &'a [Pair],
    prompt: &'a Prompt,
    prompt_hash: String,
    attempts: u32,
    options: &'a Options,
    purse: Purse,
    /// Set when the whole run is to end.
    is_over: AtomicBool,
    stations: Vec<Station<'a>>,
}

/// What the workers of one judge share.
struct Station<'a> {
    judge: &'a Judge,
    client: Client,
    gate: Gate,
    rates: Rates,
    threads: usize,
    queue: Mutex<vec::IntoIter<Question>>,
    is_stopped: AtomicBool,
    why_stopped: Mutex<Option<String>>,
    /// Answers, those of earlier runs included: a proof that requests of this form are understood.
    answers: AtomicU64,
    unanswered_in_a_row: AtomicU32,
    retries: AtomicU64,
    recent: Mutex<Recent>,
    counted: Mutex<Counted>,
}

/// The last calls: whether each brought a score.
#[derive(Default)]
struct Recent {
    calls: VecDeque<bool>,
    last_problem: String,
}

/// Estimated and counted tokens of the prompts of so many calls.
#[derive(Default)]
struct Counted {
    calls: f64,
    estimated: f64,
    counted: f64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Station<'a> {
    fn new(judge: &'a Judge, client: Client, questions: Questions) -> Self {
        Self {
            judge,
            client,
            gate: Gate::new(judge.concurrency),
            rates: Rates::new(judge.requests_per_minute, judge.tokens_per_minute),
            threads: questions.open.len().min(judge.concurrency as usize),
            answers: AtomicU64::new(questions.scored),
            queue: Mutex::new(questions.open.into_iter()),
            is_stopped: AtomicBool::new(false),
            why_stopped: Mutex::default(),
            unanswered_in_a_row: AtomicU32::new(0),
            retries: AtomicU64::new(0),
            recent: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    fn stop(&self, why: String) {
        locked(&self.why_stopped).get_or_insert(why);
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Looks at the state of a call; stops the judge if too many of late brought no score.
    fn watch(&self, vote: &Vote) {
        let mut recent = locked(&self.recent);
        recent.calls.push_back(vote.state == State::Scored);
        if let Some(problem) = &vote.error {
            recent.last_problem.clone_from(problem);
        }
        if recent.calls.len() > WINDOW {
            recent.calls.pop_front();
        }
        let without = recent.calls.iter().filter(|scored| !**scored).count();
        if recent.calls.len() == WINDOW && without > WINDOW / 2 {
            let last = &recent.last_problem;
            self.stop(format!("{without} of the last {WINDOW} calls brought no score; the last problem: {last}"));
        }
    }

    /// Tokens of a prompt: estimated, corrected by what the endpoint counted so far.
    fn prompt_tokens(&self, question: &Question) -> f64 {
        let counted = locked(&self.counted);
        let factor = if counted.calls >= CALIBRATED { counted.counted / counted.estimated.max(1.0) } else { 1.0 };
        f64::from(question.tokens) * factor
    }

    fn calibrate(&self, question: &Question, vote: &Vote) {
        if let Some(tokens) = vote.input_tokens {
            let mut counted = locked(&self.counted);
            counted.calls += 1.0;
            counted.estimated += f64::from(question.tokens);
            counted.counted += tokens as f64;
        }
    }
}

impl Court<'_> {
    fn is_stopped(&self, station: &Station<'_>) -> bool {
        [&self.is_over, &self.options.stop, &station.is_stopped].iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// Fills in what stations know.
    fn report(&self, summary: &mut Summary, start: Instant) {
        summary.seconds = start.elapsed().as_secs_f64();
        for (judge, station) in summary.judges.iter_mut().zip(&self.stations) {
            judge.retries = station.retries.load(Ordering::Relaxed);
            judge.concurrency = station.gate.limit();
            judge.stopped.clone_from(&locked(&station.why_stopped));
        }
    }

    /// Asks questions of one judge until there are none, or the run or the judge stops.
    fn work(&self, at: usize, sender: &Sender<Message>) {
        let station = &self.stations[at];
        while !self.is_stopped(station) {
            let Some(question) = locked(&station.queue).next() else { return };
            for attempt in question.answers + 1..=self.attempts {
                let Some(vote) = self.ask(station, &question, attempt) else { return };
                let is_settled = matches!(vote.state, State::Scored | State::Failed);
                let (recorded, is_recorded) = mpsc::sync_channel(1);
                if sender.send(Message { station: at, vote, recorded }).is_err() || is_recorded.recv().is_err() {
                    return;
                }
                if is_settled || self.is_stopped(station) {
                    break;
                }
            }
        }
    }

    /// The vote of one call, within the budget; `None` if the run or the judge stops before it is made.
    fn ask(&self, station: &Station<'_>, question: &Question, attempt: u32) -> Option<Vote> {
        let most_tokens = (station.prompt_tokens(question), station.judge.most_output() as f64);
        let reserved = Spent::of(station.judge, most_tokens);
        while !self.purse.reserve(reserved) {
            if self.purse.is_empty() {
                self.is_over.store(true, Ordering::Relaxed);
            }
            // Calls in flight may need less than was reserved for them.
            if !nap(Duration::from_millis(20), &|| self.is_stopped(station)) {
                return None;
            }
        }
        let vote = self.call(station, question, attempt);
        let spent = match &vote {
            Some(vote) if vote.state != State::Failed => {
                station.calibrate(question, vote);
                let guess = (most_tokens.0, self.purse.answer_tokens[&station.judge.name]);
                let tokens = |counted: Option<u64>, guess| counted.map_or(guess, |counted| counted as f64);
                match vote.answer {
                    Some(_) => {
                        let tokens = (tokens(vote.input_tokens, guess.0), tokens(vote.output_tokens, guess.1));
                        Spent::of(station.judge, tokens)
                    }
                    // Declined before the model saw it.
                    None => Spent::default(),
                }
            }
            _ => Spent::default(),
        };
        self.purse.settle(reserved, spent);
        if let Some(vote) = &vote {
            station.watch(vote);
        }
        vote
    }

    /// Calls until there is an answer or no hope for one.
    fn call(&self, station: &Station<'_>, question: &Question, attempt: u32) -> Option<Vote> {
        let pair = &self.pairs[question.pair as usize];
        let Question { sample, key, .. } = *question;
        let (judge, prompt, prompt_hash) = (station.judge, self.prompt, self.prompt_hash.as_str());
        let call = Call { judge, prompt, prompt_hash, pair, sample, key, attempt };
        let is_stopped = || self.is_stopped(station);
        let body = match request_body(judge, prompt, pair, sample) {
            Ok(body) => body.to_string(),
            Err(error) => {
                station.stop(error.to_string());
                return None;
            }
        };
        let id = format!("{key}-{attempt}");
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(self.options.retry_delay)
            .with_max_delay(LONGEST_DELAY)
            .with_jitter()
            .without_max_times()
            .build();
        let (mut failures, mut limited) = (0, 0);
        let mut answers = station.answers.load(Ordering::Relaxed);
        loop {
            let permit = station.gate.enter(&is_stopped)?;
            if !station.rates.wait(u64::from(question.tokens) + judge.most_output(), &is_stopped) {
                return None;
            }
            let start = Instant::now();
            let failure = match station.client.ask(body.as_bytes(), &id) {
                Ok(body) => {
                    permit.succeeded();
                    station.answers.fetch_add(1, Ordering::Relaxed);
                    station.unanswered_in_a_row.store(0, Ordering::Relaxed);
                    return Some(call.answered(&body, Some(start.elapsed().as_secs_f64())));
                }
                Err(failure) => failure,
            };
            if matches!(failure.kind, FailureKind::RateLimit | FailureKind::Server) {
                permit.overloaded(failure.retry_after);
            } else {
                drop(permit);
            }
            let now = station.answers.load(Ordering::Relaxed);
            let others_succeed = std::mem::replace(&mut answers, now) != now;
            if !failure.kind.is_passing() {
                return self.without_answer(station, &call, failure, now > 0);
            }
            match others_succeed && failure.kind == FailureKind::RateLimit {
                true => limited += 1,
                false => failures += 1,
            }
            if failures >= self.options.tries || limited >= LENIENCE * self.options.tries {
                let error = format!("{failure} (after {} tries)", failures + limited);
                if station.unanswered_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= DOWN {
                    station.stop(format!("no answer to {DOWN} questions in a row: {error}"));
                }
                return Some(call.without_answer(State::Failed, Some(error), None));
            }
            station.retries.fetch_add(1, Ordering::Relaxed);
            let delay = delays.next().unwrap_or(LONGEST_DELAY).max(failure.retry_after.unwrap_or_default());
            if !nap(delay, &is_stopped) {
                return None;
            }
        }
    }

    /// What a failure that does not pass amounts to: a vote of its own, or the end of the judge.
    fn without_answer(
        &self,
        station: &Station<'_>,
        call: &Call<'_>,
        failure: Failure,
        is_understood: bool,
    ) -> Option<Vote> {
        let state = match failure.kind {
            FailureKind::Filtered => State::Refused,
            FailureKind::TooLong => State::Failed,
            // Requests of this form are understood, so it is about this text.
            FailureKind::Request if is_understood => State::Failed,
            _ => {
                station.stop(failure.message);
                return None;
            }
        };
        Some(call.without_answer(state, Some(failure.message), None))
    }
}

/// What may be spent, what is, and what is reserved for calls in flight.
struct Purse {
    budget: Budget,
    /// Expected tokens of an answer by judge, where the endpoint does not count them.
    answer_tokens: HashMap<String, f64>,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    /// With what is reserved.
    spent: Spent,
    in_flight: u32,
    is_empty: bool,
}

impl Purse {
    fn new(judges: &Judges, prompt: &Prompt, journal: &Journal, questions: &[Questions]) -> Result<Self> {
        let spent = within_budget(judges, prompt, journal, questions)?;
        let expected = |judge: &Judge| (judge.name.clone(), answer_tokens(judge, prompt, journal) as f64);
        let answer_tokens = judges.judges.iter().map(expected).collect();
        let contents = Mutex::new(Contents { spent, ..Contents::default() });
        Ok(Self { budget: judges.budget.clone(), answer_tokens, contents })
    }

    /// Sets aside what a call may need at most; false if it does not fit beside the calls in flight.
    fn reserve(&self, call: Spent) -> bool {
        let mut contents = locked(&self.contents);
        let (tokens, cost) = (contents.spent.tokens + call.tokens, contents.spent.cost + call.cost);
        let fits = self.budget.tokens.is_none_or(|most| tokens <= most as f64)
            && self.budget.cost.is_none_or(|most| cost <= most);
        if fits {
            contents.spent = Spent { tokens, cost };
            contents.in_flight += 1;
        } else if contents.in_flight == 0 {
            contents.is_empty = true;
        }
        fits
    }

    fn settle(&self, reserved: Spent, spent: Spent) {
        let mut contents = locked(&self.contents);
        contents.spent.tokens += spent.tokens - reserved.tokens;
        contents.spent.cost += spent.cost - reserved.cost;
        contents.in_flight -= 1;
    }

    fn is_empty(&self) -> bool {
        locked(&self.contents).is_empty
    }

    fn problem(&self) -> Option<Stop> {
        let contents = locked(&self.contents);
        let Spent { tokens, cost } = contents.spent;
        let money = self.budget.cost.map(|most| format!("{cost:.4} of {most} {}", self.budget.currency));
        let tokens = self.budget.tokens.map(|most| format!("{tokens:.0} of {most} tokens"));
        let spent: Vec<String> = tokens.into_iter().chain(money).map(|word| word.trim_end().to_owned()).collect();
        contents
            .is_empty
            .then(|| Stop::Budget(format!("the budget is spent ({}); raise `budget` to go on", spent.join(", "))))
    }
}
