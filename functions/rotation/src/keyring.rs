//! From one keyring to the next.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use shared::{
    secrets::{KEYS_MAX, Key, Keyring, KeyringError, Secret},
    time::Timestamp,
};

/// Length of a new key, in bytes: what Standard Webhooks generates, and a multiple of three, so that its base64 has no padding.
pub const SECRET_BYTES: usize = 24;
/// How much of the version's id names the key, in characters.
const KEY_ID_CHARS: usize = 8;
/// What stands before a Standard Webhooks secret.
const STANDARD_WEBHOOKS_PREFIX: &str = "whsec_";

/// Why there is no next keyring.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NextKeyringError {
    /// Every key is still valid, and there is room for no other.
    #[error("{KEYS_MAX} keys are valid at once already: rotate again when the overlap of the oldest has ended")]
    Full,
    /// Cannot happen to a keyring that was parsed.
    #[error(transparent)]
    Invalid(#[from] KeyringError),
}

/// The keyring after a rotation: the new key first, then every key that is valid at `now`; those without an end get one after
/// `overlap`. A new key is written as the newest one is: with or without `whsec_`.
pub fn next_keyring(
    current: &Keyring,
    version_id: &str,
    random: [u8; SECRET_BYTES],
    now: Timestamp,
    overlap: Duration,
) -> Result<Keyring, NextKeyringError> {
    if current.valid_at(now).count() >= KEYS_MAX {
        return Err(NextKeyringError::Full);
    }
    let prefixed = current.valid_at(now).next().is_some_and(|key| key.secret.expose().starts_with(STANDARD_WEBHOOKS_PREFIX));
    let prefix = if prefixed { STANDARD_WEBHOOKS_PREFIX } else { "" };
    let new = Key {
        id: version_id.chars().take(KEY_ID_CHARS).collect(),
        secret: Secret::new(format!("{prefix}{}", BASE64.encode(random))),
        not_after: None,
    };
    Ok(current.rotated(new, now, overlap)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const OVERLAP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    fn next(current: &str, now: Timestamp) -> Keyring {
        next_keyring(&Keyring::parse(current).unwrap(), "0123456789abcdef", [7; SECRET_BYTES], now, OVERLAP).unwrap()
    }

    #[test]
    fn old_and_new_are_both_valid_until_the_overlap_ends() {
        let keyring = next("old", NOW);
        let ids = |now| keyring.valid_at(now).map(|key| key.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(NOW), ["01234567", "initial"]);
        assert_eq!(ids(NOW.plus(OVERLAP).minus(Duration::from_millis(1))), ["01234567", "initial"]);
        assert_eq!(ids(NOW.plus(OVERLAP)), ["01234567"]);
    }

    #[test]
    fn a_second_rotation_keeps_the_first_ones_end_and_expired_keys_are_dropped() {
        let later = NOW.plus(Duration::from_secs(60));
        let once = next("old", NOW);
        let twice = next(&once.expose(), later);
        assert_eq!(twice.keys().len(), 3);
        assert_eq!(twice.keys()[2].not_after, Some(NOW.plus(OVERLAP)));
        assert_eq!(twice.keys()[1].not_after, Some(later.plus(OVERLAP)));
        assert_eq!(next(&twice.expose(), NOW.plus(OVERLAP)).keys().len(), 3);
    }

    #[test]
    fn a_new_key_is_written_as_the_old_one() {
        assert!(next("whsec_b2xk", NOW).keys()[0].secret.expose().starts_with("whsec_"));
        assert_eq!(next("old", NOW).keys()[0].secret.expose().len(), SECRET_BYTES / 3 * 4);
    }

    #[test]
    fn white_space_around_the_old_secret_is_left_out_and_hides_no_prefix() {
        let rotated = next(r#"{"keys":[{"id":"a","secret":"\ufeff whsec_b2xk\n"}]}"#, NOW);
        assert!(rotated.keys()[0].secret.expose().starts_with("whsec_"));
        assert_eq!(rotated.keys()[1].secret.expose(), "whsec_b2xk");
    }

    #[test]
    fn no_valid_key_is_dropped_to_make_room() {
        let keys = |count| (0..count).map(|n| Key { id: format!("k{n}"), secret: Secret::new("s"), not_after: None }).collect();
        let rotate = |count| {
            next_keyring(&Keyring::new(keys(count)).unwrap(), "v", [7; SECRET_BYTES], NOW, OVERLAP)
                .map(|keyring| keyring.keys().len())
        };
        assert_eq!(rotate(KEYS_MAX - 1), Ok(KEYS_MAX));
        assert_eq!(rotate(KEYS_MAX), Err(NextKeyringError::Full));
    }
}
