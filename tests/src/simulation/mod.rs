//! The whole gateway in one process and on one virtual clock: the functions' own code over a model of AWS, with a director who may,
//! at every call, let it succeed, fail before or after its effect, hang, or kill the function.
//!
//! After every history: what was answered 2xx is in the ledger; every recorded event is done at each of its destinations, once
//! redriven; each effect happened once; no forged webhook left a trace; the account balances; the queues are empty. A history
//! is its [`Plan`], and a plan is its seed, or its faults by number: the same plan is the same history.
//!
//! - [`clock`] is the virtual clock, [`director`] decides what goes wrong, [`plan`] says who sends what.
//! - [`world`] is the history itself: senders, Lambda, SQS, schedules.
//! - [`verdict`] is what must hold, [`wrong`] the designs that must be found.

pub mod clock;
pub mod destination;
pub mod director;
pub mod exhaust;
pub mod plan;
pub mod verdict;
pub mod world;
pub mod wrong;

use tokio::{runtime::Builder, task::LocalSet};

pub use director::Kind;
pub use plan::{Plan, Small};
pub use wrong::Wrong;

/// What a history came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// What does not hold; empty if all is well.
    pub violations: Vec<String>,
    /// Calls that functions made, to AWS and to destinations.
    pub calls: u64,
    /// What each of them did.
    pub kinds: Vec<Kind>,
    /// Deliveries that an HTTP destination was sent more than once.
    pub repeats: u64,
    /// How many of them went wrong.
    pub faults: u64,
    /// What happened, line by line, if it was asked for.
    pub trace: Vec<String>,
}

/// Lets a history happen.
pub fn play(plan: &Plan, traced: bool) -> History {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let outcome = LocalSet::new().block_on(&runtime, world::run(plan.clone(), traced));
    let violations = verdict::judge(plan, &outcome);
    let (calls, faults) = outcome.counts;
    let repeats = outcome.journal.all().values().filter(|seen| seen.sent > 1).count() as u64;
    History { violations, calls, kinds: outcome.kinds, repeats, faults, trace: outcome.trace }
}
