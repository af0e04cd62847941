//! The command line.

use ::tests::stack::STACK_DEFAULT;
use clap::Parser;

/// Sends webhooks through a local stack while everything around its functions fails, and then looks for what was lost or doubled.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "chaos", after_help = AFTERWARDS)]
pub(crate) struct Arguments {
    /// The stack, which is up and has no other work.
    #[arg(long, value_name = "NAME", default_value = STACK_DEFAULT)]
    pub(crate) stack: String,
    /// Webhooks to send, those forged included.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) webhooks: u32,
    /// What the webhooks, the faults and the moods of the destinations are drawn from.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Audit with a clock that is ahead, instead of waiting until the minutes of the run have closed.
    #[arg(long)]
    pub(crate) quick: bool,
}

const AFTERWARDS: &str = "\
The last line says how many webhooks and faults there were, and what was lost, doubled, stuck or forged. Exit status 1 if anything
was. `make chaos` builds, starts the stack and runs this; see docs/chaos.md.";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("chaos").chain(line.split_whitespace()))
    }

    #[test]
    fn a_command_line_is_read() {
        let given = Arguments { stack: "demo".to_owned(), webhooks: 7, seed: 9, quick: true };
        assert_eq!(read("--stack demo --webhooks 7 --seed 9 --quick").unwrap(), given);
        let usual = Arguments { stack: "test".to_owned(), webhooks: 10_000, seed: 0, quick: false };
        assert_eq!(read("").unwrap(), usual);
        assert!(read("--webhooks 4294967295").is_ok() && read("--webhooks 1").is_ok());
        assert!(read("--webhooks 0").is_err() && read("--webhooks 4294967296").is_err());
    }
}
