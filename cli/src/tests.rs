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
    for command in [
        &["verify", "--vectors", "-"][..],
        &["verify", "--source", "a", "--request", "-"],
        &["send", "--source", "a", "--event", "-"],
    ] {
        let args = [command, &["--config", "cli/testdata/faulty.toml"]].concat();
        posthouse(&args, SECRET, b"").await.is(2, "cli/testdata/faulty.toml:3:10: ");
    }
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
async fn providers_are_listed_and_told_of() {
    let table = posthouse(&["providers"], "", b"").await;
    table.is(0, "github  ");
    assert_eq!(table.text().lines().count(), 1 + shared::signatures::preset::Preset::names().count());
    posthouse(&["providers", "aws-sns"], "", b"").await.is(0, "the signing key is public, and fetched");
    posthouse(&["providers", "twilio"], "", b"").await.is(0, "public_url = ");
    posthouse(&["providers", "meta"], "", b"").await.is(0, "Into `<stack>/meta-handshake`: ");
    posthouse(&["providers", "asana"], "", b"").await.is(0, "secret = \"asana-enrolled\"");
    posthouse(&["providers", "slack", "--inline"], "", b"").await.is(0, "[schemes.slack]");
    posthouse(&["providers", "gihtub"], "", b"").await.is(2, "there is no preset `gihtub` (did you mean `github`");
    posthouse(&["providers", "--inline"], "", b"").await.is(2, "required");
    posthouse(&["providers", "github", "--markdown"], "", b"").await.is(2, "cannot be used with");
}
