//! What can be said on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand};
use shared::time::Timestamp;

/// Verify, send and describe webhooks with the same code that the receiver runs.
///
/// Secrets come from the environment variable POSTHOUSE_SECRET or from a file, never from an argument, and are never shown.
/// Exit status: 0 yes, 1 no, 2 the question itself is wrong.
#[derive(Debug, Parser)]
#[command(name = "posthouse", version, arg_required_else_help = true, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell whether a captured webhook is genuine, and exactly why not
    Verify(VerifyArgs),
    /// Sign a sample as its provider would, and send it
    Send(SendArgs),
    /// List the providers that come configured, or tell all about one
    Providers(ProvidersArgs),
    /// Check a gateway.toml
    Check(CheckArgs),
}

/// `posthouse verify`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["request", "vectors"]))]
pub struct VerifyArgs {
    /// A source of the configuration, one of its schemes, or a preset (see `posthouse providers`)
    #[arg(long, value_name = "NAME", conflicts_with = "vectors")]
    pub source: Option<String>,
    /// The request as captured: request line, headers, blank line, body; or one JSON object in the vector format. `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// A file of vectors, one JSON object a line. `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub vectors: Option<PathBuf>,
    /// The configuration
    #[arg(long, value_name = "GATEWAY.TOML")]
    pub config: Option<PathBuf>,
    /// A file with the secret, written as in Secrets Manager: a keyring, or the provider's secret as it is. Without it,
    /// POSTHOUSE_SECRET
    #[arg(long, value_name = "FILE", conflicts_with = "vectors")]
    pub secret_file: Option<PathBuf>,
    /// The URL as it is registered with the provider, instead of the source's `public_url` or the request's own
    #[arg(long, conflicts_with = "vectors")]
    pub url: Option<String>,
    /// The time to verify at, RFC 3339 or unix seconds, instead of the clock
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "vectors")]
    pub now: Option<Timestamp>,
}

/// `posthouse send`
#[derive(Debug, Args)]
pub struct SendArgs {
    /// A source of the configuration, one of its schemes, or a preset (see `posthouse providers`)
    #[arg(long, value_name = "NAME")]
    pub source: String,
    /// The body to send, exactly as it is. `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub event: PathBuf,
    /// The configuration
    #[arg(long, value_name = "GATEWAY.TOML")]
    pub config: Option<PathBuf>,
    /// Where to send it, instead of the source's `public_url`
    #[arg(long)]
    pub url: Option<String>,
    /// A file with the secret, written as in Secrets Manager: a keyring, or the provider's secret as it is. Without it,
    /// POSTHOUSE_SECRET
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// A header to send; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The content type, instead of what the body looks like
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Print the signed request instead of sending it
    #[arg(long)]
    pub dry_run: bool,
}

/// `posthouse providers`
#[derive(Debug, Args)]
pub struct ProvidersArgs {
    /// One of them, to see all that is known and the settings to paste
    pub name: Option<String>,
    /// Print its scheme as a part of gateway.toml, to change it there
    #[arg(long, requires = "name")]
    pub inline: bool,
    /// Print the whole of docs/providers.md
    #[arg(long, conflicts_with = "name")]
    pub markdown: bool,
}

/// `posthouse check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration
    #[arg(value_name = "GATEWAY.TOML")]
    pub file: PathBuf,
}

/// A moment as people write it: RFC 3339, or seconds since the Unix epoch.
fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong = || "write it like 2026-11-22T06:24:35Z, or as seconds since the Unix epoch".to_owned();
    match text.parse::<f64>() {
        Ok(seconds) => from_seconds(seconds).ok_or_else(wrong),
        Err(_) => Timestamp::parse_rfc3339(text).ok_or_else(wrong),
    }
}

/// Seconds since the Unix epoch, whole or not; `None` if they are before it or not a number.
pub(crate) fn from_seconds(seconds: f64) -> Option<Timestamp> {
    let since_epoch = Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(since_epoch.as_millis()).ok().map(Timestamp::from_millis)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it like 'x-event: push'")?;
    http::HeaderName::try_from(name.trim()).map_err(|_| "this is no header's name; write it like 'x-event: push'")?;
    http::HeaderValue::try_from(value.trim()).map_err(|_| "a header's value cannot have this")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn moments_are_read_in_either_form() {
        assert_eq!(moment("1700000000"), Ok(Timestamp::from_seconds(1_700_000_000)));
        assert_eq!(moment("1700000000.25"), Ok(Timestamp::from_millis(1_700_000_000_250)));
        assert_eq!(moment("2023-11-14T22:13:20Z"), Ok(Timestamp::from_seconds(1_700_000_000)));
        for wrong in ["yesterday", "-1", "NaN", "inf", "1e300", ""] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_are_taken_apart_or_refused() {
        assert_eq!(header("X-Event: a:b"), Ok(("X-Event".to_owned(), "a:b".to_owned())));
        assert_eq!(header("x:"), Ok(("x".to_owned(), String::new())));
        for wrong in ["no colon", ": value", "a b: c", "a: b\nc"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_status_two() {
        for wrong in [
            vec!["posthouse"],
            vec!["posthouse", "verify"],
            vec!["posthouse", "verify", "--source", "github"],
            vec!["posthouse", "verify", "--request", "a", "--vectors", "b"],
            vec!["posthouse", "verify", "--vectors", "b", "--now", "1"],
            vec!["posthouse", "verify", "--source", "github", "--request", "a", "--now", "soon"],
            vec!["posthouse", "send", "--source", "github"],
            vec!["posthouse", "send", "--source", "github", "--event", "x", "--header", "nonsense"],
            vec!["posthouse", "providers", "--inline"],
            vec!["posthouse", "check"],
            vec!["posthouse", "chekc", "gateway.toml"],
        ] {
            assert_eq!(Cli::try_parse_from(&wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn help_and_version_are_everywhere() {
        for command in ["verify", "send", "providers", "check"] {
            let help = Cli::try_parse_from(["posthouse", command, "--help"]).unwrap_err();
            assert_eq!(help.exit_code(), 0, "{command}");
            assert!(help.to_string().contains(&format!("Usage: posthouse {command}")), "{help}");
        }
        let version = Cli::try_parse_from(["posthouse", "--version"]).unwrap_err();
        assert_eq!(version.to_string(), concat!("posthouse ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}
