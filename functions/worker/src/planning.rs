//! Where expressions and contracts are evaluated: beside the one thread that reads destinations' answers and looks at timeouts. A body can be
//! made so that an evaluation takes seconds, and then others' answers must not wait for it.

use tokio::sync::Semaphore;

use crate::failure::Failure;

/// Evaluations at the same time: each may take [`shared::jq::MEMORY_BYTES_MAX`] and a parsed body.
const EVALUATIONS_MAX: usize = 1;

/// Where they are made.
#[derive(Debug)]
pub enum Planning {
    /// On a thread of their own, in the order in which they are asked for.
    Aside(Semaphore),
    /// At once, for a virtual clock that would not wait for a thread.
    InPlace,
}

impl Planning {
    /// On a thread of their own.
    pub fn aside() -> Self {
        Self::Aside(Semaphore::new(EVALUATIONS_MAX))
    }

    /// Does the work there.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let Self::Aside(turns) = self else { return Ok(work()) };
        let _turn = turns.acquire().await;
        let worked = tokio::task::spawn_blocking(work).await;
        worked.map_err(|_| Failure::Transient("the evaluation of its contracts and expressions panicked".to_owned()))
    }
}
