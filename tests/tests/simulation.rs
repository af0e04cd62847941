//! The whole gateway in one process and on one virtual clock, in short: `make faults` is the long form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use tests::simulation::{Plan, Wrong, exhaust, plan::SOURCES, play};

/// Histories of this run that are drawn at random; `make faults` draws a hundred thousand.
const RANDOM: u64 = 120;
/// Seeds with which each wrong design is tempted.
const TEMPTATIONS: u64 = 60;

#[track_caller]
fn holds(id: &str, plan: &Plan) {
    let history = play(plan, false);
    assert_eq!(history.violations, Vec::<String>::new(), "to see it: make faults REPLAY={id}");
}

#[test]
fn no_single_fault_at_any_call_of_an_event_and_its_duplicate_does_harm() {
    for source in SOURCES {
        let mut histories = 0;
        for (id, plan) in exhaust::singles(source) {
            holds(&id, &plan);
            histories += 1;
        }
        assert!(histories > 100, "{source}: {histories}");
    }
}

#[test]
fn histories_at_random_lose_double_and_stick_nothing() {
    for seed in 0..RANDOM {
        holds(&seed.to_string(), &Plan::random(seed));
    }
}

#[test]
fn the_same_plan_is_the_same_history() {
    for seed in [3, 14, 15] {
        let plan = Plan::random(seed);
        let (once, again) = (play(&plan, true), play(&plan, true));
        assert!(once.trace.len() > 10);
        assert_eq!(once, again, "seed {seed}");
    }
}

/// A simulation that finds nothing could be one that looks at nothing.
#[test]
fn every_known_wrong_design_is_found_where_ours_does_no_harm() {
    for wrong in Wrong::ALL {
        let found = (0..TEMPTATIONS).find(|seed| {
            let plan = Plan::tempting(wrong, *seed);
            holds(&format!("{}:{seed}", wrong.name()), &plan);
            !play(&Plan { wrong: Some(wrong), ..plan }, false).violations.is_empty()
        });
        assert!(found.is_some(), "{} does no harm in {TEMPTATIONS} histories", wrong.name());
    }
}
