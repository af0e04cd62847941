//! The account of a window: what its events should have, and what they have.

use std::time::Duration;

use serde::Serialize;
use shared::{
    ledger::{Status, audit::Progress},
    time::Timestamp,
};

/// How long after its end a lease counts as abandoned, in seconds: SQS has had time to bring the doorbell again by itself.
pub const LEASE_OVERDUE_SECONDS: u64 = 15 * 60;

/// Where one delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody has or had it.
    Known(Status),
    /// It has an item that this version cannot read: only a person can tell.
    Unknown,
    /// Nobody ever claimed it, or its owner is long gone: it must be rung again.
    Forgotten,
}

impl Standing {
    /// Judges a delivery of an event that was received at `received_at`.
    pub fn of(found: Option<&Progress>, received_at: Timestamp, now: Timestamp) -> Self {
        // What an expired event of the same id left behind is not this event's.
        match found.filter(|progress| progress.generation == received_at) {
            None => Self::Forgotten,
            Some(Progress { status: Some(Status::Processing), lease_until: Some(lease_until), .. })
                if now >= lease_until.plus(Duration::from_secs(LEASE_OVERDUE_SECONDS)) =>
            {
                Self::Forgotten
            }
            Some(progress) => progress.status.map_or(Self::Unknown, Self::Known),
        }
    }
}

/// Deliveries that the events of a window should have, by where they stand. `queued` counts those on their way: claimed, or
/// rung again by this audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// All that there should be.
    pub recorded: u64,
    /// They arrived.
    pub done: u64,
    /// They wait in the dead-letter queue.
    pub dead: u64,
    /// They wait for their destination.
    pub paused: u64,
    /// They wait for their next attempt.
    pub retrying: u64,
    /// They are on their way.
    pub queued: u64,
    /// How many were rung again, those of the overlap included.
    pub rung: u64,
}

impl Account {
    /// Counts one delivery.
    pub fn count(&mut self, standing: Standing) {
        self.recorded += 1;
        match standing {
            Standing::Known(Status::Done) => self.done += 1,
            Standing::Known(Status::Dead) => self.dead += 1,
            Standing::Known(Status::Paused) => self.paused += 1,
            Standing::Known(Status::Retrying) => self.retrying += 1,
            Standing::Known(Status::Processing) | Standing::Forgotten => self.queued += 1,
            Standing::Unknown => {}
        }
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            recorded: self.recorded + other.recorded,
            done: self.done + other.done,
            dead: self.dead + other.dead,
            paused: self.paused + other.paused,
            retrying: self.retrying + other.retrying,
            queued: self.queued + other.queued,
            rung: self.rung + other.rung,
        }
    }

    /// Recorded less everything that is known: zero, or the books do not balance.
    pub fn unaccounted(&self) -> u64 {
        self.recorded.saturating_sub(self.done + self.dead + self.paused + self.retrying + self.queued)
    }

    /// Names and values as published.
    pub fn metrics(&self) -> [(&'static str, u64); 8] {
        [
            ("Recorded", self.recorded),
            ("Done", self.done),
            ("Dead", self.dead),
            ("Paused", self.paused),
            ("Retrying", self.retrying),
            ("Queued", self.queued),
            ("RungAgain", self.rung),
            ("Unaccounted", self.unaccounted()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const NOW: Timestamp = Timestamp::from_seconds(1_700_003_600);

    fn progress(status: Status, lease_until: Option<Timestamp>) -> Progress {
        Progress { status: Some(status), generation: RECEIVED, lease_until }
    }

    #[test]
    fn what_nobody_claimed_is_forgotten() {
        assert_eq!(Standing::of(None, RECEIVED, NOW), Standing::Forgotten);
        let earlier = Progress { generation: Timestamp::from_seconds(1), ..progress(Status::Done, None) };
        assert_eq!(Standing::of(Some(&earlier), RECEIVED, NOW), Standing::Forgotten);
        for status in [Status::Done, Status::Dead, Status::Paused, Status::Retrying] {
            assert_eq!(Standing::of(Some(&progress(status, None)), RECEIVED, NOW), Standing::Known(status));
        }
    }

    #[test]
    fn a_lease_is_abandoned_long_after_its_end_and_not_before() {
        let overdue = Duration::from_secs(LEASE_OVERDUE_SECONDS);
        let standing = |lease_until| Standing::of(Some(&progress(Status::Processing, Some(lease_until))), RECEIVED, NOW);
        assert_eq!(standing(NOW.minus(overdue)), Standing::Forgotten);
        assert_eq!(standing(NOW.minus(overdue).plus(Duration::from_millis(1))), Standing::Known(Status::Processing));
    }

    #[test]
    fn the_account_balances() {
        let mut account = Account::default();
        for status in [Status::Done, Status::Dead, Status::Paused, Status::Retrying, Status::Processing] {
            account.count(Standing::Known(status));
        }
        account.count(Standing::Forgotten);
        assert_eq!((account.recorded, account.queued, account.unaccounted()), (6, 2, 0));
        assert_eq!(account.plus(&account).recorded, 12);
    }

    #[test]
    fn a_state_that_nobody_knows_is_unaccounted() {
        let unknown = Progress { status: None, ..progress(Status::Done, None) };
        let standing = Standing::of(Some(&unknown), RECEIVED, NOW);
        let mut account = Account::default();
        account.count(standing);
        assert_eq!((standing, account.unaccounted()), (Standing::Unknown, 1));
    }
}
