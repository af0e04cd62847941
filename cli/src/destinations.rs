//! `posthouse destinations`: how a destination is, and whether anything goes there.

use std::io::Write;

use shared::{ledger::DestinationState, names::DestinationName, time::Timestamp};

use crate::{
    Outcome, Stop, Surroundings,
    args::{DestinationsArgs, DestinationsCommand},
    destination_keys,
    stack::Stack,
};

/// Runs one of the commands.
pub(crate) async fn run(args: &DestinationsArgs, mut surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    let now = surroundings.now;
    match &args.command {
        DestinationsCommand::Show(args) => {
            let state = Stack::find(&args.stack).await?.ledger.destination_state(&args.destination).await?;
            write!(out, "{}", described(&args.destination, &state, now))?;
        }
        DestinationsCommand::Pause(args) => {
            let (ledger, name) = (Stack::find(&args.which.stack).await?.ledger, &args.which.destination);
            ledger.pause(name, &args.reason, now).await?;
            write!(out, "{}", described(name, &ledger.destination_state(name).await?, now))?;
            writeln!(
                out,
                "an attempt that is on its way ends as it does; everything else waits for `posthouse destinations resume`"
            )?;
        }
        DestinationsCommand::Resume(args) => {
            let was_paused = Stack::find(&args.stack).await?.ledger.resume(&args.destination).await?;
            match was_paused {
                true => {
                    writeln!(out, "{} goes on: what waited is rung for by the next audit, within two minutes", args.destination)?
                }
                false => writeln!(out, "{} was not paused; its circuit is closed", args.destination)?,
            }
        }
        DestinationsCommand::Key(args) => destination_keys::show(args, now, out).await?,
        DestinationsCommand::Rotate(args) => destination_keys::rotate(args, &mut surroundings, out).await?,
    }
    Ok(Outcome::Yes)
}

fn described(name: &DestinationName, state: &DestinationState, now: Timestamp) -> String {
    let pause = match &state.pause {
        // A person's text, or a destination's.
        Some(pause) => format!("paused since {}: {}", pause.at.to_rfc3339(), pause.reason.escape_debug()),
        None => "not paused".to_owned(),
    };
    let circuit = &state.circuit;
    let circuit = match (circuit.open_until, circuit.window_at) {
        (Some(until), _) if now < until => format!("open until {}, for the {}. time", until.to_rfc3339(), circuit.openings),
        (Some(_), _) => "open; the next delivery is its probe".to_owned(),
        (None, Some(since)) => {
            format!("closed; {} failed and {} arrived since {}", circuit.failures, circuit.successes, since.to_rfc3339())
        }
        (None, None) => "closed".to_owned(),
    };
    format!("destination {name}\npause       {pause}\ncircuit     {circuit}\n")
}

#[cfg(test)]
mod tests {
    use shared::ledger::{Circuit, Pause};

    use super::*;

    #[test]
    fn pause_and_circuit_are_told_in_words() {
        let name = DestinationName::parse("ci").unwrap();
        let now = Timestamp::from_seconds(1_700_000_000);
        let told = |pause, circuit| described(&name, &DestinationState { pause, circuit }, now);
        assert_eq!(told(None, Circuit::default()), "destination ci\npause       not paused\ncircuit     closed\n");
        let pause = Pause { at: now, reason: "a\u{1b}b".to_owned() };
        assert!(told(Some(pause), Circuit::default()).contains("paused since 2023-11-14T22:13:20Z: a\\u{1b}b\n"));
        let open = |open_until| Circuit { open_until: Some(open_until), openings: 2, ..Circuit::default() };
        let later = Timestamp::from_seconds(1_700_000_030);
        assert!(told(None, open(later)).contains("open until 2023-11-14T22:13:50Z, for the 2. time\n"));
        assert!(told(None, open(now)).contains("open; the next delivery is its probe\n"));
        let troubled = Circuit { window_at: Some(now), failures: 3, successes: 1, ..Circuit::default() };
        assert!(told(None, troubled).contains("closed; 3 failed and 1 arrived since 2023-11-14T22:13:20Z\n"));
    }
}
