//! Chaos: webhooks through real processes, while AWS calls fail, functions are killed and destinations fail and recover.
//!
//! Four senders send and send again; somebody without a key tries as well. When all is sent, everything that was broken is
//! mended, and what was accepted has to arrive: each event once, as the destinations' own journals have it. What is told is what
//! was counted; nothing of it is taken from the functions' own metrics.

#![recursion_limit = "256"]
#![allow(clippy::disallowed_methods, reason = "programs around the stack live in real time")]
#![allow(clippy::print_stdout, reason = "a program for people")]

mod arguments;
mod audit;
mod evidence;
mod functions;
mod report;
mod senders;
mod settling;
mod trouble;
mod verdict;
mod waits;
mod webhooks;

use std::{panic::AssertUnwindSafe, process::ExitCode, time::Instant};

use ::tests::stack::Stack;
use arguments::Arguments;
use clap::Parser as _;
use evidence::Entries;
use futures::FutureExt as _;
use report::Progress;
use senders::{Senders, Tally};
use shared::time::Timestamp;
use verdict::Found;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stack = match Stack::load(&arguments.stack).await {
        Ok(stack) => stack,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    // The stack is mended even if something here gives up.
    let ended = AssertUnwindSafe(run(&stack, &arguments)).catch_unwind().await;
    stack.wire.mend_all().await;
    waits::restore(&stack).await;
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Whether everything held.
async fn run(stack: &Stack, arguments: &Arguments) -> bool {
    let clock = Instant::now();
    let began = Timestamp::now();
    let (run, planned) = webhooks::draw(arguments.webhooks, arguments.seed);
    println!("{} webhooks, seed {}; their ids begin with {run}", arguments.webhooks, arguments.seed);
    waits::shorten(stack).await;
    // A stack that was never audited would begin an hour ago, again and again while its auditor is being broken.
    audit::begin_at(stack, began).await;

    let tally = Tally::default();
    let senders = Senders::new(stack, &tally).await;
    stack.wire.faults(&trouble::faults(arguments.webhooks, arguments.seed)).await;
    let progress = Progress { stack, tally: &tally, webhooks: arguments.webhooks, clock };
    let sent = tokio::select! {
        sent = senders.send(&planned) => sent,
        () = trouble::moody(stack, &run, arguments.seed) => unreachable!("moods never end"),
        () = trouble::operate(stack) => unreachable!("operators never rest"),
        () = progress.tell() => unreachable!("progress never ends"),
    };
    let faults = stack.wire.reports().await;
    stack.wire.mend_all().await;
    trouble::heal(stack, &run).await;
    println!("{:>5.0} s: all is sent, and all is mended", clock.elapsed().as_secs_f64());

    let standing = settling::settle(stack, &run, &planned, arguments.quick, clock).await;
    let account = audit::whole(stack, began, standing.expected, arguments.quick).await;
    let found = Found {
        entries: Entries::read(stack, &run).await,
        arrivals: evidence::arrivals(stack, &run).await,
        customers: evidence::customers(stack, &run).await,
    };
    let mut violations = verdict::judge(&planned, &sent, &found);
    violations.extend(verdict::audit(&account, standing.expected));
    report::tell(&report::Ended {
        tally: &tally,
        faults: &faults,
        found: &found,
        account: &account,
        violations: &violations,
        took: clock.elapsed(),
    })
}
