//! How many deliveries are sent on at a look: of one destination, and of all together.

use std::time::Duration;

use shared::{config::Destination, ledger::DestinationState};

use crate::AHEAD_SECONDS;

/// How many deliveries of a destination are sent on at its first look after its gate was opened.
pub(crate) const FIRST_LOOK: u32 = 1;

/// How many deliveries of a destination are sent on at a look: what was set the last time.
pub(crate) fn per_look(state: &DestinationState) -> u32 {
    state.per_look.unwrap_or(FIRST_LOOK).max(FIRST_LOOK)
}

/// How many the next time: half as many where deliveries found no room, twice as many where there were more.
pub(crate) fn next_per_look(state: &DestinationState, destination: Option<&Destination>, had_more: bool, most: u32) -> u32 {
    let current = per_look(state);
    let has_bounced = state.bounced_at.is_some_and(|bounced| state.looked_at.is_none_or(|looked| bounced > looked));
    match (has_bounced, had_more) {
        (true, _) => (current / 2).max(FIRST_LOOK),
        (false, true) => current.saturating_mul(2).min(most_of(destination, most)),
        (false, false) => current,
    }
}

/// The most of a destination that makes sense: what its rate lets through in the time that is looked ahead, so that each can be sent for its
/// moment; and what all workers together take.
fn most_of(destination: Option<&Destination>, most: u32) -> u32 {
    let rate = destination.and_then(|destination| destination.rate).map(|rate| {
        let millis = rate.interval.as_millis().max(1);
        let ahead = Duration::from_secs(AHEAD_SECONDS).as_millis() / millis;
        u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(rate.burst)
    });
    rate.map_or(most, |rate| rate.min(most)).max(FIRST_LOOK)
}

/// Shares of a room among those who want some of it, none larger than what is wanted: who wants little gets all of it, and the
/// others as much as each other, the first ones one more.
pub(crate) fn fair_shares(wanted: &[usize], room: usize) -> Vec<usize> {
    let mut shares = vec![0; wanted.len()];
    let mut left = room;
    loop {
        let hungry: Vec<usize> = (0..wanted.len()).filter(|index| shares[*index] < wanted[*index]).collect();
        if left == 0 || hungry.is_empty() {
            return shares;
        }
        let each = (left / hungry.len()).max(1);
        for index in hungry {
            let given = each.min(wanted[index] - shares[index]).min(left);
            shares[index] += given;
            left -= given;
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::{config::Gateway, time::Timestamp};

    use super::*;

    fn state(per_look: u32) -> DestinationState {
        DestinationState { per_look: Some(per_look), looked_at: Some(Timestamp::from_seconds(10)), ..DestinationState::default() }
    }

    #[test]
    fn shares_are_fair_and_nothing_is_left_that_somebody_wants() {
        assert_eq!(fair_shares(&[], 10), Vec::<usize>::new());
        assert_eq!(fair_shares(&[5, 5], 0), [0, 0]);
        assert_eq!(fair_shares(&[1, 100, 100], 11), [1, 5, 5]);
        assert_eq!(fair_shares(&[2, 100, 3], 20), [2, 15, 3]);
        assert_eq!(fair_shares(&[9, 9, 9], 2), [1, 1, 0]);
        assert_eq!(fair_shares(&[1, 0, 2], 100), [1, 0, 2]);
    }

    #[test]
    fn what_is_sent_on_doubles_while_there_is_more_and_is_halved_where_there_was_no_room() {
        assert_eq!(next_per_look(&DestinationState::default(), None, true, 200), 2);
        assert_eq!(next_per_look(&state(8), None, true, 200), 16);
        assert_eq!(next_per_look(&state(8), None, false, 200), 8);
        assert_eq!(next_per_look(&state(150), None, true, 200), 200, "what all workers together take");
        let bounced = |at| DestinationState { bounced_at: Some(Timestamp::from_seconds(at)), ..state(8) };
        assert_eq!(next_per_look(&bounced(11), None, true, 200), 4);
        assert_eq!(next_per_look(&bounced(10), None, true, 200), 16, "it was taken into account the last time");
        let one = DestinationState { per_look: Some(1), ..bounced(11) };
        assert_eq!(next_per_look(&one, None, true, 200), 1);
    }

    #[test]
    fn a_rate_bounds_what_is_sent_on() {
        let config =
            "[destinations.ci]\ntype = \"http\"\nurl = \"https://a.b\"\nsecret = \"a\"\nrate = { requests = 2, burst = 3 }";
        let gateway = Gateway::parse(config, "gateway.toml").unwrap();
        let destination = gateway.destinations.values().next();
        assert_eq!(next_per_look(&state(100), destination, true, 2000), 2 * AHEAD_SECONDS as u32 + 3);
    }
}
