//! The command line.

use ::tests::simulation::Wrong;
use clap::Parser;

/// Lets histories of the whole gateway happen in a model of AWS, with faults at every call.
#[derive(Debug, PartialEq, Eq, Parser)]
#[command(name = "faults", after_help = AFTERWARDS)]
pub(crate) struct Arguments {
    /// How many in all: first the small systems, then as many at random as are left, or 10000.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) histories: u64,
    /// The first seed of those at random, one for each.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: u16,
    /// Leave out the exhaustive part: every fault, and every pair, at each call of one event and what comes after it.
    #[arg(long)]
    pub(crate) no_small: bool,
    /// Leave out its pairs.
    #[arg(long)]
    pub(crate) no_pairs: bool,
    /// A known wrong design in the place of ours: the run must fail.
    #[arg(long, value_name = "NAME", value_parser = wrong)]
    pub(crate) wrong: Option<Wrong>,
    /// One history, with everything that happened in it: what a failing one printed.
    #[arg(long, value_name = "ID")]
    pub(crate) replay: Option<String>,
}

const AFTERWARDS: &str = "\
The last line says how many histories and faults there were, and what was lost, doubled or stuck. Exit status 1 if anything was.";

fn wrong(name: &str) -> Result<Wrong, String> {
    let names: Vec<&str> = Wrong::ALL.iter().map(|wrong| wrong.name()).collect();
    let known = Wrong::ALL.into_iter().find(|wrong| wrong.name() == name);
    known.ok_or_else(|| format!("there are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("faults").chain(line.split_whitespace()))
    }

    #[test]
    fn a_command_line_is_read() {
        let arguments = read("--histories 7 --seed 9 --no-pairs --wrong ttl-trusted").unwrap();
        assert_eq!((arguments.histories, arguments.seed, arguments.no_pairs), (7, 9, true));
        assert_eq!(arguments.wrong, Some(Wrong::TtlTrusted));
        assert_eq!(read("--replay 3").unwrap().replay.as_deref(), Some("3"));
        assert!(read("--wrong x").unwrap_err().to_string().contains("there are duplicates-dropped"));
        assert!(read("--threads 1").is_ok() && read("--threads 64").is_ok());
        assert!(read("--threads 0").is_err() && read("--threads 65").is_err());
    }
}
