//! Crowds at random, in short; `CROWDS=100000` is the long form, and `CROWD=seed` tells one history line by line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{env, thread, time::Instant};

use tests::crowds::{History, Plan, Wrong, play};

/// Histories of this run.
const HISTORIES: u64 = 20;
/// Seeds with which each wrong design is tempted.
const TEMPTATIONS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn no_crowd_at_random_starves_loses_or_forgets_anything() {
    if let Some(seed) = number("CROWD") {
        let plan = Plan::random(seed);
        println!("{plan:#?}");
        let history = play(&plan, true);
        history.trace.iter().for_each(|line| println!("{line}"));
        assert_eq!(history.violations, Vec::<String>::new());
    }
    let first = number("CROWDS_FROM").unwrap_or_default();
    let histories = number("CROWDS").unwrap_or(HISTORIES);
    #[expect(clippy::disallowed_methods, reason = "how fast it is")]
    let began = Instant::now();
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let played: Vec<History> = thread::scope(|scope| {
        let of_thread = |thread| {
            scope.spawn(move || {
                let seeds = (first..first + histories).skip(thread as usize).step_by(threads as usize);
                let played = seeds.map(|seed| {
                    let history = play(&Plan::random(seed), false);
                    assert_eq!(history.violations, Vec::<String>::new(), "to see it: make crowds CROWDS=1 CROWD={seed}");
                    history
                });
                played.collect::<Vec<_>>()
            })
        };
        let running: Vec<_> = (0..threads).map(of_thread).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let events: u64 = played.iter().map(|history| history.events as u64).sum();
    let destinations: u64 = played.iter().map(|history| history.destinations as u64).sum();
    let calls: u64 = played.iter().map(|history| history.calls).sum();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{histories} crowds of {} events to {} destinations on average, {calls} calls; {:.1} histories a second",
        events / histories,
        destinations / histories,
        histories as f64 / seconds
    );
    assert!(events >= 20 * histories && destinations >= 4 * histories);
}

/// A simulation that finds nothing could be one that looks at nothing.
#[test]
fn every_known_wrong_design_of_waiting_is_found() {
    let only = env::var("WRONG").ok();
    for wrong in Wrong::ALL.into_iter().filter(|wrong| only.as_ref().is_none_or(|only| *only == format!("{wrong:?}"))) {
        let found = (0..TEMPTATIONS).find(|seed| {
            let plan = Plan::tempting(wrong, *seed);
            assert_eq!(play(&plan, false).violations, Vec::<String>::new(), "{wrong:?}, {seed}: ours");
            !play(&Plan { wrong: Some(wrong), ..plan }, false).violations.is_empty()
        });
        println!("{wrong:?} is found with seed {found:?}");
        assert!(found.is_some(), "{wrong:?} does no harm in {TEMPTATIONS} histories");
    }
}
