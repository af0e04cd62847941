//! `faults`: lets histories of the whole gateway happen in a model of AWS, with faults at every call, and says what did not hold.

#![allow(clippy::print_stdout, reason = "a program for people")]
#![allow(clippy::disallowed_methods, reason = "how long it took is told in real time")]

mod arguments;

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arguments::Arguments;
use clap::Parser as _;
use tests::simulation::{History, Plan, Small, exhaust, play, verdict};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(10);
/// How many histories are drawn at random at the least, if as many are asked for.
const RANDOM_MIN: u64 = 10_000;
/// How many failing histories are told of.
const TOLD_MAX: usize = 5;

/// What was counted, over all threads.
#[derive(Default)]
struct Totals {
    histories: AtomicU64,
    calls: AtomicU64,
    faults: AtomicU64,
    repeats: AtomicU64,
    failing: Mutex<Vec<(String, Vec<String>)>>,
    stop: AtomicBool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.replay {
        Some(id) => replay(id, &arguments),
        None => run(&arguments),
    }
}

/// One history with its trace.
fn replay(id: &str, arguments: &Arguments) -> ExitCode {
    let Some(mut plan) = exhaust::plan_of(id) else {
        eprintln!("faults: `{id}` names no history; write what a failing history printed");
        return ExitCode::from(2);
    };
    plan.wrong = arguments.wrong;
    let history = play(&plan, true);
    history.trace.iter().for_each(|line| println!("{line}"));
    history.violations.iter().for_each(|violation| println!("{violation}"));
    println!("{}", line(1, history.faults, &history.violations));
    if history.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: &Arguments) -> ExitCode {
    let totals = Totals::default();
    let began = Instant::now();
    let mut all_violations = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| tell_progress(&totals, began));
        if !arguments.no_small && arguments.wrong.is_none() {
            for system in Small::all() {
                println!("{system}: every fault at each of its {} calls", exhaust::calls_of(system).len());
                spread(&totals, arguments, exhaust::singles(system));
                if !arguments.no_pairs && !system.is_large() {
                    println!("{system}: and every second fault at each call after it");
                    spread(&totals, arguments, exhaust::pairs(system));
                }
            }
        }
        // At least so many at random, however many there were before.
        let before = totals.histories.load(Ordering::Relaxed);
        let random = arguments.histories.saturating_sub(before).max(arguments.histories.min(RANDOM_MIN));
        println!("{random} histories at random");
        let first = arguments.seed;
        spread(
            &totals,
            arguments,
            (first..first.saturating_add(random)).map(|seed| match arguments.wrong {
                Some(wrong) => (format!("{}:{seed}", wrong.name()), Plan::tempting(wrong, seed)),
                None => (seed.to_string(), Plan::random(seed)),
            }),
        );
        totals.stop.store(true, Ordering::Relaxed);
    });
    let failing = totals.failing.lock().unwrap_or_else(PoisonError::into_inner);
    for (id, violations) in failing.iter().take(TOLD_MAX) {
        println!("history {id}:");
        violations.iter().for_each(|violation| println!("  {violation}"));
        println!(
            "  to see it again: make faults REPLAY={id}{}",
            arguments.wrong.map_or(String::new(), |wrong| format!(" WRONG={}", wrong.name()))
        );
    }
    failing.iter().for_each(|(_, violations)| all_violations.extend(violations.iter().cloned()));
    let histories = totals.histories.load(Ordering::Relaxed);
    println!(
        "{} deliveries were sent to their destination more than once, under the same idempotency key",
        totals.repeats.load(Ordering::Relaxed)
    );
    println!(
        "{} calls in {:.0} s, {:.0} histories a second",
        totals.calls.load(Ordering::Relaxed),
        began.elapsed().as_secs_f64(),
        histories as f64 / began.elapsed().as_secs_f64().max(0.001)
    );
    println!("{}", line(histories, totals.faults.load(Ordering::Relaxed), &all_violations));
    if all_violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(histories: u64, faults: u64, violations: &[String]) -> String {
    let tally = verdict::tally(violations);
    let of = |kind| tally.get(kind).copied().unwrap_or_default();
    let other = match of("other") {
        0 => String::new(),
        count => format!(", {count} other violations"),
    };
    format!(
        "{histories} histories, {faults} faults, {} lost, {} doubled, {} stuck{other}",
        of("lost"),
        of("doubled"),
        of("stuck")
    )
}

/// Lets the histories happen on all threads.
fn spread(totals: &Totals, arguments: &Arguments, plans: impl Iterator<Item = (String, Plan)> + Send) {
    let plans = Mutex::new(plans);
    thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let next = plans.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((id, mut plan)) = next else { break };
                    plan.wrong = arguments.wrong;
                    count(totals, id, play(&plan, false));
                }
            });
        }
    });
}

fn count(totals: &Totals, id: String, history: History) {
    totals.histories.fetch_add(1, Ordering::Relaxed);
    totals.calls.fetch_add(history.calls, Ordering::Relaxed);
    totals.faults.fetch_add(history.faults, Ordering::Relaxed);
    totals.repeats.fetch_add(history.repeats, Ordering::Relaxed);
    if !history.violations.is_empty() {
        totals.failing.lock().unwrap_or_else(PoisonError::into_inner).push((id, history.violations));
    }
}

fn tell_progress(totals: &Totals, began: Instant) {
    let mut told = began;
    while !totals.stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let failing = totals.failing.lock().unwrap_or_else(PoisonError::into_inner).len();
            println!(
                "{:>4.0} s: {} histories, {} faults, {failing} failing",
                began.elapsed().as_secs_f64(),
                totals.histories.load(Ordering::Relaxed),
                totals.faults.load(Ordering::Relaxed)
            );
        }
    }
}
