//! The front door: CloudFront before the API, which puts a secret into a header. A request without that secret came past it.

use metrics::counter;
use shared::{
    secrets::{Keyring, Keyrings, SecretsError},
    time::Timestamp,
};
use subtle::ConstantTimeEq;

use crate::{rejection::Rejection, request::Request};

/// The header that CloudFront puts the secret into; as in `infra/template.yaml`.
pub const FRONT_DOOR_HEADER: &str = "posthouse-front-door";

/// Refuses what came past the front door. A value that is not known may be that of a rotation: then, at most once a minute, the keyring is
/// read again.
pub(crate) async fn check(keyrings: &Keyrings, secret: &str, request: &Request, now: Timestamp) -> Result<(), Rejection> {
    let unreadable = |error: SecretsError| {
        tracing::error!(%error, "not accepted: the front door's secret cannot be read");
        Rejection::unavailable(error)
    };
    let keyring = keyrings.current(secret, now).await.map_err(unreadable)?;
    let shown = request.header(FRONT_DOOR_HEADER);
    if is_key(&keyring, shown, now) {
        return Ok(());
    }
    let changed = match shown {
        Some(_) => keyrings.after_refusal(secret, now).await.map_err(unreadable)?,
        None => None,
    };
    if changed.is_some_and(|keyring| is_key(&keyring, shown, now)) {
        return Ok(());
    }
    counter!("PastFrontDoor").increment(1);
    // The value is anybody's text, so it is not logged. After a step of a rotation, its presence tells which step went wrong.
    tracing::warn!(shows_a_key = shown.is_some(), "refused: it came past the front door");
    Err(Rejection::PastFrontDoor)
}

fn is_key(keyring: &Keyring, shown: Option<&[u8]>, now: Timestamp) -> bool {
    let Some(shown) = shown else { return false };
    keyring.valid_at(now).any(|key| key.secret.expose().as_bytes().ct_eq(shown).into())
}
