//! `posthouse destinations`: how a destination is, and whether anything goes there.

use std::{io::Write, path::Path};

use shared::{
    config::Gateway,
    ledger::{COUNTED_MAX, DestinationState, Pause, WaitingCount},
    names::DestinationName,
    time::Timestamp,
};

use crate::{
    Outcome, Stop, Surroundings,
    args::{DestinationArgs, DestinationsArgs, DestinationsCommand, SHIPPED_CONFIG},
    destination_keys,
    stack::Stack,
};

/// Runs one of the commands.
pub(crate) async fn run(args: &DestinationsArgs, mut surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    let now = surroundings.now;
    match &args.command {
        DestinationsCommand::Show(args) => {
            let is_known = known(args)?;
            let ledger = Stack::find(&args.stack).await?.ledger;
            let state = ledger.destination_state(&args.destination).await?;
            write!(out, "{}", described(&args.destination, &state, now))?;
            write!(out, "{}", waiting(&ledger.count_waiting(&args.destination).await?, now))?;
            if !is_known {
                writeln!(out, "whether there is such a destination was not looked up: give the configuration with --config")?;
            }
        }
        DestinationsCommand::Pause(args) => {
            known(&args.which)?;
            let (ledger, name) = (Stack::find(&args.which.stack).await?.ledger, &args.which.destination);
            let pause = Pause { at: now, reason: args.reason.clone(), by_person: true };
            ledger.pause(name, &pause).await?;
            write!(out, "{}", described(name, &ledger.destination_state(name).await?, now))?;
            writeln!(
                out,
                "an attempt that is on its way ends as it does; everything else waits for `posthouse destinations resume`"
            )?;
        }
        DestinationsCommand::Resume(args) => {
            known(args)?;
            let was_paused = Stack::find(&args.stack).await?.ledger.resume(&args.destination).await?;
            match was_paused {
                true => writeln!(out, "{} goes on: what waits is sent on, beginning within a minute", args.destination)?,
                false => writeln!(out, "{} was not paused; its circuit is closed", args.destination)?,
            }
        }
        DestinationsCommand::Key(args) => destination_keys::show(args, now, out).await?,
        DestinationsCommand::Rotate(args) => destination_keys::rotate(args, &mut surroundings, out).await?,
    }
    Ok(Outcome::Yes)
}

/// Whether the destination is one of the configuration; an error if it is not, since the ledger keeps a state by any name.
fn known(args: &DestinationArgs) -> Result<bool, Stop> {
    let path = args.config.as_deref().unwrap_or(Path::new(SHIPPED_CONFIG));
    if args.config.is_none() && !path.exists() {
        return Ok(false);
    }
    let gateway = Gateway::load(path).map_err(|error| Stop::Asked(error.to_string()))?;
    match gateway.destinations.contains_key(&args.destination) {
        true => Ok(true),
        false => Err(Stop::Asked(format!(
            "{} has no destination `{}`; if the stack was deployed with another file, give that with --config",
            path.display(),
            args.destination
        ))),
    }
}

fn described(name: &DestinationName, state: &DestinationState, now: Timestamp) -> String {
    let pause = match &state.pause {
        // A person's text, or a destination's.
        Some(pause) => {
            let by = if pause.by_person { "a person" } else { "the gateway" };
            format!("paused since {} by {by}: {}", pause.at.to_rfc3339(), pause.reason.escape_debug())
        }
        None => "not paused".to_owned(),
    };
    let circuit = &state.circuit;
    let circuit = match (circuit.open_until, circuit.window_at) {
        (Some(until), _) if now < until && circuit.was_asked => {
            format!("left alone until {}, since it asked for it", until.to_rfc3339())
        }
        (Some(until), _) if now < until => format!("open until {}, for the {}. time", until.to_rfc3339(), circuit.openings),
        (Some(_), _) => "open; the next delivery is its probe".to_owned(),
        (None, Some(since)) => {
            format!("closed; {} failed and {} arrived since {}", circuit.failures, circuit.successes, since.to_rfc3339())
        }
        (None, None) => "closed".to_owned(),
    };
    let refused = match state.refused_events {
        0 => String::new(),
        count => {
            format!("refused     {count} different events in a row, as if our credentials were wrong; the third pauses it\n")
        }
    };
    format!("destination {name}\npause       {pause}\ncircuit     {circuit}\n{refused}")
}

