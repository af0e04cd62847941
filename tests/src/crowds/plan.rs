//! What happens in a history: which destinations there are, when their events come, and what goes wrong.

use std::time::Duration;

use fastrand::Rng;

use super::wrong::Wrong;
use crate::simulation::director::Faults;

/// A history before it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything that is left to chance on the way.
    pub seed: u64,
    /// The destinations; the first is healthy. Each has a source of its name.
    pub destinations: Vec<Destination>,
    /// When events come, after the beginning, and for which destination.
    pub events: Vec<(Duration, usize)>,
    /// Which calls go wrong.
    pub faults: Faults,
    /// How far indexes lag.
    pub index_lag: Duration,
    /// How far the index of what waits lags, where it is not as the others.
    pub waiting_lag: Option<Duration>,
    /// When the dispatcher is off.
    pub dispatcher_off: (Duration, Duration),
    /// Whether schedules start everything twice.
    pub doubled_schedules: bool,
    /// Whether SQS hands out messages twice now and then.
    pub sqs_repeats: bool,
    /// When all messages are lost.
    pub purged_at: Option<Duration>,
    /// A known wrong design to put in the place of ours.
    pub wrong: Option<Wrong>,
}

/// A destination of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its temper.
    pub temper: Temper,
    /// Whether it has a circuit.
    pub has_circuit: bool,
}

/// How a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// It takes everything in a tenth of a second.
    Healthy,
    /// It answers 500 until then.
    Dead(Duration),
    /// It takes seconds.
    Slow,
    /// It takes three a minute.
    Rated,
    /// It takes one at a time, each for seconds.
    Narrow,
    /// An operator pauses it from then until then.
    Paused(Duration, Duration),
    /// It answers 429 and asks to be left alone for so long, until then.
    Asking(u64, Duration),
}

impl Temper {
    /// What the configuration says of it.
    pub(super) fn settings(self) -> &'static str {
        match self {
            Self::Rated => "rate = { requests = 3, seconds = 60 }",
            Self::Narrow => "concurrency = 1",
            Self::Healthy | Self::Dead(_) | Self::Slow | Self::Paused(..) | Self::Asking(..) => "",
        }
    }

    /// When it is well at last.
    pub(super) fn is_well_at(self) -> Duration {
        match self {
            Self::Dead(until) | Self::Paused(_, until) | Self::Asking(_, until) => until,
            Self::Healthy | Self::Slow | Self::Rated | Self::Narrow => Duration::ZERO,
        }
    }
}

/// For how long things go wrong at random.
const TROUBLE: Duration = Duration::from_secs(10 * 60);
/// Events to a destination, at the least.
const EVENTS_MIN: usize = 3;
/// And so many more, at the most.
const EVENTS_MORE: usize = 9;

impl Plan {
    /// A history, drawn by the seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let mut destinations = vec![Destination { temper: Temper::Healthy, has_circuit: true }];
        for _ in 0..3 + rng.usize(..3) {
            let temper = match rng.u8(..6) {
                0 => Temper::Dead(minutes(rng.u64(1..40))),
                1 => Temper::Slow,
                2 => Temper::Rated,
                3 => Temper::Narrow,
                4 => {
                    let from = minutes(rng.u64(..5));
                    Temper::Paused(from, from + minutes(rng.u64(1..120)))
                }
                _ => Temper::Asking([2, 20, 120, 2000][rng.usize(..4)], minutes(rng.u64(1..20))),
            };
            destinations.push(Destination { temper, has_circuit: rng.bool() });
        }
        let mut events = Vec::new();
        for destination in 0..destinations.len() {
            // All at once, or spread over some minutes.
            let within = [1_000, 60_000, 300_000][rng.usize(..3)];
            for _ in 0..EVENTS_MIN + rng.usize(..EVENTS_MORE) {
                events.push((Duration::from_millis(rng.u64(..within)), destination));
            }
        }
        let one_in = [0, 0, 25, 80][rng.usize(..4)];
        let off_from = minutes(rng.u64(..5));
        Self {
            seed,
            destinations,
            events,
            faults: Faults { one_in, random_for: TROUBLE, ..Faults::default() },
            index_lag: Duration::from_secs([0, 0, 1, 30, 110][rng.usize(..5)]),
            waiting_lag: (rng.u8(..8) == 0).then_some(minutes(30)),
            dispatcher_off: (off_from, off_from + minutes([0, 0, 15, 180][rng.usize(..4)])),
            doubled_schedules: rng.u8(..4) == 0,
            sqs_repeats: rng.u8(..3) == 0,
            purged_at: (rng.u8(..5) == 0).then(|| Duration::from_secs(rng.u64(1..600))),
            wrong: None,
        }
    }

    /// A history in which a wrong design does harm for many a seed, and ours does none.
    pub fn tempting(wrong: Wrong, seed: u64) -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let mut plan = Self { purged_at: None, waiting_lag: None, ..Self::random(seed) };
        plan.dispatcher_off = (Duration::ZERO, Duration::ZERO);
        plan.faults.one_in = 0;
        let temper = match wrong {
            Wrong::PollsForRoom => Temper::Narrow,
            _ => Temper::Dead(minutes(20)),
        };
        plan.destinations.truncate(2);
        plan.destinations[1] = Destination { temper, has_circuit: false };
        plan.events.retain(|(_, destination)| *destination == 0);
        plan.events.extend((0..20).map(|number| (Duration::from_millis(number * 100), 1)));
        match wrong {
            Wrong::MovedBeforeSent => {
                plan.faults.one_in = 8;
                plan.faults.only = Some("dispatcher");
            }
            // Between the second attempt and the end of its wait.
            Wrong::ClaimTakesEntry => plan.purged_at = Some(Duration::from_secs(180 + seed * 20)),
            Wrong::RegisteredAfterwards | Wrong::HeldInFlight | Wrong::PollsForRoom => {}
        }
        plan
    }

    /// Whether nothing goes wrong but the tempers of destinations.
    pub(super) fn is_calm(&self) -> bool {
        self.faults.one_in == 0 && self.purged_at.is_none()
    }

    /// When everything is well again at last.
    pub(super) fn is_well_at(&self) -> Duration {
        let tempers = self.destinations.iter().map(|destination| destination.temper.is_well_at());
        let faults = if self.faults.one_in > 0 { TROUBLE } else { Duration::ZERO };
        tempers.chain([self.dispatcher_off.1, self.purged_at.unwrap_or_default(), faults]).max().unwrap_or_default()
    }
}
