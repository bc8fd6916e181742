//! Queries from the command line, from a program on stdin, or from a person at a prompt.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Result, anyhow, bail};
use care_core::lines::text_of;
use serde::Serialize;

use crate::hits::Form;
use crate::stderr::note;
use crate::stdout::print;

/// Options that say what is asked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct QueryArgs {
    /// A single query; by default queries are asked for at a prompt or, where stdin is no terminal, read from it, one per line
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
}

impl QueryArgs {
    /// Refuses an empty query, before any work is done.
    pub(crate) fn check(&self) -> Result<()> {
        self.query.as_deref().map_or(Ok(()), not_empty)
    }

    /// Answers the query, or every one that is asked. `place` says what is searched.
    pub(crate) fn answer(&self, place: &str, form: Form, search: &dyn Fn(&str) -> Result<String>) -> Result<()> {
        let search = |query: &str| {
            not_empty(query)?;
            search(query)
        };
        match &self.query {
            Some(query) => print(&search(query)?),
            None if std::io::stdin().is_terminal() => {
                note!("ready: {place}. Ask a question, or end with Ctrl-D.");
                converse(&mut std::io::stdin().lock(), &search)
            }
            None => {
                note!("ready: {place}");
                serve(&mut std::io::stdin().lock(), form, &search)
            }
        }
    }
}

fn not_empty(query: &str) -> Result<()> {
    if query.trim().is_empty() {
        bail!("the query is empty");
    }
    Ok(())
}

/// Answers a person. An error ends nothing, and an empty line is answered by the next prompt.
fn converse(input: &mut dyn BufRead, search: &dyn Fn(&str) -> Result<String>) -> Result<()> {
    let mut line = Vec::new();
    loop {
        write!(std::io::stderr(), "query> ").ok();
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            note!("");
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match text_of(&line, 1).map_err(|problem| anyhow!(problem)).and_then(search) {
            Ok(answer) => print(&answer)?,
            Err(error) => note!("error: {error:#}"),
        }
    }
}

/// The output for a line of stdin that cannot be answered.
#[derive(Serialize)]
struct Refusal {
    line: usize,
    error: String,
}

/// Answers every line of a program. One that is not text or cannot be searched for is answered by the problem, and the next
/// is read.
fn serve(input: &mut dyn BufRead, form: Form, search: &dyn Fn(&str) -> Result<String>) -> Result<()> {
    let (mut line, mut lines, mut refused) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        lines += 1;
        match text_of(&line, lines).map_err(|problem| anyhow!(problem)).and_then(search) {
            Ok(answer) => print(&answer)?,
            Err(error) => {
                refused += 1;
                let error = format!("stdin:{lines}: {error:#}");
                match form {
                    Form::Json => print(&serde_json::to_string(&Refusal { line: lines, error })?)?,
                    Form::Text => note!("error: {error}"),
                }
            }
        }
    }
    if refused > 0 {
        bail!("{refused} of {lines} lines of stdin could not be answered");
    }
    Ok(())
}
