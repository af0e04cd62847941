//! `posthouse keys`: the keys that prove a source's webhooks, by their position in the keyring. The secrets are never shown.

use std::{io::Write, path::Path, time::Duration};

use shared::{
    config::{Senders, Source},
    ledger::{Hits, Ledger},
    names::SourceName,
    secrets::{KEYRING_CACHE_SECONDS, KEYRING_STALE_SECONDS_MAX, Key, Keyring, Secret, SecretsError},
    time::Timestamp,
};

use crate::{
    Outcome, Stop, Surroundings,
    args::{KeysArgs, KeysCommand, ReplaceArgs, SourceKeysArgs},
    files,
    stack::Stack,
};

/// Runs one of the commands.
pub(crate) async fn run(args: &KeysArgs, mut surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    match &args.command {
        KeysCommand::Show(args) => show(args, surroundings.now, out).await?,
        KeysCommand::Replace(args) => replace(args, &mut surroundings, out).await?,
    }
    Ok(Outcome::Yes)
}

async fn show(args: &SourceKeysArgs, now: Timestamp, out: &mut impl Write) -> Result<(), Stop> {
    let source = configured(args)?;
    let stack = Stack::find(&args.of.stack).await?;
    let keyring = stack.source_keyrings.read(&source.secret).await?;
    let hits = stack.ledger.last_hits(&args.source).await?;
    writeln!(out, "source      {}, by the secret `{}`", args.source, stack.source_keyrings.full_name(&source.secret))?;
    write!(out, "{}", listed(&keyring, &hits, now))?;
    Ok(writeln!(out, "{}", looked_at(&hits))?)
}

async fn replace(args: &ReplaceArgs, surroundings: &mut Surroundings, out: &mut impl Write) -> Result<(), Stop> {
    let source = configured(&args.which)?;
    let secret = new_secret(&args.secret_file, surroundings)?;
    let Stack { ledger, source_keyrings: keyrings, .. } = Stack::find(&args.which.of.stack).await?;
    let name = &source.secret;
    let (before, version) = match keyrings.read_version(name).await {
        Ok((before, version)) => (Some(before), version),
        // A keyring that proves nothing is what this mends, if all of it goes.
        Err(SecretsError::Unusable { reason, version, .. }) if args.position.is_none() => {
            writeln!(out, "the keyring cannot be used: {reason}")?;
            (None, version)
        }
        Err(error) => return Err(error.into()),
    };
    let after = replacement(before.as_ref(), secret, args.position, surroundings.now)?;
    if args.dry_run {
        writeln!(out, "would put    {}", keyrings.full_name(&source.secret))?;
    } else {
        keyrings.replace(name, &after, &version).await?;
        writeln!(out, "put          {}", keyrings.full_name(&source.secret))?;
        write!(out, "{}", revoked(Timestamp::now()))?;
    }
    for other in sharing(&args.which, name)? {
        writeln!(out, "note         the source `{other}` has the same secret, and so the same keys")?;
    }
    tell_hits(before.as_ref(), &after, &args.which.source, &ledger, surroundings.now, out).await
}

/// The keyring without the keys that go. A secret that is there already stays as the key that it is.
fn replacement(before: Option<&Keyring>, secret: Secret, position: Option<usize>, now: Timestamp) -> Result<Keyring, Stop> {
    let asked = |words: &str| Err(Stop::Asked(words.to_owned()));
    let known = before.into_iter().flat_map(Keyring::keys).find(|key| key.secret == secret);
    let replaced = match (before, position, known) {
        (Some(_), Some(_), Some(_)) => {
            return asked("the keyring has this secret already; without --position it stays, and all other keys go");
        }
        (Some(before), None, Some(_)) if before.keys().len() == 1 => {
            return asked(
                "the keyring has this secret and no other: the one that got out has to be changed at the provider first",
            );
        }
        (Some(before), None, Some(known)) => before.replaced(Key { not_after: None, ..known.clone() }, None),
        (Some(before), position, None) => before.replaced(new_key("replaced", secret, now), position),
        (None, _, _) => Keyring::new(vec![new_key("replaced", secret, now)]),
    };
    replaced.map_err(|error| Stop::Asked(error.to_string()))
}

