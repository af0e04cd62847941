//! The account of a window: what its events should have, and what they have.

use serde::Serialize;
use shared::{
    ledger::{Status, audit::Progress},
    time::Timestamp,
};

/// Where one delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is over, or somebody will look at it.
    Known(Status),
    /// It has an item that this version cannot read: only a person can tell.
    Unknown,
    /// Nobody ever claimed it.
    Unclaimed,
    /// It is not over, and nobody will look at it. Until `until` somebody works on it, or it waits for its message.
    Unattended {
        /// What it is doing.
        status: Status,
        /// Until then.
        until: Option<Timestamp>,
    },
}

impl Standing {
    /// Judges a delivery of an event that was received at `received_at`.
    pub fn of(found: Option<&Progress>, received_at: Timestamp) -> Self {
        // What an expired event of the same id left behind is not this event's.
        let Some(progress) = found.filter(|progress| progress.generation == received_at) else { return Self::Unclaimed };
        match progress.status {
            None => Self::Unknown,
            Some(status) if status.is_final() || progress.has_entry => Self::Known(status),
            Some(status) => Self::Unattended { status, until: progress.lease_until.max(progress.next_at) },
        }
    }
}

/// Deliveries that the events of a window should have, by where they stand. `queued` counts those on their way: claimed, or
/// not yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// All that there should be.
    pub recorded: u64,
    /// They are over well.
    pub done: u64,
    /// They wait in the dead-letter queue.
    pub dead: u64,
    /// A person has ended them.
    pub cancelled: u64,
    /// They wait for their moment, or for their destination.
    pub waiting: u64,
    /// They are on their way.
    pub queued: u64,
    /// How many were attended to, since nobody would have looked at them: those of the overlap included.
    pub attended: u64,
}

impl Account {
    /// Counts one delivery.
    pub fn count(&mut self, standing: Standing) {
        self.recorded += 1;
        match standing {
            Standing::Known(status) | Standing::Unattended { status, .. } => match status {
                Status::Done => self.done += 1,
                Status::Dead => self.dead += 1,
                Status::Cancelled => self.cancelled += 1,
                Status::Waiting => self.waiting += 1,
                Status::Processing => self.queued += 1,
            },
            Standing::Unclaimed => self.queued += 1,
            Standing::Unknown => {}
        }
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            recorded: self.recorded + other.recorded,
            done: self.done + other.done,
            dead: self.dead + other.dead,
            cancelled: self.cancelled + other.cancelled,
            waiting: self.waiting + other.waiting,
            queued: self.queued + other.queued,
            attended: self.attended + other.attended,
        }
    }

    /// Recorded less everything that is known: zero, or the books do not balance.
    pub fn unaccounted(&self) -> u64 {
        self.recorded.saturating_sub(self.done + self.dead + self.cancelled + self.waiting + self.queued)
    }

    /// Names and values as published.
    pub fn metrics(&self) -> [(&'static str, u64); 8] {
        [
            ("Recorded", self.recorded),
            ("Done", self.done),
            ("Dead", self.dead),
            ("Cancelled", self.cancelled),
            ("Waiting", self.waiting),
            ("Queued", self.queued),
            ("Attended", self.attended),
            ("Unaccounted", self.unaccounted()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const SOON: Timestamp = Timestamp::from_seconds(1_700_000_060);

    fn progress(status: Status) -> Progress {
        Progress { status: Some(status), generation: RECEIVED, lease_until: None, next_at: None, has_entry: false }
    }

    #[test]
    fn what_nobody_claimed_is_told_from_what_is_over() {
        assert_eq!(Standing::of(None, RECEIVED), Standing::Unclaimed);
        let earlier = Progress { generation: Timestamp::from_seconds(1), ..progress(Status::Done) };
        assert_eq!(Standing::of(Some(&earlier), RECEIVED), Standing::Unclaimed);
        for status in [Status::Done, Status::Dead, Status::Cancelled] {
            assert_eq!(Standing::of(Some(&progress(status)), RECEIVED), Standing::Known(status));
        }
    }

    #[test]
    fn what_is_not_over_is_unattended_unless_it_has_an_entry() {
        for status in [Status::Processing, Status::Waiting] {
            let with_entry = Progress { has_entry: true, ..progress(status) };
            assert_eq!(Standing::of(Some(&with_entry), RECEIVED), Standing::Known(status));
            let held = Progress { lease_until: Some(SOON), ..progress(status) };
            assert_eq!(Standing::of(Some(&held), RECEIVED), Standing::Unattended { status, until: Some(SOON) });
            let short = Progress { next_at: Some(SOON), ..progress(status) };
            assert_eq!(Standing::of(Some(&short), RECEIVED), Standing::Unattended { status, until: Some(SOON) });
        }
    }

    #[test]
    fn the_account_balances() {
        let mut account = Account::default();
        for status in [Status::Done, Status::Dead, Status::Cancelled, Status::Waiting, Status::Processing] {
            account.count(Standing::Known(status));
        }
        account.count(Standing::Unclaimed);
        account.count(Standing::Unattended { status: Status::Waiting, until: None });
        assert_eq!((account.recorded, account.queued, account.waiting, account.unaccounted()), (7, 2, 2, 0));
        assert_eq!(account.plus(&account).recorded, 14);
    }

    #[test]
    fn a_state_that_nobody_knows_is_unaccounted() {
        let unknown = Progress { status: None, ..progress(Status::Done) };
        let standing = Standing::of(Some(&unknown), RECEIVED);
        let mut account = Account::default();
        account.count(standing);
        assert_eq!((standing, account.unaccounted()), (Standing::Unknown, 1));
    }
}
