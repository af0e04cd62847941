//! The bench: which AWS calls a webhook makes, and what AWS bills for them.
//!
//! Calls are counted on the wire between the functions and the emulator. Billed units and prices are arithmetic on those
//! counts and on the sizes of the items that were written; the report marks which is which. None of that is about time: an
//! emulator on this machine says nothing about it. What is timed, in a build of its own, is [`verification`], which calls nothing.

#![allow(clippy::disallowed_methods, reason = "programs around the stack live in real time")]
#![allow(clippy::print_stdout, reason = "the report is what it is for")]

mod measure;
mod prices;
mod report;
mod units;
mod verification;

use std::process::ExitCode;

use ::tests::stack::Stack;
use measure::{Measured, SUBJECTS, Subject, measure};
use report::{FOOTNOTE, Report};
use serde_json::Value;
use verification::Verification;

const HELP: &str = "\
Counts the AWS calls of a webhook on the wire, and computes what AWS bills for them.

usage: bench [--stack NAME] [--webhooks N] [--json]
       bench --verification [--json]

  --stack NAME   the stack, which is up and quiet (default: demo)
  --webhooks N   webhooks to send and to send again (default: 200)
  --verification times verification instead, beside the hash that it cannot do without; needs no stack
  --json         the figures as one line of JSON instead of a table
  --help         this text

Fails if a warm receiver calls more than 1 PutItem and 1 SendMessage for a webhook, or 2 PutItem where its source does not sign
the event id; and if verification takes longer than its goal. See docs/bench.md.";

/// How often it is measured at most: a keyring that is read in between, by a new environment or after five minutes, is no cost of
/// a webhook.
const MEASURES_MAX: u32 = 2;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    stack: String,
    webhooks: u32,
    verification: bool,
    json: bool,
}

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        // In one thread, as in a function: where there are several, each allocation takes longer.
        Ok(Some(options)) if options.verification => time_verification(&options),
        Ok(Some(options)) => count_calls(&options),
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("{wrong}\n\n{HELP}");
            ExitCode::FAILURE
        }
    }
}

/// None if help is wanted.
fn arguments(mut given: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options { stack: "demo".to_owned(), webhooks: 200, verification: false, json: false };
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--json" => options.json = true,
            "--verification" => options.verification = true,
            "--stack" => options.stack = given.next().ok_or("--stack wants the name of a stack")?,
            "--webhooks" => {
                let number = given.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0);
                options.webhooks = number.ok_or("--webhooks wants a number above 0")?;
            }
            other => return Err(format!("there is no argument `{other}`")),
        }
    }
    Ok(Some(options))
}

#[tokio::main]
async fn count_calls(options: &Options) -> ExitCode {
    let stack = match Stack::load(&options.stack).await {
        Ok(stack) => stack,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let mut reports = Vec::new();
    for subject in &SUBJECTS {
        let report = Report::of(&measure_warm(&stack, subject, options.webhooks).await);
        if !options.json {
            println!("{report}");
        }
        reports.push(report);
    }
    if options.json {
        println!("{}", Value::from_iter(reports.iter().map(Report::json)));
    } else {
        println!("{FOOTNOTE}");
    }
    if reports.iter().all(Report::receiver_keeps_goal) {
        return ExitCode::SUCCESS;
    }
    eprintln!("a warm receiver makes more calls than its goal allows");
    ExitCode::FAILURE
}

fn time_verification(options: &Options) -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("this build is not optimised, so that its times mean nothing: `make bench` builds one that is");
        return ExitCode::FAILURE;
    }
    let verification = Verification::measure();
    println!("{}", if options.json { verification.json().to_string() } else { verification.to_string() });
    let Some(missed) = verification.missed() else { return ExitCode::SUCCESS };
    eprintln!("{missed}");
    ExitCode::FAILURE
}

async fn measure_warm(stack: &Stack, subject: &'static Subject, webhooks: u32) -> Measured {
    for _ in 1..MEASURES_MAX {
        let measured = measure(stack, subject, webhooks).await;
        if !measured.keyrings_were_read() {
            return measured;
        }
        eprintln!(
            "a keyring was read meanwhile, by a new environment or because its five minutes were over: measuring once more"
        );
    }
    measure(stack, subject, webhooks).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read_strictly() {
        let parse = |line: &str| arguments(line.split_whitespace().map(str::to_owned));
        let given = Options { stack: "test".to_owned(), webhooks: 7, verification: false, json: true };
        assert_eq!(parse("--json --stack test --webhooks 7"), Ok(Some(given)));
        assert_eq!(parse("--help"), Ok(None));
        for wrong in ["--webhooks 0", "--webhooks", "--webhooks many", "--stack", "200"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
