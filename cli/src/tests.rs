//! The commands as a user runs them, from the root of the repository.

mod documented;
mod sampling;
mod sending;
mod verifying;

use std::{
    env, fs,
    io::Cursor,
    path::{Path, PathBuf},
    sync::Once,
};

use clap::Parser;
use serde_json::Value;
use shared::{secrets::Secret, time::Timestamp};

use crate::{Outcome, Surroundings, args::Cli, run};

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
pub(crate) const FRESH_ID: &str = "018bcfe5-6800-7c0e-9a52-0242ac120002";
pub(crate) const SECRET: &str = "posthouse-sample-secret";

static AT_ROOT: Once = Once::new();

/// What a command has said, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u8,
    pub(crate) output: Vec<u8>,
}

impl Said {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    #[track_caller]
    pub(crate) fn is(&self, status: u8, words: &str) {
        assert!(
            self.status == status && self.text().contains(words),
            "expected {status} and `{words}`, got {}: {}",
            self.status,
            self.text()
        );
    }
}

pub(crate) fn at_root() {
    AT_ROOT.call_once(|| env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap());
}

/// Runs a command with that POSTHOUSE_SECRET, if it is not empty, and that standard input.
pub(crate) async fn posthouse(args: &[&str], secret: &str, input: &[u8]) -> Said {
    at_root();
    let cli = match Cli::try_parse_from([&["posthouse"], args].concat()) {
        Ok(cli) => cli,
        Err(error) => return Said { status: u8::try_from(error.exit_code()).unwrap(), output: error.to_string().into_bytes() },
    };
    let surroundings = Surroundings {
        now: NOW,
        secret: Some(Secret::new(secret)).filter(|secret| !secret.expose().is_empty()),
        fresh_id: FRESH_ID.to_owned(),
        input: Box::new(Cursor::new(input.to_vec())),
    };
    let mut output = Vec::new();
    let status = match run(cli, surroundings, &mut output).await {
        Ok(Outcome::Yes) => 0,
        Ok(Outcome::No) => 1,
        Err(stop) => {
            output.extend(stop.to_string().into_bytes());
            2
        }
    };
    Said { status, output }
}

