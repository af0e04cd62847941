use super::*;

const GOOD: &str = r#"
[sources.github]
scheme = "github"
secret = "github"

[sources.partner]
scheme = "standard-webhooks"
secret = "partner"
body_bytes_max = 1024
dedupe_days = 90
answer = { status = 204, body = "" }

[destinations.ci]
type = "http"
url = "https://example.com/hook"
secret = "delivery-signing"
backoff_seconds = [1, 43200]

[destinations.customers]
type = "handler"
handler = "customers"

[[routes]]
source = "github"
types = ["push", "pull_request*"]
destination = "ci"

[[routes]]
source = "github"
destination = "customers"
"#;

fn error(text: &str) -> String {
    Gateway::parse(text, "gateway.toml").unwrap_err().to_string()
}

/// GOOD with `from` replaced, which must be there.
fn spoiled(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    error(&GOOD.replacen(from, to, 1))
}

#[test]
fn a_good_file_means_what_it_says() {
    let gateway = Gateway::parse(GOOD, "gateway.toml").unwrap();
    let github = &gateway.sources[&SourceName::parse("github").unwrap()];
    let destinations = |event_type: &str| {
        let found = github.destinations(&EventType::parse(event_type).unwrap());
        found.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(destinations("push"), ["ci", "customers"]);
    assert_eq!(destinations("pull_request_review"), ["ci", "customers"]);
    assert_eq!(destinations("issues"), ["customers"]);
    assert_eq!(github.body_bytes_max, BODY_BYTES_MAX);
    assert_eq!(github.dedupe, Duration::from_secs(35 * 24 * 60 * 60));
    let partner = &gateway.sources[&SourceName::parse("partner").unwrap()];
    assert_eq!(partner.answer, AnswerSpec { status: Some(204), body: Some(String::new()) });
    let ci = &gateway.destinations[&DestinationName::parse("ci").unwrap()];
    assert_eq!(ci.attempts_max(), 3);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let message = spoiled("dedupe_days = 90", "dedupe_dayz = 90");
    assert!(message.starts_with("gateway.toml:10:1: "), "{message}");
    assert!(message.contains("dedupe_dayz"), "{message}");
}

#[test]
fn a_missing_secret_is_named_with_its_line() {
    let message = spoiled("secret = \"github\"\n", "");
    assert!(message.starts_with("gateway.toml:2:10: source `github` has no `secret`"), "{message}");
}

#[test]
fn a_route_to_nowhere_is_named_with_its_line() {
    let message = spoiled("destination = \"ci\"", "destination = \"cd\"");
    assert!(message.starts_with("gateway.toml:26:15: the route's destination `cd`"), "{message}");
    let message = spoiled("source = \"github\"\ntypes", "source = \"gitlab\"\ntypes");
    assert!(message.starts_with("gateway.toml:24:10: the route's source `gitlab`"), "{message}");
}

#[test]
fn a_duplicate_name_is_named_with_its_line() {
    let message = error(&format!("{GOOD}\n[sources.github]\nscheme = \"github\"\nsecret = \"x\"\n"));
    assert!(message.starts_with("gateway.toml:32:10: "), "{message}");
    assert!(message.contains("duplicate"), "{message}");
}

#[test]
fn an_unknown_scheme_says_which_there_are() {
    let message = spoiled("scheme = \"github\"", "scheme = \"gitlab\"");
    assert!(message.starts_with("gateway.toml:3:10: there is no scheme `gitlab`: presets are github, "), "{message}");
}

#[test]
fn a_scheme_of_the_file_is_used_and_checked() {
    let own = "\n[schemes.own]\nalgorithm = \"hmac-sha512\"\nsigned = \"{body}\"\nsignature = { at = \"header:x\", encoding = \"hex\" }\n";
    let text = format!("{}{own}", GOOD.replacen("scheme = \"github\"", "scheme = \"own\"", 1));
    assert!(Gateway::parse(&text, "gateway.toml").is_ok());
    let message = error(&text.replace("signed = \"{body}\"", "signed = \"x\""));
    assert!(message.starts_with("gateway.toml:32:10: scheme `own`: `signed` must have `{body}`"), "{message}");
}

#[test]
fn every_bound_holds_on_both_sides() {
    let parses = |from: &str, to: &str| Gateway::parse(&GOOD.replacen(from, to, 1), "gateway.toml").is_ok();
    let backoff = "backoff_seconds = [1, 43200]";
    for (from, good, bad) in [
        ("dedupe_days = 90", "dedupe_days = 1", "dedupe_days = 0"),
        ("dedupe_days = 90", "dedupe_days = 90", "dedupe_days = 91"),
        ("body_bytes_max = 1024", "body_bytes_max = 1", "body_bytes_max = 0"),
        ("body_bytes_max = 1024", "body_bytes_max = 6291456", "body_bytes_max = 6291457"),
        ("status = 204", "status = 200", "status = 199"),
        ("status = 204", "status = 299", "status = 300"),
        (backoff, "backoff_seconds = []", "backoff_seconds = [0]"),
        (backoff, "backoff_seconds = [43200]", "backoff_seconds = [43201]"),
        (backoff, "timeout_seconds = 1", "timeout_seconds = 0"),
        (backoff, "timeout_seconds = 30", "timeout_seconds = 31"),
    ] {
        assert!(parses(from, good), "{good}");
        assert!(!parses(from, bad), "{bad}");
    }
    let waits = |count: usize| format!("backoff_seconds = {:?}", vec![1; count]);
    assert!(parses(backoff, &waits(BACKOFFS_MAX)));
    assert!(!parses(backoff, &waits(BACKOFFS_MAX + 1)));
    let routes = |count: usize| format!("{GOOD}{}", "[[routes]]\nsource = \"partner\"\ndestination = \"ci\"\n".repeat(count));
    assert!(Gateway::parse(&routes(ROUTES_PER_SOURCE_MAX), "gateway.toml").is_ok());
    assert!(error(&routes(ROUTES_PER_SOURCE_MAX + 1)).contains("more than 10 routes"));
}

#[test]
fn a_url_is_https_unless_plaintext_is_meant() {
    let url = "url = \"https://example.com/hook\"";
    assert!(spoiled(url, "url = \"http://example.com/\"").contains("allow_plaintext"));
    assert!(spoiled(url, "url = \"example.com\"").contains("`url`"));
    assert!(spoiled(url, "url = \"https:///x\"").contains("`url`"));
    assert!(spoiled(url, "url = \"https://user:hush@example.com/\"").contains("secrets are not for this file"));
    let meant = GOOD.replacen(url, "url = \"http://127.0.0.1:1/\"\nallow_plaintext = true", 1);
    assert!(Gateway::parse(&meant, "gateway.toml").is_ok());
}

#[test]
fn settings_of_another_type_of_destination_are_refused() {
    assert!(spoiled("handler = \"customers\"", "handler = \"customers\"\nurl = \"https://a.b\"").contains("means nothing"));
    assert!(spoiled("backoff_seconds", "handler = \"x\"\nbackoff_seconds").contains("means nothing"));
    assert!(spoiled("handler = \"customers\"", "").contains("has no `handler`"));
    assert!(spoiled("type = \"handler\"", "type = \"ftp\"").contains("ftp"));
}

#[test]
fn a_handler_that_the_worker_lacks_is_named_with_its_line() {
    let gateway = Gateway::parse(GOOD, "gateway.toml").unwrap();
    assert!(gateway.check_handlers(&["customers"], "gateway.toml").is_ok());
    let message = gateway.check_handlers(&["orders"], "gateway.toml").unwrap_err().to_string();
    assert!(message.starts_with("gateway.toml:19:1: there is no handler `customers`"), "{message}");
}

#[test]
fn what_could_only_be_a_mistake_is_refused() {
    assert!(spoiled("types = [\"push\", \"pull_request*\"]", "types = []").contains("takes nothing"));
    let event = "secret = \"github\"\nevent = { id = \"signature:t\" }";
    assert!(spoiled("secret = \"github\"", event).contains("cannot look into the signature"));
}

#[test]
fn text_that_is_no_toml_is_named_with_its_line() {
    let message = error("[sources.github]\nscheme = ");
    assert!(message.starts_with("gateway.toml:2:"), "{message}");
}

/// The fenced blocks of that language in a Markdown text.
fn fenced<'a>(markdown: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    markdown.split(opening.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_configuration_that_we_ship_or_document_is_good() {
    let shipped = [
        ("infra/gateway/gateway.toml", include_str!("../../../infra/gateway/gateway.toml")),
        ("infra/local/gateway/gateway.toml", include_str!("../../../infra/local/gateway/gateway.toml")),
    ];
    let documented = [
        ("README.md", include_str!("../../../README.md")),
        ("docs/configuration.md", include_str!("../../../docs/configuration.md")),
        ("docs/deploy.md", include_str!("../../../docs/deploy.md")),
    ];
    let blocks = documented.into_iter().flat_map(|(file, text)| {
        let blocks = fenced(text, "toml");
        assert!(!blocks.is_empty(), "{file} shows no configuration");
        blocks.into_iter().map(move |block| (file, block))
    });
    for (file, text) in shipped.into_iter().chain(blocks) {
        if let Err(error) = Gateway::parse(text, file) {
            panic!("{error}\n{text}");
        }
    }
}

#[test]
fn the_documented_keyring_is_one() {
    for keyring in fenced(include_str!("../../../docs/configuration.md"), "json") {
        assert_eq!(crate::secrets::Keyring::parse(keyring).map(|keyring| keyring.keys().len()), Ok(2));
    }
}
