//! The examples of the documentation, run.

use std::fs;

use super::{Said, at_root, posthouse, sending::server};

/// A command with the output that the documentation shows.
struct Example {
    command: String,
    output: Vec<String>,
}

fn examples(document: &str) -> Vec<Example> {
    at_root();
    let text = fs::read_to_string(document).unwrap();
    let mut examples: Vec<Example> = Vec::new();
    for block in text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => examples.push(Example { command: command.to_owned(), output: Vec::new() }),
                None => examples.last_mut().expect("a block begins with a command").output.push(line.to_owned()),
            }
        }
    }
    examples
}

/// Runs what the documentation uses of a shell: words, a variable before a command, pipes.
async fn shell(command: &str) -> Said {
    let mut said = Said { status: 0, output: Vec::new() };
    for part in command.split(" | ") {
        let words: Vec<&str> = part.split(' ').collect();
        let (secret, args) = match words[0].strip_prefix("POSTHOUSE_SECRET=") {
            Some(secret) => (secret, &words[1..]),
            None => ("", &words[..]),
        };
        assert_eq!(args[0], "posthouse", "{command}");
        said = posthouse(&args[1..], secret, &said.output).await;
    }
    said
}

/// `…` stands for any text, and alone in a line for any lines.
fn matches(shown: &[String], said: &[&str]) -> bool {
    match (shown, said) {
        ([], []) => true,
        ([shown, rest @ ..], said) if shown == "…" => (0..=said.len()).any(|skipped| matches(rest, &said[skipped..])),
        ([shown, shown_rest @ ..], [said, said_rest @ ..]) => line_matches(shown, said) && matches(shown_rest, said_rest),
        _ => false,
    }
}

fn line_matches(shown: &str, said: &str) -> bool {
    let Some((before, after)) = shown.split_once('…') else { return shown == said };
    said.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
}

async fn check(document: &str) -> usize {
    let examples = examples(document);
    for Example { command, output } in &examples {
        let said = if command.contains("$URL") {
            let (url, request) = server("HTTP/1.1 202 Accepted\r\ncontent-length: 21\r\n\r\n{\"status\":\"accepted\"}").await;
            let said = shell(&command.replace("$URL", &url)).await;
            request.await.unwrap();
            said
        } else {
            shell(command).await
        };
        let text = said.text();
        let said: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
        assert!(matches(output, &said), "{document}: {command}\n{text}");
    }
    examples.len()
}

#[tokio::test]
async fn every_example_says_what_is_documented() {
    assert_eq!(check("docs/cli.md").await, 14);
    assert_eq!(check("tests/vectors/README.md").await, 2);
}
