//! `posthouse events`: what a stack keeps of an event, what is in quarantine beside one, and what becomes of that.
//!
//! Bodies are customers' data: they are shown by nothing here, and written only where `--bodies` says.

mod shown;

use std::{fs, io::Write, path::Path};

use shared::{
    bodies::StoredBody,
    doorbell::Doorbell,
    event::{Event, EventKey},
    ledger::{Acceptance, Kind, Quarantined},
    names::{DestinationName, EventId},
    time::Timestamp,
};

use crate::{
    Outcome, Stop,
    args::{BesideArgs, EventsArgs, EventsCommand, ListArgs, SettleArgs, ShowArgs},
    stack::Stack,
};

/// Runs one of the commands.
pub(crate) async fn run(args: &EventsArgs, now: Timestamp, out: &mut impl Write) -> Result<Outcome, Stop> {
    let stack = &Stack::find(args.command.stack()).await?;
    match &args.command {
        EventsCommand::Conflicts(args) => list(stack, Kind::Conflict, args, now, out).await,
        EventsCommand::Replays(args) => list(stack, Kind::Replay, args, now, out).await,
        EventsCommand::Conflict(args) => beside(stack, args, now, out).await,
        EventsCommand::Show(args) => show(stack, args, now, out).await,
        EventsCommand::Accept(args) => accept(stack, args, now, out).await,
        EventsCommand::Reject(args) => reject(stack, args, now, out).await,
    }
}

async fn list(stack: &Stack, kind: Kind, args: &ListArgs, now: Timestamp, out: &mut impl Write) -> Result<Outcome, Stop> {
    let limit = usize::from(args.limit);
    let pairs = stack.ledger.quarantined(kind, args.source.as_ref(), limit, now).await?;
    for pair in &pairs {
        match args.json {
            true => writeln!(out, "{}", shown::pair_json(pair))?,
            false => writeln!(out, "{}", shown::pair(pair))?,
        }
    }
    if !args.json && pairs.is_empty() {
        writeln!(out, "no {kind} is in quarantine")?;
    } else if !args.json && pairs.len() == limit {
        writeln!(out, "these are the {limit} oldest; there may be more (--limit)")?;
    }
    Ok(Outcome::Yes)
}

async fn beside(stack: &Stack, args: &BesideArgs, now: Timestamp, out: &mut impl Write) -> Result<Outcome, Stop> {
    let key = args.key.event_key();
    let seconds = stack.ledger.quarantined_beside(&key, now).await?;
    let first = stack.ledger.find(&key, now).await?;
    match args.json {
        true => writeln!(out, "{}", shown::beside_json(first.as_ref().map(|(event, _)| event), &seconds))?,
        false => write!(out, "{}", shown::beside(&key, first.as_ref().map(|(event, _)| event), &seconds))?,
    }
    if let Some(directory) = &args.bodies {
        fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
        if let Some((event, body)) = first {
            write_body(stack, directory, "first", &event, body, args.json, out).await?;
        }
        for second in &seconds {
            // Settled since it was read.
            let Some(body) = stack.ledger.quarantined_body(second).await? else { continue };
            write_body(stack, directory, second.kind.as_str(), &second.event, body, args.json, out).await?;
        }
    }
    Ok(Outcome::from(!seconds.is_empty()))
}