/// Other sources of the configuration with this secret.
fn sharing(args: &SourceKeysArgs, secret: &str) -> Result<Vec<String>, Stop> {
    let senders = Senders::load(&args.of.config).map_err(|error| Stop::Asked(error.to_string()))?;
    let sources = senders.sources.into_values().flatten();
    let others = sources.filter(|source| source.name != args.source && source.secret == secret);
    Ok(others.map(|source| source.name.to_string()).collect())
}

/// The keys before and after, each with the event that it has verified last.
async fn tell_hits(
    before: Option<&Keyring>,
    after: &Keyring,
    source: &SourceName,
    ledger: &Ledger,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), Stop> {
    let hits = ledger.last_hits(source).await?;
    if let Some(before) = before {
        writeln!(out, "before")?;
        write!(out, "{}", listed(before, &hits, now))?;
    }
    writeln!(out, "after")?;
    write!(out, "{}", listed(after, &hits, now))?;
    writeln!(out, "{}", looked_at(&hits))?;
    Ok(writeln!(out, "look again with `posthouse keys show`: a key that is gone must have no event after that moment")?)
}

/// When a key that was taken away at `now` proves nothing any more.
fn revoked(now: Timestamp) -> String {
    let seconds = Duration::from_secs;
    format!(
        "proves nothing in any environment after {KEYRING_CACHE_SECONDS} s: from {} on\n\
         only while Secrets Manager does not answer, after {KEYRING_STALE_SECONDS_MAX} s: from {} on, under the alarm StaleKeyrings\n",
        now.plus(seconds(KEYRING_CACHE_SECONDS)).to_rfc3339(),
        now.plus(seconds(KEYRING_STALE_SECONDS_MAX)).to_rfc3339()
    )
}

/// A line for each key.
fn listed(keyring: &Keyring, hits: &Hits, now: Timestamp) -> String {
    let mut lines = String::new();
    for (index, key) in keyring.keys().iter().enumerate() {
        let until = match key.not_after {
            None => "valid".to_owned(),
            Some(not_after) if now < not_after => format!("valid until {}", not_after.to_rfc3339()),
            Some(not_after) => format!("over since {}", not_after.to_rfc3339()),
        };
        let last = match hits.newest.get(&key.id) {
            Some((received_at, event)) => format!("last hit {}, {event}", received_at.to_rfc3339()),
            None => "no hit".to_owned(),
        };
        let is_alone = keyring.keys().iter().filter(|other| other.id == key.id).count() == 1;
        let shared = if is_alone { "" } else { " (of all keys with this id)" };
        lines.push_str(&format!("position {:<3} {}: {until}, {last}{shared}\n", index + 1, key.id.escape_debug()));
    }
    for (id, (received_at, event)) in &hits.newest {
        if keyring.keys().iter().all(|key| key.id != *id) {
            lines.push_str(&format!("gone         {}: last hit {}, {event}\n", id.escape_debug(), received_at.to_rfc3339()));
        }
    }
    lines
}

/// How far back a hit would have been seen.
fn looked_at(hits: &Hits) -> String {
    match hits.complete_since {
        None => format!("among all {} events of this source", hits.events),
        Some(since) => format!("among its newest {} events; all since {}", hits.events, since.to_rfc3339()),
    }
}

/// The source of that name, as the receiver has it.
fn configured(args: &SourceKeysArgs) -> Result<Source, Stop> {
    let (config, name) = (&args.of.config, &args.source);
    let senders = Senders::load(config).map_err(|error| Stop::Asked(error.to_string()))?;
    let source = senders.sources.get(name.as_str());
    let source = source.ok_or_else(|| Stop::Asked(format!("{} has no source `{name}`", config.display())))?;
    source.clone().map_err(|error| Stop::Asked(error.to_string()))
}

/// The secret in a file: one, as the provider shows it.
pub(crate) fn new_secret(file: &Path, surroundings: &mut Surroundings) -> Result<Secret, Stop> {
    let text = String::from_utf8(files::read(file, surroundings)?);
    let text = text.map_err(|_| Stop::Asked(format!("{}: not UTF-8", file.display())))?;
    let keyring = Keyring::parse(&text).map_err(|error| Stop::Asked(format!("{}: {error}", file.display())))?;
    match keyring.keys() {
        [key] if key.not_after.is_none() => Ok(key.secret.clone()),
        _ => Err(Stop::Asked(format!("{}: not one secret; write the new one alone, as it is", file.display()))),
    }
}

