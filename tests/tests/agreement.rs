//! The command line gives the receiver's verdict: verdict, event id, type and status, of thousands of requests, and of a million where
//! `AGREEMENT_CASES` asks for them (`make agreement`).

use std::{collections::BTreeMap, env, thread};

use tests::agreement::{Agreement, Kind};

/// Cases of `make test`.
const CASES_DEFAULT: u64 = 4_000;
/// Disagreements that are told.
const TOLD_MAX: usize = 10;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn command_line_and_receiver_say_the_same_of_any_request() {
    let (cases, first) = (number("AGREEMENT_CASES", CASES_DEFAULT), number("AGREEMENT_SEED", 0));
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let run = |thread: u64| {
        let mut agreement = Agreement::new();
        let (mut counts, mut wrong) = (BTreeMap::<(Kind, u16), u64>::new(), Vec::new());
        for case in (first + thread..first + cases).step_by(threads as usize) {
            match agreement.compare(case) {
                Ok(said) => *counts.entry(said).or_default() += 1,
                Err(told) => wrong.push(told),
            }
        }
        (counts, wrong)
    };
    let (mut counts, mut wrong) = (BTreeMap::<(Kind, u16), u64>::new(), Vec::new());
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        for handle in handles {
            let (some, told) = handle.join().expect("a comparison panicked");
            some.into_iter().for_each(|(said, count)| *counts.entry(said).or_default() += count);
            wrong.extend(told);
        }
    });
    println!("{cases} cases: {counts:?}");
    let told = wrong.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} disagree\n{told}", wrong.len());
    for kind in [Kind::Webhook, Kind::Handshake, Kind::Refused] {
        let some: u64 = counts.iter().filter(|((said, _), _)| *said == kind).map(|(_, count)| count).sum();
        assert!(some * 100 > cases, "too few of {kind:?}: {counts:?}");
    }
    for status in [400, 401, 405, 413] {
        assert!(counts.contains_key(&(Kind::Refused, status)), "none with {status}: {counts:?}");
    }
}
