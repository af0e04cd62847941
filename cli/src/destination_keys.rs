//! `posthouse destinations key` and `rotate`: the key that a destination verifies our signatures with.

use std::{io::Write, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use shared::{
    config::{DestinationKind, Gateway},
    secrets::{KEYRING_CACHE_SECONDS, KEYRING_STALE_SECONDS_MAX, Keyring, Secret},
    signatures::outgoing::{DERIVED_KEY_BYTES, DestinationKey, SignatureVersion, Signing, SigningKey},
    time::{DAY_SECONDS, Timestamp},
};

use crate::{
    Stop, Surroundings,
    args::{DestinationKeyArgs, RotateArgs},
    keys::{new_key, new_secret},
    stack::Stack,
};

/// Prints the keys. This is what the command is for: they are for the destination's operator.
pub(crate) async fn show(args: &DestinationKeyArgs, now: Timestamp, out: &mut impl Write) -> Result<(), Stop> {
    let signing = configured(args)?;
    let keyrings = Stack::find(&args.of.stack).await?.destination_keyrings;
    let keyring = keyrings.read(&signing.secret).await?;
    writeln!(out, "destination {}: {}", args.destination, origin(&signing, &keyrings.full_name(&signing.secret)))?;
    let keys = signing.keys(&keyring, now);
    if keys.is_empty() {
        return Err(Stop::Asked(format!("no key of the secret `{}` can sign", keyrings.full_name(&signing.secret))));
    }
    for key in &keys {
        writeln!(out, "{}", shown(key))?;
    }
    Ok(())
}

/// Gives a destination another key, beside the one that it has.
pub(crate) async fn rotate(args: &RotateArgs, surroundings: &mut Surroundings, out: &mut impl Write) -> Result<(), Stop> {
    let (now, name) = (surroundings.now, &args.which.destination);
    let signing = configured(&args.which)?;
    let overlap = Duration::from_secs(u64::from(args.overlap_days) * DAY_SECONDS);
    let brought = args.secret_file.as_deref().map(|file| new_secret(file, surroundings)).transpose()?;
    let keyrings = Stack::find(&args.which.of.stack).await?.destination_keyrings;
    let (before, version) = keyrings.read_version(&signing.secret).await?;
    let after = rotated(&signing, &before, brought, now, overlap)?;
    let keys = signing.keys(&after, now);
    let Some(newest) = keys.first() else { return Err(Stop::Asked(unusable(&signing))) };
    match args.dry_run {
        true => writeln!(out, "destination {name}: would sign with another key from now on; nothing is changed")?,
        false => {
            keyrings.replace(&signing.secret, &after, &version).await?;
            writeln!(out, "destination {name}: every worker signs with this key after {KEYRING_CACHE_SECONDS} s")?;
            writeln!(out, "(while Secrets Manager does not answer, after {KEYRING_STALE_SECONDS_MAX} s at most)")?;
            writeln!(out, "{}", shown(newest))?;
        }
    }
    match &keys[1..] {
        [] => writeln!(out, "no older key signs after that")?,
        older => older.iter().try_for_each(|key| writeln!(out, "also signs: {}", lifetime(key)))?,
    }
    Ok(())
}

fn rotated(
    signing: &Signing,
    keyring: &Keyring,
    brought: Option<Secret>,
    now: Timestamp,
    overlap: Duration,
) -> Result<Keyring, Stop> {
    let rotated = match (&signing.key, brought) {
        (SigningKey::Derived { name }, None) => keyring.with_next_version(name, now, overlap),
        (SigningKey::Derived { .. }, Some(_)) => {
            return Err(Stop::Asked(
                "its keys are derived, and --secret-file is for a destination with `signing_key = \"own\"`".to_owned(),
            ));
        }
        (SigningKey::Own, brought) => {
            let secret = brought.map_or_else(|| random_secret(signing.version), Ok)?;
            keyring.rotated(new_key("rotated", secret, now), now, overlap)
        }
    };
    rotated.map_err(|error| Stop::Asked(error.to_string()))
}

fn random_secret(version: SignatureVersion) -> Result<Secret, Stop> {
    let mut random = [0; DERIVED_KEY_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| Stop::Asked(format!("the random number generator of this machine failed: {error}")))?;
    Ok(Secret::new(format!("{}{}", version.secret_prefix(), BASE64.encode(random))))
}

fn unusable(signing: &Signing) -> String {
    let version = match signing.key {
        SigningKey::Own => signing.version,
        SigningKey::Derived { .. } => SignatureVersion::V1,
    };
    format!("the secret `{}` has no key that can be used: write it as `{}` and base64", signing.secret, version.secret_prefix())
}

/// The origin of its keys, in words.
fn origin(signing: &Signing, secret: &str) -> String {
    let kind = signing.version.name();
    match &signing.key {
        SigningKey::Derived { name } => format!("signed {kind} with keys derived from `{secret}` for `{name}`"),
        SigningKey::Own => format!("signed {kind} with the keys in `{secret}`"),
    }
}

fn shown(key: &DestinationKey) -> String {
    format!("{}  {}", key.handed_out().expose(), lifetime(key))
}

fn lifetime(key: &DestinationKey) -> String {
    match key.not_after {
        Some(not_after) => format!("{}, until {}", key.origin.escape_debug(), not_after.to_rfc3339()),
        None => key.origin.escape_debug().to_string(),
    }
}

fn configured(args: &DestinationKeyArgs) -> Result<Signing, Stop> {
    let (config, name) = (&args.of.config, &args.destination);
    let gateway = Gateway::load(config).map_err(|error| Stop::Asked(error.to_string()))?;
    let destination = gateway.destinations.get(name);
    let destination = destination.ok_or_else(|| Stop::Asked(format!("{} has no destination `{name}`", config.display())))?;
    let signing = match &destination.kind {
        DestinationKind::Http(http) => http.signing.clone(),
        _ => None,
    };
    signing.ok_or_else(|| Stop::Asked(format!("deliveries to `{name}` are not signed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const DAY: Duration = Duration::from_secs(DAY_SECONDS);
    const MASTER: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn signing(key: SigningKey, version: SignatureVersion) -> Signing {
        Signing { secret: "delivery-signing".to_owned(), key, version }
    }

    #[test]
    fn a_derived_key_is_rotated_by_its_version_and_takes_no_secret() {
        let signing = signing(SigningKey::Derived { name: "app".to_owned() }, SignatureVersion::V1);
        let keyring = Keyring::parse(MASTER).unwrap();
        let after = rotated(&signing, &keyring, None, NOW, DAY).unwrap();
        let told: Vec<String> = signing.keys(&after, NOW).iter().map(lifetime).collect();
        assert_eq!(told, ["initial, version 2", "initial, version 1, until 2023-11-15T22:13:20Z"]);
        let refused = rotated(&signing, &keyring, Some(Secret::new("a")), NOW, DAY).unwrap_err();
        assert!(refused.to_string().contains("--secret-file is for"), "{refused}");
    }

    #[test]
    fn a_key_of_its_own_is_made_up_or_brought() {
        for version in [SignatureVersion::V1, SignatureVersion::V1a] {
            let signing = signing(SigningKey::Own, version);
            let keyring = Keyring::parse(random_secret(version).unwrap().expose()).unwrap();
            let after = rotated(&signing, &keyring, None, NOW, DAY).unwrap();
            assert_eq!(signing.keys(&after, NOW).len(), 2, "{version:?}");
            let at_once = rotated(&signing, &keyring, Some(random_secret(version).unwrap()), NOW, Duration::ZERO).unwrap();
            assert_eq!(signing.keys(&at_once, NOW).len(), 1, "{version:?}");
        }
    }

    #[test]
    fn what_a_key_comes_of_is_told() {
        let derived = signing(SigningKey::Derived { name: "app".to_owned() }, SignatureVersion::V1a);
        assert_eq!(origin(&derived, "s/destination/d"), "signed v1a with keys derived from `s/destination/d` for `app`");
        assert_eq!(origin(&signing(SigningKey::Own, SignatureVersion::V1), "s"), "signed v1 with the keys in `s`");
    }
}