fn waiting(count: &WaitingCount, now: Timestamp) -> String {
    let number = if count.deliveries >= COUNTED_MAX { format!("{COUNTED_MAX} or more") } else { count.deliveries.to_string() };
    match count.first_at {
        None => "waiting     nothing\n".to_owned(),
        Some(first_at) => {
            let due = if first_at <= now { "is due since" } else { "is due at" };
            format!("waiting     {number}; the first {due} {}\n", first_at.to_rfc3339())
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::ledger::Circuit;

    use super::*;

    #[test]
    fn a_name_that_the_configuration_does_not_have_is_an_error() {
        let args = |destination: &str, config: Option<&str>| DestinationArgs {
            stack: "s".to_owned(),
            config: config.map(Into::into),
            destination: DestinationName::parse(destination).unwrap(),
        };
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/gateway/gateway.toml");
        assert!(known(&args("app", Some(sample))).unwrap());
        let error = known(&args("ap", Some(sample))).unwrap_err().to_string();
        assert!(error.contains("has no destination `ap`; if the stack was deployed with another file"), "{error}");
        assert!(known(&args("app", Some("not-there.toml"))).is_err());
        assert!(!known(&args("app", None)).unwrap(), "there is no such file where this test runs");
    }

    #[test]
    fn pause_and_circuit_are_told_in_words() {
        let name = DestinationName::parse("ci").unwrap();
        let now = Timestamp::from_seconds(1_700_000_000);
        let told = |pause, circuit| described(&name, &DestinationState { pause, circuit, ..DestinationState::default() }, now);
        assert_eq!(told(None, Circuit::default()), "destination ci\npause       not paused\ncircuit     closed\n");
        let refused = DestinationState { refused_events: 2, ..DestinationState::default() };
        assert!(described(&name, &refused, now).contains("refused     2 different events in a row"));
        let pause = Pause { at: now, reason: "a\u{1b}b".to_owned(), by_person: true };
        assert!(told(Some(pause), Circuit::default()).contains("paused since 2023-11-14T22:13:20Z by a person: a\\u{1b}b\n"));
        let open = |open_until| Circuit { open_until: Some(open_until), openings: 2, ..Circuit::default() };
        let later = Timestamp::from_seconds(1_700_000_030);
        assert!(told(None, open(later)).contains("open until 2023-11-14T22:13:50Z, for the 2. time\n"));
        assert!(told(None, open(now)).contains("open; the next delivery is its probe\n"));
        let asked = Circuit { was_asked: true, ..open(later) };
        assert!(told(None, asked).contains("left alone until 2023-11-14T22:13:50Z, since it asked for it\n"));
        let troubled = Circuit { window_at: Some(now), failures: 3, successes: 1, ..Circuit::default() };
        assert!(told(None, troubled).contains("closed; 3 failed and 1 arrived since 2023-11-14T22:13:20Z\n"));
    }

    #[test]
    fn what_waits_is_counted_and_the_first_of_it_is_told() {
        let now = Timestamp::from_seconds(1_700_000_000);
        assert_eq!(waiting(&WaitingCount::default(), now), "waiting     nothing\n");
        let count = |deliveries, first_at| waiting(&WaitingCount { deliveries, first_at: Some(first_at) }, now);
        assert_eq!(count(3, now), "waiting     3; the first is due since 2023-11-14T22:13:20Z\n");
        assert!(count(COUNTED_MAX, Timestamp::from_seconds(1_700_000_060)).contains("100000 or more; the first is due at 2023"));
    }
}