/// A key with an id that no other has.
pub(crate) fn new_key(what: &str, secret: Secret, now: Timestamp) -> Key {
    Key { id: format!("{what}-{}", now.seconds()), secret, not_after: None }
}

impl From<SecretsError> for Stop {
    fn from(error: SecretsError) -> Self {
        Self::Asked(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::{event::EventKey, names::EventId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    #[test]
    fn keys_are_told_by_position_and_never_shown() {
        let text = r#"{"keys":[{"id":"b","secret":"hush"},{"id":"a","secret":"old","notAfter":"2023-11-14T22:13:20Z"},
            {"id":"a","secret":"older","notAfter":"2023-11-14T22:13:21Z"}]}"#;
        let event = EventKey { source: SourceName::parse("github").unwrap(), event_id: EventId::parse("e").unwrap() };
        let newest = BTreeMap::from([("a".to_owned(), (NOW, event))]);
        let listed = listed(&Keyring::parse(text).unwrap(), &Hits { newest, ..Hits::default() }, NOW);
        let expected = "position 1   b: valid, no hit\n\
            position 2   a: over since 2023-11-14T22:13:20Z, last hit 2023-11-14T22:13:20Z, github#e (of all keys with this id)\n\
            position 3   a: valid until 2023-11-14T22:13:21Z, last hit 2023-11-14T22:13:20Z, github#e (of all keys with this id)\n";
        assert_eq!(listed, expected);
    }

    #[test]
    fn a_key_that_is_gone_is_told_of_too() {
        let event = EventKey { source: SourceName::parse("github").unwrap(), event_id: EventId::parse("e").unwrap() };
        let newest = BTreeMap::from([("leaked".to_owned(), (NOW, event))]);
        let listed = listed(&Keyring::parse("new").unwrap(), &Hits { newest, ..Hits::default() }, NOW);
        assert_eq!(listed, "position 1   initial: valid, no hit\ngone         leaked: last hit 2023-11-14T22:13:20Z, github#e\n");
    }

    #[test]
    fn what_is_replaced_depends_on_what_is_there() {
        let ids = |before: Option<&str>, secret: &str, position| {
            let before = before.map(|text| Keyring::parse(text).unwrap());
            let after = replacement(before.as_ref(), Secret::new(secret), position, NOW).map_err(|error| error.to_string())?;
            Ok::<_, String>(after.keys().iter().map(|key| key.id.clone()).collect::<Vec<_>>())
        };
        let two = r#"{"keys":[{"id":"b","secret":"2"},{"id":"a","secret":"1","notAfter":"2033-11-14T22:13:20Z"}]}"#;
        assert_eq!(ids(Some(two), "3", None).unwrap(), ["replaced-1700000000"]);
        assert_eq!(ids(Some(two), "3", Some(2)).unwrap(), ["replaced-1700000000", "b"]);
        assert_eq!(ids(Some(two), "2", None).unwrap(), ["b"], "the other one got out");
        assert!(ids(Some(two), "2", Some(2)).unwrap_err().contains("has this secret already"));
        assert!(ids(Some("1"), "1", None).unwrap_err().contains("changed at the provider first"));
        assert_eq!(ids(None, "3", None).unwrap(), ["replaced-1700000000"], "a keyring that cannot be used");
        assert!(ids(Some(two), "3", Some(3)).unwrap_err().contains("no position 3"));
    }

    #[test]
    fn the_moment_is_told_from_which_no_environment_takes_the_old_key() {
        let told = revoked(NOW);
        assert!(told.contains("after 300 s: from 2023-11-14T22:18:20Z on\n"), "{told}");
        assert!(told.contains("after 3600 s: from 2023-11-14T23:13:20Z on"), "{told}");
    }

    #[test]
    fn it_is_said_how_far_back_was_looked() {
        assert_eq!(looked_at(&Hits { events: 3, ..Hits::default() }), "among all 3 events of this source");
        let since = Hits { events: 800, complete_since: Some(NOW), ..Hits::default() };
        assert_eq!(looked_at(&since), "among its newest 800 events; all since 2023-11-14T22:13:20Z");
    }
}
