//! The command line.

use ::tests::simulation::Wrong;

pub(crate) const HELP: &str = "\
Lets histories of the whole gateway happen in a model of AWS, with faults at every call.

usage: faults [--histories N] [--seed N] [--threads N] [--no-small] [--no-pairs] [--wrong NAME]
       faults --replay ID [--wrong NAME]

  --histories N   how many in all (default 100000): first the small systems, then as many at random as are left, or 10000
  --seed N        the first seed (default 0)
  --threads N     threads (default 2)
  --no-small      without the exhaustive part: every fault, and every pair, at each call of one event and what comes after it
  --no-pairs      without its pairs
  --wrong NAME    with a known wrong design in the place of ours: the run must fail
  --replay ID     one history, with everything that happened in it; ID is what a failing one printed

The last line says how many histories and faults there were, and what was lost, doubled or stuck. Exit status 1 if anything was.";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) mode: Mode,
    pub(crate) histories: u64,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    pub(crate) small: bool,
    pub(crate) pairs: bool,
    pub(crate) wrong: Option<Wrong>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Run,
    Replay(String),
}

impl Arguments {
    /// Reads the command line; `None`: help is asked for.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments =
            Self { mode: Mode::Run, histories: 100_000, seed: 0, threads: 2, small: true, pairs: true, wrong: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--histories" => arguments.histories = number(&value()?)?,
                "--seed" => arguments.seed = number(&value()?)?,
                "--threads" => arguments.threads = usize::try_from(number(&value()?)?.clamp(1, 64)).unwrap_or(1),
                "--no-small" => arguments.small = false,
                "--no-pairs" => arguments.pairs = false,
                "--replay" => arguments.mode = Mode::Replay(value()?),
                "--wrong" => {
                    let name = value()?;
                    let known = Wrong::ALL.into_iter().find(|wrong| wrong.name() == name);
                    let names: Vec<&str> = Wrong::ALL.iter().map(|wrong| wrong.name()).collect();
                    arguments.wrong =
                        Some(known.ok_or_else(|| format!("there is no wrong design `{name}`; there are {}", names.join(", ")))?);
                }
                other => return Err(format!("`{other}` is not known")),
            }
        }
        Ok(Some(arguments))
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Arguments>, String> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_command_line_is_read_or_says_what_is_wrong() {
        let arguments = read("--histories 7 --seed 9 --no-pairs --wrong ttl-trusted").unwrap().unwrap();
        assert_eq!((arguments.histories, arguments.seed, arguments.pairs), (7, 9, false));
        assert_eq!(arguments.wrong, Some(Wrong::TtlTrusted));
        assert_eq!(read("--replay 3").unwrap().unwrap().mode, Mode::Replay("3".into()));
        assert_eq!(read("--help"), Ok(None));
        assert!(read("--histories x").unwrap_err().contains("no whole number"));
        assert!(read("--wrong x").unwrap_err().contains("there are duplicates-dropped"));
        assert!(read("--seed").unwrap_err().contains("needs a value"));
        assert!(read("--sead 1").unwrap_err().contains("not known"));
    }
}
