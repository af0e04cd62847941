//! Virtual time: tokio's paused clock, from a fixed moment on. A history runs on one thread, and so does its clock.

use std::{cell::Cell, time::Duration};

use shared::time::Timestamp;
use tokio::time::Instant;

/// When every history begins: 2026-01-01T00:00:00Z.
pub const BEGINNING: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// How far [`now_ahead`] is ahead: a worker's lease lasts a minute.
const AHEAD: Duration = Duration::from_secs(90);

thread_local! {
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Starts the clock of this thread's next history. Only within its runtime.
pub fn start() {
    STARTED.set(Some(Instant::now()));
}

/// What time it is in this thread's history.
pub fn now() -> Timestamp {
    STARTED.get().map_or(BEGINNING, |started| BEGINNING.plus(started.elapsed()))
}

/// What time a clock shows that is ahead by more than a lease is long.
pub fn now_ahead() -> Timestamp {
    now().plus(AHEAD)
}
