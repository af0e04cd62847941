//! The command line.

pub(crate) const HELP: &str = "\
Sends webhooks through a local stack while everything around its functions fails, and then looks for what was lost or doubled.

usage: chaos [--stack NAME] [--webhooks N] [--seed N] [--quick]

  --stack NAME    the stack, which is up and has no other work (default: test)
  --webhooks N    webhooks to send, those forged included (default: 10000)
  --seed N        what the webhooks, the faults and the moods of the destinations are drawn from (default: 0)
  --quick         audits with a clock that is ahead, instead of waiting until the minutes of the run have closed
  --help          this text

The last line says how many webhooks and faults there were, and what was lost, doubled, stuck or forged. Exit status 1 if anything
was. `make chaos` builds, starts the stack and runs this; see docs/chaos.md.";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) stack: String,
    pub(crate) webhooks: u32,
    pub(crate) seed: u64,
    pub(crate) quick: bool,
}

impl Arguments {
    /// Reads the command line; `None`: help is asked for.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments = Self { stack: ::tests::stack::STACK_DEFAULT.to_owned(), webhooks: 10_000, seed: 0, quick: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--stack" => arguments.stack = value()?,
                "--webhooks" => {
                    let webhooks = number(&value()?)?;
                    arguments.webhooks = u32::try_from(webhooks)
                        .ok()
                        .filter(|webhooks| *webhooks > 0)
                        .ok_or("`--webhooks` is from 1 to 4294967295")?;
                }
                "--seed" => arguments.seed = number(&value()?)?,
                "--quick" => arguments.quick = true,
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
        let given = Arguments { stack: "demo".to_owned(), webhooks: 7, seed: 9, quick: true };
        assert_eq!(read("--stack demo --webhooks 7 --seed 9 --quick"), Ok(Some(given)));
        let usual = Arguments { stack: "test".to_owned(), webhooks: 10_000, seed: 0, quick: false };
        assert_eq!(read(""), Ok(Some(usual)));
        assert_eq!(read("--help"), Ok(None));
        assert!(read("--webhooks 0").unwrap_err().contains("is from 1"));
        assert!(read("--webhooks 4294967296").unwrap_err().contains("is from 1"));
        assert!(read("--webhooks 4294967295").is_ok() && read("--webhooks 1").is_ok());
        assert!(read("--seed x").unwrap_err().contains("no whole number"));
        assert!(read("--seed").unwrap_err().contains("needs a value"));
        assert!(read("--sead 1").unwrap_err().contains("not known"));
    }
}
