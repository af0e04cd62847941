//! What can be said on the command line.

mod deliveries;

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand};
use shared::{
    event::{BodyDigest, EventKey},
    names::{DestinationName, EventId, EventType, SourceName},
    time::Timestamp,
};

pub use deliveries::{CancelArgs, DeliveriesArgs, DeliveriesCommand};

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
    /// Look at events of a stack and at what is in quarantine beside them, and settle that
    Events(EventsArgs),
    /// End a delivery that is not to be tried any more
    Deliveries(DeliveriesArgs),
    /// Tell how destinations of a stack are, pause one, or let it go on; hand out its key, or rotate that
    Destinations(DestinationsArgs),
    /// Look at the keys that prove a source's webhooks, and replace one that got out
    Keys(KeysArgs),
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
    /// A file with the handshake secret, as a verify token, written as in Secrets Manager
    #[arg(long, value_name = "FILE", conflicts_with = "vectors")]
    pub handshake_secret_file: Option<PathBuf>,
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
    /// A body, or a request as captured (request line, headers, blank line, body), to see what a source, its routes and contracts
    /// make of it; may be given several times. `-` is stdin
    #[arg(long = "sample", value_name = "SOURCE=FILE", value_parser = sample)]
    pub samples: Vec<(SourceName, PathBuf)>,
    /// The samples' event type, instead of what they say of themselves
    #[arg(long = "type", value_name = "TYPE", value_parser = EventType::parse, requires = "samples")]
    pub event_type: Option<EventType>,
}

fn sample(text: &str) -> Result<(SourceName, PathBuf), String> {
    let (source, file) = text.split_once('=').filter(|(_, file)| !file.is_empty()).ok_or("write it like `shop=order.json`")?;
    Ok((SourceName::parse(source).map_err(|error| format!("the source's name {error}"))?, file.into()))
}

/// `posthouse events`
///
/// Region and credentials are found as by other AWS tools: AWS_REGION, AWS_PROFILE, single sign-on, roles.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct EventsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EventsCommand,
}

/// The commands about events.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// List other bodies that came under the id of an event, each side by side with the first
    Conflicts(ListArgs),
    /// List what was signed for an event and came again under another id, each side by side with the first
    Replays(ListArgs),
    /// Show all that is in quarantine beside one event, with whole digests and kept headers
    Conflict(BesideArgs),
    /// Show one event and its deliveries
    Show(ShowArgs),
    /// Make what is in quarantine an event of its own, which is delivered
    Accept(SettleArgs),
    /// Take something out of quarantine that is to go nowhere
    Reject(SettleArgs),
}

impl EventsCommand {
    /// The stack that is meant.
    pub fn stack(&self) -> &str {
        match self {
            Self::Conflicts(args) | Self::Replays(args) => &args.stack,
            Self::Conflict(args) => &args.key.stack,
            Self::Show(args) => &args.key.stack,
            Self::Accept(args) | Self::Reject(args) => &args.key.stack,
        }
    }
}

/// `posthouse events conflicts` and `posthouse events replays`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The stack, as it was deployed
    #[arg(long, value_name = "NAME")]
    pub stack: String,
    /// Those of one source only
    #[arg(long, value_parser = SourceName::parse)]
    pub source: Option<SourceName>,
    /// How many at most, the oldest first
    #[arg(long, value_name = "NUMBER", default_value_t = LISTED_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=LISTED_MAX))]
    pub limit: u16,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Which event.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The stack, as it was deployed
    #[arg(long, value_name = "NAME")]
    pub stack: String,
    /// The event's source
    #[arg(value_parser = SourceName::parse)]
    pub source: SourceName,
    /// The event's id
    #[arg(value_parser = EventId::parse)]
    pub event_id: EventId,
}

impl KeyArgs {
    /// The event.
    pub fn event_key(&self) -> EventKey {
        EventKey { source: self.source.clone(), event_id: self.event_id.clone() }
    }
}

