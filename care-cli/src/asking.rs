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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    type Loop<'a> = &'a dyn Fn(&mut dyn BufRead, &dyn Fn(&str) -> Result<String>) -> Result<()>;

    /// What is searched for, and how it ends.
    fn asked(input: &[u8], of: Loop<'_>) -> (Vec<String>, Result<()>) {
        let queries = RefCell::new(Vec::new());
        let search = |query: &str| -> Result<String> {
            not_empty(query)?;
            queries.borrow_mut().push(query.to_owned());
            if query == "bad" { bail!("it fails") } else { Ok(String::new()) }
        };
        let end = of(&mut &*input, &search);
        (queries.into_inner(), end)
    }

    #[test]
    fn an_error_ends_neither_a_talk_nor_a_service() {
        let input = b"\n\xe7\x97\x9b\r\n  \nbad\n\xff\nnext";
        let (queries, end) = asked(input, &|input, search| converse(input, search));
        assert_eq!(queries, ["痛", "bad", "next"]);
        assert!(end.is_ok());
        let (queries, end) = asked(input, &|input, search| serve(input, Form::Json, search));
        assert_eq!(queries, ["痛", "bad", "next"]);
        assert_eq!(end.expect_err("four lines").to_string(), "4 of 6 lines of stdin could not be answered");
    }
}
