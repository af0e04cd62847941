//! Decides what becomes of each call that a function makes, and remembers it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use shared::time::Timestamp;

use super::clock;
use crate::model::{Failure, Fate};

/// Every fate but success, for trying them all.
pub const FATES: [Fate; 12] = [
    Fate::FailBefore(Failure::ConnectionReset),
    Fate::FailBefore(Failure::InternalError),
    Fate::FailBefore(Failure::Throttled),
    Fate::FailAfter(Failure::ConnectionReset),
    Fate::FailAfter(Failure::InternalError),
    Fate::FailAfter(Failure::Throttled),
    Fate::FailBefore(Failure::Contended),
    Fate::Partly { left_out: 1 },
    Fate::Hang { after_effect: false },
    Fate::Hang { after_effect: true },
    Fate::Kill { after_effect: false },
    Fate::Kill { after_effect: true },
];

/// What a call does, as far as it matters to how it can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It changes nothing.
    Read,
    /// As [`Kind::Read`], of several items at once.
    BatchRead,
    /// It changes something.
    Write,
    /// As [`Kind::Write`], several things at once, each by itself.
    BatchWrite,
    /// As [`Kind::Write`], several things at once, all or nothing.
    Transaction,
}

impl Kind {
    fn of(operation: &str) -> Self {
        match operation {
            "GetItem" | "Query" | "GetSecretValue" | "GetObject" => Self::Read,
            "BatchGetItem" => Self::BatchRead,
            "SendMessageBatch" | "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => Self::BatchWrite,
            "TransactWriteItems" => Self::Transaction,
            _ => Self::Write,
        }
    }

    /// Whether this fate is one of its own: what has no effect is the same before and after it, a batch alone can fail in part, and
    /// only a transaction is in another one's way.
    pub fn can(self, fate: Fate) -> bool {
        match fate {
            Fate::Succeed | Fate::SucceedDespite { .. } | Fate::Pretend { .. } | Fate::Refuse { .. } => false,
            Fate::FailBefore(Failure::Contended) => self == Self::Transaction,
            Fate::FailBefore(_) | Fate::Hang { after_effect: false } | Fate::Kill { after_effect: false } => true,
            Fate::FailAfter(_) | Fate::Hang { after_effect: true } | Fate::Kill { after_effect: true } => {
                !matches!(self, Self::Read | Self::BatchRead)
            }
            Fate::Partly { .. } => matches!(self, Self::BatchRead | Self::BatchWrite),
        }
    }
}

/// Which calls go wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Calls by number, counted from 0 over the history.
    pub at: BTreeMap<u64, Fate>,
    /// Besides, one in so many calls, at random. 0: none.
    pub one_in: u64,
    /// Whose calls go wrong at random, by the beginning of their names; `None`: everybody's.
    pub only: Option<&'static str>,
    /// For how long at random, from the beginning.
    pub random_for: Duration,
    /// Services that are down for a while.
    pub outages: Vec<Outage>,
}

impl Faults {
    /// When nothing goes wrong any more but what is named by number, after the beginning.
    pub fn over_after(&self) -> Duration {
        let outages = self.outages.iter().map(|outage| outage.from + outage.lasts);
        outages.chain([self.random_for]).max().unwrap_or_default()
    }
}

/// What is "down" while destinations refuse our credentials.
pub const CREDENTIALS: &str = "credentials";

/// A service that is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// As in the trace: `dynamodb`, `sqs`, `s3`, `secretsmanager`, `destination`; or [`CREDENTIALS`].
    pub service: &'static str,
    /// From when, after the beginning.
    pub from: Duration,
    /// How long.
    pub lasts: Duration,
}

impl Outage {
    fn covers(&self, service: &str, now: Timestamp) -> bool {
        let age = now.since(clock::BEGINNING);
        self.service == service && age >= self.from && age < self.from + self.lasts
    }
}

/// One history's director.
#[derive(Clone, Debug)]
pub struct Director(Arc<Mutex<State>>);

struct State {
    faults: Faults,
    rng: Rng,
    calls: u64,
    faulted: u64,
    trace: Option<Vec<String>>,
    kinds: Vec<Kind>,
    /// Whether the last message that each function sent was taken, as far as it was told.
    sent: BTreeMap<String, bool>,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("State").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Director {
    /// A director that follows `faults`, with its dice of `seed`.
    pub fn new(faults: Faults, seed: u64, traced: bool) -> Self {
        let trace = traced.then(Vec::new);
        let rng = Rng::with_seed(seed);
        let state = State { faults, rng, calls: 0, faulted: 0, trace, kinds: Vec::new(), sent: BTreeMap::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// What becomes of the next call, which `function` makes to `service`.
    pub fn decide(&self, function: &str, service: &str, operation: &str) -> Fate {
        let now = clock::now();
        let mut state = self.lock();
        let number = state.calls;
        state.calls += 1;
        state.kinds.push(Kind::of(operation));
        let age = now.since(clock::BEGINNING);
        let one_in = state.faults.one_in;
        let hit = state.faults.only.is_none_or(|only| function.starts_with(only));
        let random = one_in > 0 && hit && age < state.faults.random_for && state.rng.u64(..one_in) == 0;
        let fate = if let Some(fate) = state.faults.at.get(&number) {
            *fate
        } else if state.faults.outages.iter().any(|outage| outage.covers(service, now)) {
            Fate::FailBefore(Failure::InternalError)
        } else if random {
            FATES[state.rng.usize(..FATES.len())]
        } else {
            Fate::Succeed
        };
        if fate != Fate::Succeed {
            state.faulted += 1;
        }
        if operation.starts_with("SendMessage") {
            state.sent.insert(function.to_owned(), fate == Fate::Succeed);
        }
        state.note(|| {
            format!(
                "#{number} {function}: {service} {operation}{}",
                if fate == Fate::Succeed { String::new() } else { format!(" → {fate:?}") }
            )
        });
        fate
    }

    /// Whether destinations refuse our credentials now; if so, that was a fault.
    pub fn refuses_credentials(&self) -> bool {
        let now = clock::now();
        let mut state = self.lock();
        let refuses = state.faults.outages.iter().any(|outage| outage.covers(CREDENTIALS, now));
        state.faulted += u64::from(refuses);
        refuses
    }

    /// Whether the last message that the function sent since it was last asked was taken; `None`: it sent none.
    pub fn has_sent(&self, function: &str) -> Option<bool> {
        self.lock().sent.remove(function)
    }

    /// A number below `bound`, of the history's own dice.
    pub fn dice(&self, bound: u64) -> u64 {
        self.lock().rng.u64(..bound.max(1))
    }

    /// How long a half of a call takes: mostly nothing or a few milliseconds, now and then a second, so that functions that run
    /// at the same time meet in every order.
    pub fn moment(&self) -> Duration {
        let millis = match self.dice(40) {
            0..20 => 0,
            20..39 => 1 + self.dice(30),
            _ => 1000,
        };
        Duration::from_millis(millis)
    }

    /// Writes a line of the trace.
    pub fn note(&self, line: impl FnOnce() -> String) {
        self.lock().note(line);
    }

    /// Calls made and calls that went wrong.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.calls, state.faulted)
    }

    /// What each call did.
    pub fn kinds(&self) -> Vec<Kind> {
        self.lock().kinds.clone()
    }

    /// The trace so far.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let seconds = clock::now().since(clock::BEGINNING).as_secs_f64();
            trace.push(format!("{seconds:>12.3} s  {}", line()));
        }
    }
}
