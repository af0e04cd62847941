//! The command line of Posthouse: is this webhook genuine, and if not, why; sign and send a sample; which providers are known;
//! is this configuration right; what does a stack keep of this event, and what is to become of what is in quarantine.
//!
//! Every verdict is made by the code that the receiver runs. Time, secrets and input come in as values. No output shows a secret
//! or an expected signature; only `send --dry-run` shows a signature, which is its purpose.

mod advice;
pub mod args;
mod capture;
mod check;
mod deliveries;
mod destination_keys;
mod destinations;
mod events;
mod files;
mod handshakes;
mod judgement;
mod keys;
mod page;
mod providers;
mod samples;
mod send;
mod stack;
mod subject;
mod vector;
mod vectors;
mod verify;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Read, Write},
    process::ExitCode,
};

use shared::{ledger::LedgerError, secrets::Secret, time::Timestamp};

use args::{Cli, Command};
pub use capture::webhook;
pub use judgement::{Case, Judged};
pub use subject::{Catalogue, Subject};

/// What a command is told of the world.
pub struct Surroundings {
    /// The clock.
    pub now: Timestamp,
    /// The environment variable POSTHOUSE_SECRET.
    pub secret: Option<Secret>,
    /// An id that no other event has, for a sample that needs one.
    pub fresh_id: String,
    /// The standard input.
    pub input: Box<dyn Read>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Surroundings").field("now", &self.now).field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Genuine, sent, right: status 0.
    Yes,
    /// Not so: status 1.
    No,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Yes => Self::SUCCESS,
            Outcome::No => Self::from(1),
        }
    }
}

impl From<bool> for Outcome {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// Why a command cannot answer: status 2.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Something that was asked for is not there or cannot be read; the text says what to do.
    #[error("{0}")]
    Asked(String),
    /// The output is closed.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Stop {
    /// Whether nobody reads the output any more.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        Self::Asked(error.to_string())
    }
}

impl From<Stop> for ExitCode {
    fn from(_: Stop) -> Self {
        Self::from(2)
    }
}

/// Runs one command; what it finds goes to `out`.
pub async fn run(cli: Cli, surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    match cli.command {
        Command::Verify(args) if args.vectors.is_some() => vectors::run(&args, surroundings, out),
        Command::Verify(args) => verify::run(&args, surroundings, out).await,
        Command::Send(args) => send::run(&args, surroundings, out).await,
        Command::Providers(args) => providers::run(&args, out),
        Command::Check(args) => check::run(&args, surroundings, out),
        Command::Events(args) => events::run(&args, surroundings.now, out).await,
        Command::Deliveries(args) => deliveries::run(&args, surroundings.now, out).await,
        Command::Destinations(args) => destinations::run(&args, surroundings, out).await,
        Command::Keys(args) => keys::run(&args, surroundings, out).await,
    }
}
