//! Stand-in judges behind a chat endpoint on the loopback address: they follow simple rules and are no language models.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The models that the server offers.
pub(super) const MODELS: [&str; 3] = ["stand-in-bigrams", "stand-in-characters", "stand-in-phrase"];

/// Longest request, in bytes.
const LONGEST: usize = 1 << 20;

/// Starts the server, which ends with the program; returns its address.
pub(super) fn start() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
    let address = format!("http://{}/v1", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A broken connection is the client's to repeat.
            thread::spawn(move || serve(stream).ok());
        }
    });
    Ok(address)
}

/// Answers the requests of a connection.
fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length.min(LONGEST)];
        reader.read_exact(&mut body)?;
        let (status, answer) = match serde_json::from_slice(&body).ok().and_then(|body| answer(&body)) {
            Some(answer) => ("200 OK", answer),
            None => ("400 Bad Request", json!({"error": {"message": "no chat request of the demonstration"}})),
        };
        let text = answer.to_string();
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )?;
    }
}

/// The answer to a chat request.
fn answer(body: &Value) -> Option<Value> {
    let model = body.get("model")?.as_str()?;
    let texts: Vec<&str> =
        body.get("messages")?.as_array()?.iter().filter_map(|message| message.get("content")?.as_str()).collect();
    let message = *texts.last()?;
    let rest = message.strip_prefix("问题：")?;
    let (query, rest) = rest.split_once("\n\n文档：")?;
    let (document, _) = rest.rsplit_once("\n\n请先")?;
    let (share, rule) = share(model, query, document)?;
    // From shares to points: the same steps for every rule.
    let score = 1 + [0.15, 0.3, 0.42, 0.6].iter().filter(|step| share >= **step).count();
    let content = json!({"reason": format!("{rule}: {share:.2}"), "score": score}).to_string();
    let (input, output) = (texts.iter().map(|text| text.chars().count()).sum::<usize>(), content.chars().count());
    Some(json!({
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
    }))
}

/// How much of the query is in the document, by a model's rule.
fn share(model: &str, query: &str, document: &str) -> Option<(f64, &'static str)> {
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<Vec<char>>();
    let (query, document) = (letters(query), letters(document));
    let covered = |size: usize| {
        let grams: HashSet<&[char]> = query.windows(size).collect();
        let there: HashSet<&[char]> = document.windows(size).collect();
        grams.iter().filter(|gram| there.contains(*gram)).count() as f64 / grams.len().max(1) as f64
    };
    Some(match MODELS.iter().position(|known| *known == model)? {
        0 => (1.5 * covered(2), "pairs of characters of the question in the document"),
        1 => (covered(1), "characters of the question in the document"),
        _ => {
            let holds = |size: usize| {
                let there: HashSet<&[char]> = document.windows(size).collect();
                query.windows(size).any(|phrase| there.contains(phrase))
            };
            let longest = (1..=query.len()).take_while(|size| holds(*size)).last().unwrap_or(0);
            (longest as f64 / 6.0, "longest common phrase")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(model: &str, message: &str) -> Option<Value> {
        answer(&json!({"model": model, "messages": [{"role": "user", "content": message}]}))
    }

    #[test]
    fn rules_score_by_what_is_shared() {
        let message = |document: &str| format!("问题：糖尿病能吃西瓜吗\n\n文档：{document}\n\n请先说明理由");
        for model in MODELS {
            let score = |document: &str| {
                let answer = ask(model, &message(document)).expect("answered");
                let content =
                    answer.pointer("/choices/0/message/content").and_then(Value::as_str).expect("text").to_owned();
                serde_json::from_str::<Value>(&content).expect("JSON")["score"].as_i64().expect("a score")
            };
            assert_eq!((score("糖尿病人能吃西瓜吗？糖尿病能吃西瓜吗"), score("骨折后如何固定")), (5, 1), "{model}");
        }
        assert!(ask("gpt", &message("糖尿病")).is_none());
        assert!(ask(MODELS[0], "hello").is_none());
    }
}