/// `posthouse events conflict`
#[derive(Debug, Args)]
pub struct BesideArgs {
    /// Which event.
    #[command(flatten)]
    pub key: KeyArgs,
    /// Write the bodies into this folder, to be compared. They are your customers' data
    #[arg(long, value_name = "FOLDER")]
    pub bodies: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `posthouse events show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which event.
    #[command(flatten)]
    pub key: KeyArgs,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `posthouse events accept` and `posthouse events reject`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["sha256", "replay"]))]
pub struct SettleArgs {
    /// Which event it is beside.
    #[command(flatten)]
    pub key: KeyArgs,
    /// The SHA-256 of a conflict's body, or its beginning, at least six digits
    #[arg(value_parser = digits)]
    pub sha256: Option<String>,
    /// Instead: the id that a replay came with
    #[arg(long, value_name = "EVENT_ID", value_parser = EventId::parse)]
    pub replay: Option<EventId>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `posthouse destinations`
///
/// Region and credentials are found as by other AWS tools: AWS_REGION, AWS_PROFILE, single sign-on, roles.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct DestinationsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DestinationsCommand,
}

/// The commands about destinations.
#[derive(Debug, Subcommand)]
pub enum DestinationsCommand {
    /// Tell whether a destination is paused, how its circuit is, and how much waits for it
    Show(DestinationArgs),
    /// Let deliveries to a destination wait until it is resumed; no attempt of theirs is spent
    Pause(PauseArgs),
    /// Let a paused destination go on, and forget how it failed; what waits there is sent on, beginning within a minute
    Resume(DestinationArgs),
    /// Print the key that a destination verifies our signatures with: a secret, but for v1a
    Key(DestinationKeyArgs),
    /// Give a destination another key, beside the one that it has until the overlap is over
    Rotate(RotateArgs),
}

/// The file that the template ships.
pub(crate) const SHIPPED_CONFIG: &str = "infra/gateway/gateway.toml";

/// A stack, and the configuration that it was deployed with.
#[derive(Debug, Args)]
pub struct ConfiguredArgs {
    /// The stack, as it was deployed
    #[arg(long, value_name = "NAME")]
    pub stack: String,
    /// The configuration that it was deployed with
    #[arg(long, value_name = "GATEWAY.TOML", default_value = SHIPPED_CONFIG)]
    pub config: PathBuf,
}

/// `posthouse destinations key`
#[derive(Debug, Args)]
pub struct DestinationKeyArgs {
    /// Of which stack.
    #[command(flatten)]
    pub of: ConfiguredArgs,
    /// The destination, as gateway.toml names it
    #[arg(value_parser = DestinationName::parse)]
    pub destination: DestinationName,
}

/// `posthouse keys show`
#[derive(Debug, Args)]
pub struct SourceKeysArgs {
    /// Of which stack.
    #[command(flatten)]
    pub of: ConfiguredArgs,
    /// The source, as gateway.toml names it
    #[arg(value_parser = SourceName::parse)]
    pub source: SourceName,
}

/// Longest overlap of two keys, in days.
pub const OVERLAP_DAYS_MAX: i64 = 90;

/// `posthouse destinations rotate`
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Which destination.
    #[command(flatten)]
    pub which: DestinationKeyArgs,
    /// How long the key that it has goes on signing too, in days; 0 if that one got out
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u16).range(0..=OVERLAP_DAYS_MAX))]
    pub overlap_days: u16,
    /// For a destination with `signing_key = "own"`: a file with the new secret, if the other side has chosen it
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `posthouse keys`
///
/// Region and credentials are found as by other AWS tools: AWS_REGION, AWS_PROFILE, single sign-on, roles.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// The commands about the keys of sources.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys of a source by their position, and which event each has verified last; never the secrets
    Show(SourceKeysArgs),
    /// Put a new key in the place of one that got out, without an overlap
    Replace(ReplaceArgs),
}

/// `posthouse keys replace`
#[derive(Debug, Args)]
pub struct ReplaceArgs {
    /// Which source.
    #[command(flatten)]
    pub which: SourceKeysArgs,
    /// A file with the new secret, as the provider shows it
    #[arg(long, value_name = "FILE")]
    pub secret_file: PathBuf,
    /// Replace only the key at this position, counted from 1 as `keys show` does, and leave the others. Without it, all of them go
    #[arg(long, value_name = "NUMBER")]
    pub position: Option<usize>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `posthouse destinations show` and `posthouse destinations resume`
#[derive(Debug, Args)]
pub struct DestinationArgs {
    /// The stack, as it was deployed
    #[arg(long, value_name = "NAME")]
    pub stack: String,
    /// The configuration that it was deployed with, which must have the destination. Without it, infra/gateway/gateway.toml if that is there
    #[arg(long, value_name = "GATEWAY.TOML")]
    pub config: Option<PathBuf>,
    /// The destination, as gateway.toml names it
    #[arg(value_parser = DestinationName::parse)]
    pub destination: DestinationName,
}

/// `posthouse destinations pause`
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Which destination.
    #[command(flatten)]
    pub which: DestinationArgs,
    /// Why, for whoever looks at it next
    #[arg(long, value_name = "TEXT", default_value = "by an operator", value_parser = reason)]
    pub reason: String,
}

/// Longest reason of a pause or a cancellation, in characters.
pub const REASON_CHARS_MAX: usize = 200;

fn reason(text: &str) -> Result<String, String> {
    let is_one = !text.trim().is_empty() && text.chars().count() <= REASON_CHARS_MAX && !text.chars().any(char::is_control);
    if is_one { Ok(text.to_owned()) } else { Err(format!("write 1 to {REASON_CHARS_MAX} characters on one line")) }
}

/// Most entries of one list.
pub const LISTED_MAX: i64 = 1000;
/// Entries of one list unless the command line says otherwise.
pub const LISTED_DEFAULT: u16 = 100;
/// Fewest hexadecimal digits that name a body.
pub const DIGITS_MIN: usize = 6;

/// The beginning of a SHA-256, as the ledger writes it.
fn digits(text: &str) -> Result<String, String> {
    let is_one =
        (DIGITS_MIN..=2 * size_of::<BodyDigest>()).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(text.to_ascii_lowercase()) } else { Err("write 6 to 64 hexadecimal digits".to_owned()) }
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
            vec!["posthouse", "events"],
            vec!["posthouse", "events", "conflicts"],
            vec!["posthouse", "events", "conflicts", "--stack", "a", "--source", "Git Hub"],
            vec!["posthouse", "events", "show", "--stack", "a", "github"],
            vec!["posthouse", "events", "accept", "--stack", "a", "github", "7"],
            vec!["posthouse", "destinations"],
            vec!["posthouse", "destinations", "pause", "ci"],
            vec!["posthouse", "destinations", "resume", "--stack", "a", "C I"],
            vec!["posthouse", "destinations", "pause", "--stack", "a", "ci", "--reason", " "],
            vec!["posthouse", "events", "accept", "--stack", "a", "github", "7", "abcdef", "--replay", "8"],
        ] {
            assert_eq!(Cli::try_parse_from(&wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn bounds_of_the_events_commands_hold_on_both_sides() {
        let listed =
            |limit: &str| Cli::try_parse_from(["posthouse", "events", "replays", "--stack", "a", "--limit", limit]).is_ok();
        assert!(listed("1") && listed("1000") && !listed("0") && !listed("1001"));
        assert_eq!(digits(&"aB".repeat(DIGITS_MIN / 2)), Ok("ab".repeat(DIGITS_MIN / 2)));
        assert!(digits(&"a".repeat(64)).is_ok());
        for wrong in [&"a".repeat(DIGITS_MIN - 1), &"a".repeat(65), "abcdeg", ""] {
            assert!(digits(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reason_is_bounded() {
        assert!(reason(&"é".repeat(REASON_CHARS_MAX)).is_ok());
        assert!(reason(&"é".repeat(REASON_CHARS_MAX + 1)).is_err());
        assert!(reason("a\nb").is_err());
    }

    #[test]
    fn help_and_version_are_everywhere() {
        for command in ["verify", "send", "providers", "check", "events", "destinations"] {
            let help = Cli::try_parse_from(["posthouse", command, "--help"]).unwrap_err();
            assert_eq!(help.exit_code(), 0, "{command}");
            assert!(help.to_string().contains(&format!("Usage: posthouse {command}")), "{help}");
        }
        let version = Cli::try_parse_from(["posthouse", "--version"]).unwrap_err();
        assert_eq!(version.to_string(), concat!("posthouse ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}
