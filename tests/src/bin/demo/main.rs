//! The demo: the main job on real input, step by step, over HTTP against a stack that is up.
//!
//! Every step says what is done, shows what came back, and then what the ledger says about it. Nothing is pretended: what
//! is shown is read from the stack, and what is not as it should be ends the demo. Event ids are new each time, so it
//! runs again and again on the same stack.

#![allow(clippy::disallowed_methods, reason = "programs around the stack live in real time")]
#![allow(clippy::print_stdout, reason = "showing is what it is for")]

mod ledger;
mod say;
mod steps;

use std::{
    io::{self, Write as _},
    panic::PanicHookInfo,
    process::ExitCode,
};

use ::tests::stack::{Sample, Stack};

const HELP: &str = "\
Shows Posthouse's main job on a local stack, step by step.

usage: demo [--stack NAME]

  --stack NAME   the stack, which is up (default: demo)
  --help         this text

`make demo` builds, starts the stack and runs this.";

const STACK_DEFAULT: &str = "demo";

#[tokio::main]
async fn main() -> ExitCode {
    let name = match arguments(std::env::args().skip(1)) {
        Ok(Some(name)) => name,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("{wrong}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    match Stack::load(&name).await {
        Ok(stack) => {
            show(&stack).await;
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The stack's name; none if help is wanted.
fn arguments(mut given: impl Iterator<Item = String>) -> Result<Option<String>, String> {
    let mut name = STACK_DEFAULT.to_owned();
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--stack" => name = given.next().ok_or("--stack wants the name of a stack")?,
            other => return Err(format!("there is no argument `{other}`")),
        }
    }
    Ok(Some(name))
}

async fn show(stack: &Stack) {
    let name = stack.name.clone();
    // The harness panics with what it expected and what it saw.
    std::panic::set_hook(Box::new(move |stop| tell_and_exit(stop, &name)));
    println!("Posthouse on a local AWS: the stack `{}`", stack.name);

    let mut events = vec![steps::a_push_is_accepted(stack).await];
    steps::the_same_push_again(stack, &events[0]).await;
    steps::a_captured_push(stack, &events[0]).await;
    steps::a_forged_push(stack).await;
    events.push(steps::a_destination_that_is_down(stack).await);
    events.extend(steps::a_rotation(stack).await);
    close(stack, &events).await;
}

fn tell_and_exit(stop: &PanicHookInfo<'_>, stack: &str) {
    let _ = io::stdout().flush();
    eprintln!(
        "\n\nThe demo stops here: {}\n\n\
         To find out why:\n  \
         .venv/bin/python infra/local/stack.py logs --name {stack} receiver     (or worker, redrive, rotation, auditor)\n  \
         .venv/bin/python infra/local/stack.py status --name {stack}\n  \
         .local/{stack}/*.log                                      (emulator, wire, destination)",
        stop.payload_as_str().unwrap_or("for a reason that has no words")
    );
    std::process::exit(1);
}

async fn close(stack: &Stack, events: &[Sample]) {
    say::title("Every event of this demo, and its deliveries, as the ledger has them:");
    println!("{}", ledger::table(stack, events).await);
    let key = stack.keyring("source/github").await.pop().expect("a keyring has a valid key");
    println!(
        "Webhooks go to   {}/<source>\n\n\
         Try it: a push of its own each time.\n\n{}\n\n\
         The stack stays up. `make down` ends it.",
        stack.output("WebhookUrl"),
        curl(&stack.webhook_url("github"), &key.secret)
    );
}

/// A command to paste into a shell. The secret is this local stack's, made up when it was deployed, and gone with it.
fn curl(url: &str, secret: &str) -> String {
    format!(
        r#"  body='{{"ref":"refs/heads/main","after":"'$(openssl rand -hex 20)'"}}'; curl -i '{url}' -d "$body" \
    -H 'Content-Type: application/json' -H 'X-GitHub-Event: push' \
    -H "X-GitHub-Delivery: $(openssl rand -hex 16)" \
    -H "X-Hub-Signature-256: sha256=$(printf %s "$body" | openssl dgst -sha256 -hmac '{secret}' | sed 's/.* //')""#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_a_stack_or_asks_for_help() {
        let parse = |line: &str| arguments(line.split_whitespace().map(str::to_owned));
        assert_eq!(parse(""), Ok(Some("demo".to_owned())));
        assert_eq!(parse("--stack test"), Ok(Some("test".to_owned())));
        assert_eq!(parse("--help"), Ok(None));
        assert!(parse("--stack").is_err());
        assert_eq!(parse("test"), Err("there is no argument `test`".to_owned()));
    }
}
