//! The command `posthouse`.

use std::{env, io, process::ExitCode};

use clap::Parser;
use posthouse::{Surroundings, args::Cli, run};
use shared::{secrets::Secret, time::Timestamp};
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let surroundings = Surroundings {
        now: Timestamp::now(),
        secret: env::var("POSTHOUSE_SECRET").ok().map(Secret::new),
        fresh_id: Uuid::now_v7().to_string(),
        input: Box::new(io::stdin()),
    };
    match run(cli, surroundings, &mut io::stdout().lock()).await {
        Ok(outcome) => outcome.into(),
        Err(stop) => {
            // Who reads the output has seen enough, as `head` has.
            if !stop.is_closed_pipe() {
                eprintln!("posthouse: {stop}");
            }
            stop.into()
        }
    }
}