async fn write_body(
    stack: &Stack,
    directory: &Path,
    what: &str,
    event: &Event,
    body: StoredBody,
    quiet: bool,
    out: &mut impl Write,
) -> Result<(), Stop> {
    let bytes = stack.bodies.read(event, body).await.map_err(|error| Stop::Asked(error.to_string()))?;
    let path = directory.join(format!("{what}-{}", shown::short(event.own_sha256())));
    fs::write(&path, event.own_part(&bytes)).map_err(|error| unwritable(&path, &error))?;
    if !quiet {
        writeln!(out, "written     {}", path.display())?;
    }
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Stop {
    Stop::Asked(format!("{} cannot be written: {error}", path.display()))
}

async fn show(stack: &Stack, args: &ShowArgs, now: Timestamp, out: &mut impl Write) -> Result<Outcome, Stop> {
    let key = args.key.event_key();
    let Some((event, _)) = stack.ledger.find(&key, now).await? else {
        writeln!(out, "there is no event {key}, or it has expired")?;
        return Ok(Outcome::No);
    };
    let deliveries = stack.ledger.deliveries(&event).await?;
    let seconds = stack.ledger.quarantined_beside(&key, now).await?;
    match args.json {
        true => writeln!(out, "{}", shown::event_json(&event, &deliveries, &seconds))?,
        false => write!(out, "{}", shown::event(&event, &deliveries, &seconds))?,
    }
    Ok(Outcome::Yes)
}

async fn accept(stack: &Stack, args: &SettleArgs, now: Timestamp, out: &mut impl Write) -> Result<Outcome, Stop> {
    let Some(second) = find(stack, args, now, out).await? else { return Ok(Outcome::No) };
    if args.dry_run {
        writeln!(out, "would become an event of its own, and leave quarantine")?;
        writeln!(out, "  event id    {}", second.accepted_key().event_id)?;
        writeln!(out, "  rings       {}", shown::names(&second.event.destinations))?;
        return Ok(Outcome::Yes);
    }
    let Some(body) = stack.ledger.quarantined_body(&second).await? else {
        writeln!(
            out,
            "not accepted: its body is gone. Somebody else has just accepted or rejected it, or it is a replay and the first event has expired"
        )?;
        return Ok(Outcome::No);
    };
    let body = renew(stack, &second.event, body).await?;
    let (words, event_id, to_ring) = match stack.ledger.accept_quarantined(&second, &body, now).await? {
        Acceptance::New(event) => ("accepted: it is an event of its own", event.key.event_id, event.destinations),
        Acceptance::Seen { event_id, unclaimed } => ("it was an event already, and has left quarantine", event_id, unclaimed),
        Acceptance::Taken(event_id) => {
            writeln!(out, "not accepted: its sender has sent another body as {event_id}, the id that it would have")?;
            return Ok(Outcome::No);
        }
    };
    writeln!(out, "{words}")?;
    writeln!(out, "  event id    {event_id}")?;
    let key = EventKey { event_id, ..second.first };
    writeln!(out, "  rings       {}", ring(stack, &key, &to_ring).await)?;
    Ok(Outcome::Yes)
}

/// A body in the bucket lives for so many days from when it was written, and its event's life begins anew.
async fn renew(stack: &Stack, event: &Event, body: StoredBody) -> Result<StoredBody, Stop> {
    if matches!(body, StoredBody::InItem(_)) {
        return Ok(body);
    }
    let unmoved = |error: shared::bodies::BodyError| Stop::Asked(error.to_string());
    let bytes = stack.bodies.read(event, body).await.map_err(unmoved)?;
    let kept = match event.part {
        Some(_) => stack.bodies.prepare_shared(&event.sha256, &bytes),
        None => stack.bodies.prepare(&event.sha256, &bytes),
    };
    kept.map_err(unmoved)
}

/// The event is recorded, so a bell that fails changes nothing about it: it is rung for later.
async fn ring(stack: &Stack, key: &EventKey, destinations: &[DestinationName]) -> String {
    let doorbells: Vec<Doorbell> = destinations.iter().map(|name| Doorbell::first(key, name)).collect();
    if doorbells.is_empty() {
        return shown::names(destinations);
    }
    match stack.bell.ring(&doorbells).await {
        Ok(()) => shown::names(destinations),
        Err(error) => format!("nothing yet; it is rung for within minutes: {error}"),
    }
}

async fn reject(stack: &Stack, args: &SettleArgs, now: Timestamp, out: &mut impl Write) -> Result<Outcome, Stop> {
    let Some(second) = find(stack, args, now, out).await? else { return Ok(Outcome::No) };
    if args.dry_run {
        writeln!(out, "would leave quarantine, and go nowhere")?;
        return Ok(Outcome::Yes);
    }
    stack.ledger.remove_quarantined(&second).await?;
    writeln!(out, "rejected: it has left quarantine, and went nowhere")?;
    Ok(Outcome::Yes)
}

/// What the command line means of what is in quarantine beside an event; what it is not is said.
async fn find(stack: &Stack, args: &SettleArgs, now: Timestamp, out: &mut impl Write) -> Result<Option<Quarantined>, Stop> {
    let key = args.key.event_key();
    let seconds = stack.ledger.quarantined_beside(&key, now).await?;
    let count = seconds.len();
    match choose(seconds, args.sha256.as_deref(), args.replay.as_ref())? {
        Some(second) => {
            writeln!(out, "{}", shown::second(&second))?;
            Ok(Some(second))
        }
        None => {
            writeln!(out, "that is not in quarantine beside {key}, but {count} others; `posthouse events conflict` shows them")?;
            Ok(None)
        }
    }
}

/// The conflict whose SHA-256 begins so, or the replay that came with that id.
fn choose(seconds: Vec<Quarantined>, sha256: Option<&str>, replay: Option<&EventId>) -> Result<Option<Quarantined>, Stop> {
    let mut meant = seconds.into_iter().filter(|second| match second.kind {
        Kind::Conflict => sha256.is_some_and(|digits| second.event.own_sha256().to_hex().starts_with(digits)),
        Kind::Replay => replay == Some(&second.event.key.event_id),
    });
    match (meant.next(), meant.next()) {
        (_, Some(_)) => Err(Stop::Asked("more than one conflict has a SHA-256 that begins so; give more of it".to_owned())),
        (meant, None) => Ok(meant),
    }
}

#[cfg(test)]
mod tests {
    use super::{shown::tests::conflict, *};
    use shared::event::BodyDigest;

    #[test]
    fn a_body_is_named_by_as_much_of_its_digest_as_tells_it_from_the_others() {
        let with = |last: u8| {
            let mut second = conflict();
            let digest = [&[0xab; 31][..], &[last]].concat();
            second.event.sha256 = BodyDigest::from_bytes(&digest).unwrap();
            second
        };
        let beginning = "ab".repeat(31);
        let choose = |digits: &str| choose(vec![with(1), with(2)], Some(digits), None);
        assert_eq!(choose(&format!("{beginning}01")).unwrap(), Some(with(1)));
        assert_eq!(choose(&format!("{beginning}02")).unwrap(), Some(with(2)));
        assert_eq!(choose("abac").unwrap(), None);
        assert!(choose(&beginning).unwrap_err().to_string().contains("give more of it"));
    }

    #[test]
    fn a_replay_is_named_by_the_id_that_it_came_with_and_not_by_its_digest() {
        let replay = |id: &str| {
            let mut second = Quarantined { kind: Kind::Replay, ..conflict() };
            second.event.key.event_id = EventId::parse(id).unwrap();
            second
        };
        let digits = replay("8").event.sha256.to_hex();
        let choose = |sha256, id: Option<&str>| {
            let id = id.map(|id| EventId::parse(id).unwrap());
            choose(vec![replay("8"), replay("9")], sha256, id.as_ref()).unwrap()
        };
        assert_eq!(choose(None, Some("9")), Some(replay("9")));
        assert_eq!(choose(None, Some("7")), None, "it is the event itself");
        assert_eq!(choose(Some(digits.as_str()), None), None);
    }
}