pub(crate) fn vectors(name: &str) -> Vec<Value> {
    at_root();
    let text = fs::read_to_string(format!("tests/vectors/{name}.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A file for this test alone.
pub(crate) fn file(name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = env::temp_dir().join(format!("posthouse-{}-{name}", std::process::id()));
    fs::write(&path, contents).unwrap();
    path
}

pub(crate) fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_good_configuration_is_counted() {
    posthouse(&["check", "infra/gateway/gateway.toml"], "", b"")
        .await
        .is(0, "infra/gateway/gateway.toml: 4 sources, 2 destinations, 5 routes: ok\n");
    let empty = file("empty.toml", "");
    posthouse(&["check", name(&empty)], "", b"").await.is(0, ": 0 sources, 0 destinations, 0 routes: ok\n");
}

#[tokio::test]
async fn a_faulty_configuration_is_told_with_its_line() {
    posthouse(&["check", "cli/testdata/faulty.toml"], "", b"")
        .await
        .is(1, "cli/testdata/faulty.toml:3:10: there is no scheme `gihtub`");
    posthouse(&["check", "no-such-file.toml"], "", b"").await.is(1, "no-such-file.toml:1:1: cannot be read");
    for command in [&["verify", "--source", "github", "--request", "-"][..], &["send", "--source", "github", "--event", "-"]] {
        let args = [command, &["--config", "cli/testdata/faulty.toml"]].concat();
        posthouse(&args, SECRET, b"GET / HTTP/1.1\n\n").await.is(2, "cli/testdata/faulty.toml:3:10: ");
    }
    let broken = file("broken.toml", "[sources.github");
    let args = ["verify", "--vectors", "-", "--config", name(&broken)];
    posthouse(&args, SECRET, b"").await.is(2, "broken.toml:1:");
}

#[tokio::test]
async fn what_is_doubtful_is_a_warning() {
    let doubtful = file(
        "doubtful.toml",
        r#"
        [schemes.open]
        algorithm = "hmac-sha256"
        signed = "{header:x-id}"
        signature = { at = "header:x-s", encoding = "hex" }
        unsigned_body = true
        [schemes.plain]
        algorithm = "sha256"
        signed = "{secret}{body}"
        signature = { at = "header:x-s", encoding = "hex" }
        [sources.a]
        scheme = "plain"
        secret = "a"
        [sources.b]
        scheme = "hubspot"
        secret = "b"
        [sources.c]
        scheme = "gitlab"
        secret = "c"
        [destinations.d]
        type = "handler"
        handler = "d"
        [destinations.e]
        type = "handler"
        handler = "e"
        [[routes]]
        source = "c"
        destination = "d""#,
    );
    let said = posthouse(&["check", name(&doubtful)], "", b"").await;
    said.is(0, ": 3 sources, 2 destinations, 1 route: ok\n");
    let text = said.text();
    for warning in [
        "scheme `open`: no source uses it",
        "scheme `open`: the body is not signed",
        "scheme `plain`: sha256 is a plain hash",
        "source `a`: it has no route",
        "source `b`: it has no route",
        "source `b`: sha256 is a plain hash",
        "source `b`: its provider signs the URL",
        "source `c`: a token proves who sends",
        "destination `e`: no route leads to it",
    ] {
        assert!(text.contains(&format!(": warning: {warning}")), "{warning}\n{text}");
    }
    assert_eq!(text.matches("warning").count(), 9, "{text}");
}

#[tokio::test]
async fn what_can_never_work_is_a_warning() {
    let said = async |settings: &str| {
        let destination = format!("[destinations.d]\ntype = \"http\"\nsecret = \"d\"\n{settings}\n");
        let path = file("reach.toml", destination);
        let said = posthouse(&["check", name(&path)], "", b"").await;
        said.is(0, "1 destination");
        said.text()
    };
    for (url, allow, is_warned) in [
        ("https://127.0.0.1/", "", true),
        ("https://127.0.0.1/", "127.0.0.0/8", false),
        ("https://127.0.0.1/", "10.0.0.0/8", true),
        ("https://0x7f.1/", "", true),
        ("https://169.254.169.254/", "", true),
        ("https://[::ffff:169.254.169.254]/", "", true),
        ("https://[::ffff:169.254.169.254]/", "169.254.169.254/32", false),
        ("https://[::1]/", "::1/128", false),
        ("https://[fc00::1]/", "", true),
        ("https://8.8.8.8/", "", false),
        ("https://[2606:4700::1111]/", "", false),
        ("https://localhost/", "", true),
        ("https://localhost./", "", true),
        ("https://a.LOCALHOST/", "", true),
        ("https://localhost/", "127.0.0.0/8", false),
        ("https://localhost/", "10.0.0.0/8", true),
        ("https://app.internal/", "", true),
        ("https://app.internal/", "10.0.0.0/8", false),
        ("https://printer.local/", "", true),
        ("https://notlocal/", "", false),
        ("https://app.local.example.com/", "", false),
    ] {
        let allow = if allow.is_empty() { String::new() } else { format!("allow_networks = [\"{allow}\"]\n") };
        let text = said(&format!("url = \"{url}\"\n{allow}")).await;
        assert_eq!(text.contains(": warning: destination `d`: `url`: "), is_warned, "{url} {allow}\n{text}");
    }
    let text = said("url = \"https://[::ffff:10.0.0.1]/\"").await;
    assert!(text.contains("say `allow_networks = [\"10.0.0.1/32\"]`"), "{text}");
    let oauth = "url = \"https://example.com/\"\nauth = { type = \"oauth2\", token_url = \"https://10.0.0.1/t\", client_id = \"a\", secret = \"b\" }";
    let text = said(oauth).await;
    assert!(text.contains("destination `d`: `token_url`: 10.0.0.1 is not public"), "{text}");
}

#[tokio::test]
async fn a_secret_that_several_hosts_are_shown_is_a_warning() {
    let said = async |one: &str, other: &str| {
        let destination = |name: &str, settings: &str| format!("[destinations.{name}]\ntype = \"http\"\n{settings}\n");
        let path = file("hosts.toml", destination("one", one) + &destination("other", other));
        let said = posthouse(&["check", name(&path)], "", b"").await;
        said.is(0, "2 destinations");
        said.text()
    };
    let (a, b) = ("url = \"https://a.example.com/\"\n", "url = \"https://b.example.com/\"\n");
    let bearer = "auth = { type = \"bearer\", secret = \"s\" }";
    let client = |host: &str| {
        format!("auth = {{ type = \"oauth2\", token_url = \"https://{host}/\", client_id = \"c\", secret = \"s\" }}")
    };
    for (one, other, warned) in [
        ("secret = \"s\"".to_owned(), "secret = \"s\"".to_owned(), None),
        ("secret = \"s\"\nsigning_key = \"own\"".to_owned(), "secret = \"t\"".to_owned(), None),
        (
            "secret = \"s\"\nsigning_key = \"own\"".to_owned(),
            "secret = \"s\"\nsigning_key = \"own\"".to_owned(),
            Some("the keys in `s` sign for destinations at several hosts"),
        ),
        (
            "secret = \"s\"".to_owned(),
            "secret = \"s\"\nsigning_name = \"one\"".to_owned(),
            Some("the v1 key derived from `s` for `one` signs for destinations at several hosts"),
        ),
        (bearer.to_owned(), bearer.to_owned(), Some("the credential in `s` is shown to destinations at several hosts")),
        (client("l.example.com"), client("l.example.com"), None),
    ] {
        let text = said(&format!("{a}{one}"), &format!("{b}{other}")).await;
        assert_eq!(text.contains("several hosts"), warned.is_some(), "{one} {other}: {text}");
        assert!(text.contains(warned.unwrap_or_default()), "{text}");
        let text = said(&format!("{a}{one}"), &format!("{a}{other}")).await;
        assert!(!text.contains("several hosts"), "{text}");
    }
}

#[tokio::test]
async fn a_registered_query_that_nothing_signs_is_a_warning() {
    for (scheme, is_warned) in [("github", true), ("twilio", false), ("trello", false), ("mailgun", true)] {
        let source = format!("[sources.a]\nscheme = \"{scheme}\"\nsecret = \"a\"\npublic_url = \"https://h/x?b=1\"\n");
        let path = file("registered.toml", source);
        let text = posthouse(&["check", name(&path)], "", b"").await.text();
        assert_eq!(text.contains("the query of its `public_url` is not used"), is_warned, "{scheme}: {text}");
    }
}

#[tokio::test]
async fn providers_are_listed_and_told_of() {
    let table = posthouse(&["providers"], "", b"").await;
    table.is(0, "github  ");
    assert_eq!(table.text().lines().count(), 1 + shared::signatures::preset::Preset::names().count());
    posthouse(&["providers", "aws-sns"], "", b"").await.is(0, "the signing key is public, and fetched");
    posthouse(&["providers", "twilio"], "", b"").await.is(0, "public_url = ");
    posthouse(&["providers", "meta"], "", b"").await.is(0, "Into `<stack>/source/meta-handshake`: ");
    posthouse(&["providers", "asana"], "", b"").await.is(0, "secret = \"asana-enrolled\"");
    posthouse(&["providers", "slack", "--inline"], "", b"").await.is(0, "[schemes.slack]");
    posthouse(&["providers", "gihtub"], "", b"").await.is(2, "there is no preset `gihtub` (did you mean `github`");
    posthouse(&["providers", "--inline"], "", b"").await.is(2, "required");
    posthouse(&["providers", "github", "--markdown"], "", b"").await.is(2, "cannot be used with");
}
