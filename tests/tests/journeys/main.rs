//! Journeys through a deployed stack: what senders, destinations and operators see.
//!
//! They run at the same time on one stack, so each makes up its own event ids and narrows every script and fault to
//! them. Run them with `make test`; most of their time is waiting, so give them many threads.

#![allow(clippy::disallowed_methods, reason = "programs around the stack live in real time")]
#![allow(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod accept;
mod conflicts;
mod crowd;
mod deliver;
mod fifo;
mod handshakes;
mod http;
mod keys;
mod ledger;
mod operator;
mod overload;
mod protect;
mod recover;
mod redrive;
mod refuse;
mod retry;
mod rotate;
mod route;
mod secrets;
mod targets;

use std::{env, sync::LazyLock, time::Duration};

use tests::stack::{STACK_DEFAULT, Stack};
use tokio::{
    runtime::{Builder, Runtime},
    sync::OnceCell,
};

/// What takes the stack milliseconds, with room for a machine that builds something else meanwhile.
const SOON: Duration = Duration::from_secs(30);

/// What the auditor does: it runs every minute over the minutes that have closed.
const AUDITED: Duration = Duration::from_secs(240);

/// One runtime for all journeys: connections that are shared between them belong to it.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made"));

static STACK: OnceCell<Stack> = OnceCell::const_new();

/// Runs a journey on the stack that `POSTHOUSE_STACK` names.
fn journey(steps: impl AsyncFnOnce(&Stack)) {
    RUNTIME.block_on(async {
        let name = env::var("POSTHOUSE_STACK").unwrap_or_else(|_| STACK_DEFAULT.to_owned());
        let stack = STACK.get_or_try_init(|| Stack::load(&name)).await;
        steps(stack.unwrap_or_else(|why| panic!("{why}"))).await;
    });
}
