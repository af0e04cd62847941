//! Crowds: histories with many deliveries to destinations of every temper, on the functions' own code over the model of AWS and on one virtual
//! clock. Where [`crate::simulation`] lets any call of a few webhooks go wrong, this asks what destinations do to each other, and what
//! becomes of what waits, while calls go wrong too.
//!
//! At every minute of a history: what is over has no entry in the index `attention`, and what has one is registered; what is not over has an
//! entry or a message; nothing that waits for long holds a message, and no message is handed out again and again. Over the whole of it: a
//! paused destination is asked nothing, a rate holds, a healthy destination's events arrive soon. At its end everything has arrived.
//!
//! - [`plan`] says which destinations there are and what happens; a plan is its seed.
//! - [`world`] is the history, and what must hold in it.
//! - [`wrong`] has known wrong designs, which must be found.

pub mod plan;
pub mod world;
pub mod wrong;

use tokio::{runtime::Builder, task::LocalSet};

pub use plan::Plan;
pub use wrong::Wrong;

/// What a history came to.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What does not hold; empty if all is well.
    pub violations: Vec<String>,
    /// Events that were accepted.
    pub events: usize,
    /// Destinations.
    pub destinations: usize,
    /// Calls that functions made.
    pub calls: u64,
    /// What happened, line by line, if it was asked for.
    pub trace: Vec<String>,
}

/// Lets a history happen.
///
/// # Panics
/// When there is no runtime for it.
pub fn play(plan: &Plan, traced: bool) -> History {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, world::run(plan.clone(), traced))
}
