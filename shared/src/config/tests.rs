use super::*;
use crate::{
    names::EventType,
    signatures::{TOLERANCE_SECONDS_MAX, TOLERANCE_UNREMEMBERED_SECONDS_MAX},
};

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
fn an_unknown_scheme_says_what_may_have_been_meant() {
    let message = spoiled("scheme = \"github\"", "scheme = \"githup\"");
    assert!(
        message.starts_with("gateway.toml:3:10: there is no scheme `githup`; did you mean github or github-sha1?"),
        "{message}"
    );
    assert!(message.contains("posthouse providers"), "{message}");
    let message = spoiled("scheme = \"github\"", "scheme = \"nobody\"");
    assert!(message.starts_with("gateway.toml:3:10: there is no scheme `nobody`; `posthouse providers`"), "{message}");
}

fn source(settings: &str) -> Result<Source, String> {
    let gateway = Gateway::parse(&format!("[sources.s]\n{settings}"), "gateway.toml").map_err(|error| error.to_string())?;
    Ok(gateway.sources.into_values().next().unwrap())
}

#[test]
fn a_secret_that_a_handshake_brings_has_a_name_that_the_receiver_may_write() {
    assert!(source("scheme = \"asana\"\nsecret = \"asana-enrolled\"").is_ok());
    let message = source("scheme = \"asana\"\nsecret = \"asana\"").unwrap_err();
    assert!(message.starts_with("gateway.toml:3:10: ") && message.contains("must end in `-enrolled`"), "{message}");
}

#[test]
fn a_handshake_that_compares_a_secret_needs_one() {
    assert!(source("scheme = \"meta\"\nsecret = \"meta\"\nhandshake_secret = \"meta-verify\"").is_ok());
    let message = source("scheme = \"meta\"\nsecret = \"meta\"").unwrap_err();
    assert!(message.contains("no `handshake_secret`"), "{message}");
    let own = "scheme = \"github\"\nsecret = \"a\"\nhandshake = { method = \"GET\", answer = { body = \"{secret}\" } }";
    assert!(source(own).unwrap_err().contains("handshake: `{secret}` cannot stand in an answer"));
}

#[test]
fn a_public_url_is_kept_as_it_is_registered() {
    let url = |url: &str| {
        source(&format!("scheme = \"square\"\nsecret = \"a\"\npublic_url = \"{url}\"")).map(|source| source.public_url)
    };
    assert_eq!(url("https://u:p@h:8443/x?a=1"), Ok(Some("https://u:p@h:8443/x".to_owned())));
    let kept = source("scheme = \"square\"\nsecret = \"a\"\npublic_url = \"https://h/x?b=2&a=1\"").unwrap();
    assert_eq!(kept.public_query.as_deref(), Some("b=2&a=1"));
    assert_eq!(kept.registered_url().as_deref(), Some("https://h/x?b=2&a=1"));
    for wrong in ["h/x", "https://", "https://h/#a", "https://h/a b"] {
        assert!(url(wrong).unwrap_err().contains("`public_url` "), "{wrong}");
    }
}

#[test]
fn a_source_is_guarded_against_replays_where_its_event_id_is_not_signed() {
    let guarded = |scheme: &str| source(&format!("scheme = \"{scheme}\"\nsecret = \"a\"")).unwrap().replay_guard;
    // Not signed, or what is signed could be of another id: fields that run together, without a time that is compared.
    for unsigned_id in ["github", "shopify", "twilio", "zendesk", "paypal", "mailgun", "nuvei", "adyen"] {
        assert!(guarded(unsigned_id), "{unsigned_id}");
    }
    // Their id is signed, or they have none, or whoever has seen one webhook could send any.
    for other in ["stripe", "standard-webhooks", "slack", "xero", "gitlab", "postmark"] {
        assert!(!guarded(other), "{other}");
    }
    assert!(!source("scheme = \"github\"\nsecret = \"a\"\nreplay_guard = false").unwrap().replay_guard);
}

#[test]
fn a_handshake_signs_for_anybody_only_what_cannot_be_a_webhook() {
    let shake = |scheme: &str, answer: &str| {
        let require = "[{ at = \"json:/challenge\", only = \"token\", chars_max = 128 }]";
        let when = "[{ at = \"json:/challenge\" }]";
        let own = "[schemes.own]\nalgorithm = \"jwt\"\nsignature = { at = \"header:s\" }\njwt = { algorithms = [\"HS256\"] }";
        let text = format!(
            "{own}\nunsigned_body = true\n[sources.s]\nscheme = \"{scheme}\"\nsecret = \"a\"\n\
             handshake = {{ when = {when}, signed = false, require = {require}, answer = {{ body = \"{answer}\" }} }}"
        );
        Gateway::parse(&text, "gateway.toml").map(drop).map_err(|error| error.to_string())
    };
    let plain = "{json:/challenge|hmac-sha256|hex}";
    assert_eq!(shake("github", plain), Ok(()));
    assert!(shake("own", plain).unwrap_err().contains("could be a token"));
    for made in ["{json:/challenge|header-values|hmac-sha256|hex}", "{json:/challenge + url|hmac-sha256|hex}"] {
        assert!(shake("github", made).unwrap_err().contains("signs the value of one place as it is"), "{made}");
    }
}

#[test]
fn a_source_says_what_becomes_of_another_body_under_a_known_id() {
    let policy = |scheme: &str, policy: &str| {
        source(&format!("scheme = \"{scheme}\"\nsecret = \"a\"\n{policy}")).map(|source| source.on_conflict)
    };
    for (written, meant) in [
        ("", OnConflict::Quarantine),
        ("on_conflict = \"quarantine\"", OnConflict::Quarantine),
        ("on_conflict = \"reject\"", OnConflict::Reject),
        ("on_conflict = \"latest\"", OnConflict::Latest),
        ("on_conflict = \"first\"", OnConflict::First),
    ] {
        assert_eq!(policy("stripe", written), Ok(meant), "{written}");
    }
    // Where the id is not signed, whoever has captured one webhook could keep another out.
    for (scheme, written) in [("github", ""), ("shopify", ""), ("github", "on_conflict = \"latest\"")] {
        assert_eq!(policy(scheme, written), Ok(OnConflict::Latest), "{scheme} {written}");
    }
    for vetoing in ["quarantine", "reject", "first"] {
        let message = policy("github", &format!("on_conflict = \"{vetoing}\"")).unwrap_err();
        assert!(message.starts_with("gateway.toml:4:15: `on_conflict` can only be `latest` here"), "{message}");
    }
    for (scheme, why) in [("gitlab", "a token signs nothing"), ("mailgun", "its body is not signed")] {
        assert_eq!(policy(scheme, ""), Ok(OnConflict::Quarantine), "{why}");
    }
    assert_eq!(policy("intercom", ""), Ok(OnConflict::First), "its preset says so");
    assert_eq!(policy("intercom", "on_conflict = \"quarantine\""), Ok(OnConflict::Quarantine));
    let message = policy("github", "on_conflict = \"last\"").unwrap_err();
    assert!(
        message.starts_with("gateway.toml:4:15: ") && message.contains("`quarantine`, `reject`, `latest`, `first`"),
        "{message}"
    );
}

#[test]
fn no_source_has_a_name_that_other_keys_of_the_ledger_begin_with() {
    let named = |name: &str| Gateway::parse(&format!("[sources.{name}]\nscheme = \"github\"\nsecret = \"a\""), "gateway.toml");
    for name in RESERVED_SOURCE_NAMES {
        let message = named(name).unwrap_err().to_string();
        assert!(message.starts_with("gateway.toml:1:10: no source can be called"), "{message}");
        assert!(named(&format!("{name}s")).is_ok());
    }
}

#[test]
fn what_was_signed_is_remembered_for_at_least_as_long_as_the_event() {
    let days = |settings: &str| {
        source(&format!("scheme = \"github\"\nsecret = \"a\"\n{settings}")).map(|source| source.remembered.as_secs() / 86_400)
    };
    assert_eq!(days(""), Ok(REMEMBER_DAYS_DEFAULT));
    assert_eq!(days("dedupe_days = 40\nremember_days = 40"), Ok(40));
    assert!(days("dedupe_days = 40\nremember_days = 39").unwrap_err().contains("`remember_days` must be from 40 to 3650"));
    assert_eq!(days("remember_days = 3650"), Ok(REMEMBER_DAYS_MAX));
    assert!(days("remember_days = 3651").unwrap_err().contains("`remember_days` must be"));
}

#[test]
fn a_type_is_named_by_its_source_or_literally_by_a_route() {
    let text = "[sources.a]\nscheme = \"github\"\nsecret = \"a\"\ntypes = [\"push\"]\n\
                [destinations.d]\ntype = \"http\"\nurl = \"https://example.com/\"\nsecret = \"b\"\n\
                [[routes]]\nsource = \"a\"\ntypes = [\"issues\", \"pull_*\"]\ndestination = \"d\"\n";
    let gateway = Gateway::parse(text, "gateway.toml").unwrap();
    let source = gateway.sources.values().next().unwrap();
    let names = |event_type: &str| source.names_type(&EventType::parse(event_type).unwrap());
    assert!(names("push") && names("issues"));
    assert!(!names("pull_request") && !names("Push") && !names("pull_*"));
    let pattern = Gateway::parse(&text.replace("\"push\"", "\"pu*\""), "gateway.toml").unwrap_err().to_string();
    assert!(pattern.contains("patterns are for routes"), "{pattern}");
}

#[test]
fn the_types_that_nobody_names_are_bounded() {
    let most = |scheme: &str, settings: &str| {
        source(&format!("scheme = \"{scheme}\"\nsecret = \"a\"\n{settings}")).map(|source| source.types_per_content)
    };
    assert_eq!((most("github", ""), most("shopify", "")), (Ok(TYPES_PER_CONTENT_DEFAULT), Ok(8)));
    assert_eq!((most("github", "types_per_content = 1"), most("github", "types_per_content = 16")), (Ok(1), Ok(16)));
    for wrong in ["0", "17"] {
        assert!(most("github", &format!("types_per_content = {wrong}")).unwrap_err().contains("must be from 1 to 16"), "{wrong}");
    }
}

#[test]
fn a_wide_tolerance_needs_a_longer_memory() {
    let scheme = |tolerance: u64| {
        format!(
            "[schemes.s]\nalgorithm = \"hmac-sha256\"\nsigned = \"{{timestamp}}{{body}}\"\n\
             signature = {{ at = \"header:s\", encoding = \"hex\" }}\n\
             timestamp = {{ at = \"header:t\", format = \"seconds\", tolerance_seconds = {tolerance} }}\n\
             [sources.a]\nscheme = \"s\"\nsecret = \"a\"\n"
        )
    };
    let check = |tolerance: u64, settings: &str| {
        Gateway::parse(&format!("{}{settings}", scheme(tolerance)), "gateway.toml").map(drop).map_err(|error| error.to_string())
    };
    let unguarded = "event = { id = \"header:id\" }\nreplay_guard = false";
    assert_eq!(check(TOLERANCE_UNREMEMBERED_SECONDS_MAX, unguarded), Ok(()));
    assert!(check(TOLERANCE_UNREMEMBERED_SECONDS_MAX + 1, unguarded).unwrap_err().contains("leave `replay_guard` on"));
    assert_eq!(check(TOLERANCE_UNREMEMBERED_SECONDS_MAX + 1, "event = { id = \"header:id\" }"), Ok(()));
    let memory = |seconds: u64| format!("event = {{ same_within_seconds = {seconds} }}");
    assert_eq!(check(3600, &memory(3600 + 300 + 1)), Ok(()));
    assert!(check(3600, &memory(3600 + 300)).unwrap_err().contains("must be remembered for 3901 s"));
    assert_eq!(check(TOLERANCE_SECONDS_MAX, "dedupe_days = 18"), Ok(()));
    assert!(check(TOLERANCE_SECONDS_MAX + 1, "").unwrap_err().contains("`tolerance_seconds` must be from 1 to 604800"));
}

#[test]
fn each_event_of_a_batch_needs_an_id_of_its_own() {
    let check = |scheme: &str, event: &str, more: &str| {
        source(&format!("scheme = \"{scheme}\"\nsecret = \"a\"\nevent = {{ {event} }}\n{more}")).map(|source| source.replay_guard)
    };
    assert_eq!(check("github", "each = \"/events\", id = \"json:/id\", type = \"header:x-github-event\"", ""), Ok(false));
    let by_digest = check("standard-webhooks", "each = \"/events\"", "");
    assert_eq!(by_digest, Ok(false), "the id of the whole webhook is not that of each event");
    let outside = check("github", "each = \"/events\", id = \"header:x-github-delivery\"", "").unwrap_err();
    assert!(outside.contains("stands in each element, as `json:/id`"), "{outside}");
    let guarded = check("github", "each = \"/events\", id = \"json:/id\"", "replay_guard = true").unwrap_err();
    assert!(guarded.contains("cannot go with `event.each`"), "{guarded}");
}

#[test]
fn where_the_body_is_not_signed_the_latest_one_is_not_taken() {
    let text = |policy: &str| format!("scheme = \"mailgun\"\nsecret = \"a\"\non_conflict = \"{policy}\"");
    assert!(source(&text("reject")).is_ok());
    let message = source(&text("latest")).unwrap_err();
    assert!(message.starts_with("gateway.toml:4:15: `on_conflict` cannot be `latest`"), "{message}");
}

#[test]
fn a_scheme_says_how_long_its_webhooks_could_be_replayed() {
    let seconds = |scheme: &str| source(&format!("scheme = \"{scheme}\"\nsecret = \"a\"")).unwrap().scheme.replayable_seconds();
    assert_eq!(seconds("stripe"), Some(601));
    assert_eq!(seconds("github"), None);
    assert_eq!(seconds("sendgrid"), None);
}

#[test]
fn a_schemes_own_id_is_the_events_id_unless_the_source_says_otherwise() {
    let own = |event: &str| {
        let scheme = "algorithm = \"hmac-sha256\"\nsigned = \"{id}.{body}\"\nid = \"header:x-id\"\nsignature = { at = \"header:s\", encoding = \"hex\" }";
        let text = format!("[sources.s]\nscheme = \"own\"\nsecret = \"a\"\n{event}\n[schemes.own]\n{scheme}");
        let source = Gateway::parse(&text, "gateway.toml").unwrap().sources.into_values().next().unwrap();
        (source.event.id.unwrap().to_string(), source.replay_guard)
    };
    assert_eq!(own(""), ("header:x-id".to_owned(), false));
    assert_eq!(own("event = { id = \"header:other\" }"), ("header:other".to_owned(), true));
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
        (backoff, "give_up_after_hours = 1", "give_up_after_hours = 0"),
        (backoff, "give_up_after_hours = 336", "give_up_after_hours = 337"),
        (backoff, "concurrency = 1", "concurrency = 0"),
        (backoff, "concurrency = 100", "concurrency = 101"),
        (backoff, "rate = { requests = 1 }", "rate = { requests = 0 }"),
        (backoff, "rate = { requests = 500 }", "rate = { requests = 501 }"),
        (backoff, "rate = { requests = 1000, seconds = 2 }", "rate = { requests = 1001, seconds = 2 }"),
        (backoff, "rate = { requests = 1, seconds = 3600 }", "rate = { requests = 1, seconds = 3601 }"),
        (backoff, "rate = { requests = 1, burst = 1 }", "rate = { requests = 1, burst = 0 }"),
        (backoff, "rate = { requests = 1, burst = 500 }", "rate = { requests = 1, burst = 501 }"),
        (backoff, "circuit = { consecutive = 1 }", "circuit = { consecutive = 0 }"),
        (backoff, "circuit = { consecutive = 1000 }", "circuit = { consecutive = 1001 }"),
        (backoff, "circuit = { percent = 1 }", "circuit = { percent = 0 }"),
        (backoff, "circuit = { percent = 100 }", "circuit = { percent = 101 }"),
        (backoff, "circuit = { wait_seconds = 1 }", "circuit = { wait_seconds = 0 }"),
        (backoff, "circuit = { wait_seconds = 900 }", "circuit = { wait_seconds = 901 }"),
    ] {
        assert!(parses(from, good), "{good}");
        assert!(!parses(from, bad), "{bad}");
    }
    // 14 days of a dead letter, and three days of retries.
    let short =
        GOOD.replacen("destination = \"ci\"", "destination = \"ci\"\n[[routes]]\nsource = \"partner\"\ndestination = \"ci\"", 1);
    let short = |days, hours| {
        let settings = format!("give_up_after_hours = {hours}");
        short.replacen("dedupe_days = 90", &format!("dedupe_days = {days}"), 1).replacen(backoff, &settings, 1)
    };
    assert!(Gateway::parse(&short(17, 72), "gateway.toml").is_ok());
    let message = error(&short(16, 72));
    assert!(message.contains("`dedupe_days` must be at least 17 for the retries and the 14 days"), "{message}");
    assert!(Gateway::parse(&short(16, 48), "gateway.toml").is_ok());
    let waits = |count: usize| format!("backoff_seconds = {:?}", vec![1; count]);
    assert!(parses(backoff, &waits(BACKOFFS_MAX)));
    assert!(!parses(backoff, &waits(BACKOFFS_MAX + 1)));
    let routes = |count: usize| format!("{GOOD}{}", "[[routes]]\nsource = \"partner\"\ndestination = \"ci\"\n".repeat(count));
    assert!(Gateway::parse(&routes(ROUTES_PER_SOURCE_MAX), "gateway.toml").is_ok());
    assert!(error(&routes(ROUTES_PER_SOURCE_MAX + 1)).contains("more than 100 routes"));
    let contracts = |count: usize| format!("{GOOD}{}", "[[contracts]]\nsource = \"partner\"\nschema = \"a\"\n".repeat(count));
    assert!(Gateway::parse(&contracts(CONTRACTS_PER_SOURCE_MAX), "gateway.toml").is_ok());
    assert!(error(&contracts(CONTRACTS_PER_SOURCE_MAX + 1)).contains("more than 64 contracts"));
    let fan_out = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("d{n}")).collect();
        let handlers = names.iter().map(|name| format!("[destinations.{name}]\ntype = \"handler\"\nhandler = \"customers\"\n"));
        format!("{GOOD}\n[[routes]]\nsource = \"partner\"\ndestination = {names:?}\n{}", handlers.collect::<String>())
    };
    let widest = Gateway::parse(&fan_out(DESTINATIONS_PER_SOURCE_MAX), "gateway.toml").unwrap();
    assert_eq!(widest.sources[&SourceName::parse("partner").unwrap()].destinations(&EventType::unknown()).len(), 10);
    assert!(error(&fan_out(DESTINATIONS_PER_SOURCE_MAX + 1)).contains("more than 10 destinations"));
    for (key, max) in [("filter", EXPRESSION_BYTES_MAX), ("map", EXPRESSION_BYTES_MAX)] {
        let expression = |length: usize| {
            let route = format!("destination = \"ci\"\n{key} = \"{}\"", ".".repeat(length));
            Gateway::parse(&GOOD.replacen("destination = \"ci\"", &route, 1), "gateway.toml").is_ok()
        };
        assert!(expression(max) && !expression(max + 1), "{key}");
    }
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
fn what_protects_a_destination_means_what_it_says() {
    let settings = |settings: &str| {
        let text = format!("[destinations.d]\ntype = \"http\"\nurl = \"https://a.b\"\nsecret = \"s\"\n{settings}");
        Gateway::parse(&text, "gateway.toml").unwrap().destinations.into_values().next().unwrap()
    };
    let plain = settings("");
    assert_eq!((plain.rate, plain.concurrency, plain.give_up_after), (None, None, Duration::from_secs(72 * 60 * 60)));
    let circuit = CircuitSpec { consecutive: 10, percent: 50, wait: Duration::from_secs(30) };
    assert_eq!(plain.circuit, Some(circuit));
    assert_eq!(settings("circuit = { enabled = false }").circuit, None);
    assert_eq!(settings("circuit = { consecutive = 3 }").circuit, Some(CircuitSpec { consecutive: 3, ..circuit }));
    let rate = settings("rate = { requests = 3, seconds = 2, burst = 5 }").rate;
    assert_eq!(rate, Some(Rate { interval: Duration::from_millis(667), burst: 5 }));
    assert_eq!(settings("concurrency = 4").concurrency, Some(4));
    assert!(spoiled("handler = \"customers\"", "handler = \"customers\"\ncircuit = {}").contains("`circuit` means nothing"));
}

/// The routes of one source over two destinations.
fn routed(routes: &str) -> Result<Source, String> {
    let destinations = ["one", "two"].map(|name| format!("[destinations.{name}]\ntype = \"handler\"\nhandler = \"x\"\n"));
    source(&format!("scheme = \"github\"\nsecret = \"s\"\n{}{routes}", destinations.concat()))
}

#[test]
fn a_default_route_takes_what_no_other_takes() {
    let source = routed(
        "[[routes]]\nsource = \"s\"\ntypes = [\"push\"]\nfilter = \"false\"\ndestination = \"one\"\n\
         [[routes]]\nsource = \"s\"\ndefault = true\ndestination = [\"two\", \"one\"]",
    )
    .unwrap();
    let destinations = |event_type: &str| {
        source.destinations(&EventType::parse(event_type).unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(destinations("push"), ["one"], "a filter is asked later");
    assert_eq!(destinations("issues"), ["two", "one"]);
}

#[test]
fn what_a_route_or_a_contract_cannot_mean_is_named_with_its_line() {
    let message = |text: &str| routed(text).unwrap_err();
    assert!(message("[[routes]]\nsource = \"s\"\ndestination = []").contains("the route has no destination"));
    let at = message("[[routes]]\nsource = \"s\"\ndestination = [\"one\", \"three\"]");
    assert!(at.starts_with("gateway.toml:12:23: the route's destination `three` is not"), "{at}");
    assert!(message("[[contracts]]\nsource = \"s\"").contains("the contract asks for nothing"));
    assert!(message("[[contracts]]\nsource = \"t\"\nschema = \"a\"").contains("the contract's source `t` is not configured"));
    for elsewhere in ["../a.json", "/a.json", "", "a/../../b"] {
        let text = format!("[[contracts]]\nsource = \"s\"\nschema = \"{elsewhere}\"");
        assert!(message(&text).contains("names a file beside gateway.toml"), "{elsewhere}");
    }
    let version = |version: &str| format!("[[contracts]]\nsource = \"s\"\nschema_version = {version}");
    assert!(message(&version("{ at = \"query:v\", is = \"1\" }")).contains("stands in the body or in a header"));
    assert!(message(&version("{ at = \"json:/v\", is = [] }")).contains("knows no version"));
    assert_eq!(routed(&version("{ at = \"json:/v\", is = \"1\" }")).unwrap().contracts.len(), 1);
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
fn claims_are_places_of_events_where_every_way_of_signing_is_a_token() {
    let jwt = "{ algorithm = \"jwt\", signature = { at = \"body\" }, jwt = { algorithms = [\"HS256\"] } }";
    let hmac = "{ algorithm = \"hmac-sha256\", signed = \"{body}\", signature = { at = \"header:s\", encoding = \"hex\" } }";
    let detached = "{ algorithm = \"jws-detached\", signed = \"{body}\", signature = { at = \"header:j\" }, jwt = { algorithms = [\"HS256\"] } }";
    let parse = |alternatives: &[&str], id: &str| {
        let file = format!(
            "[schemes.acme]\nfirst_of = [{}]\n[sources.acme]\nscheme = \"acme\"\nsecret = \"acme\"\nevent = {{ id = \"{id}\" }}",
            alternatives.join(", ")
        );
        Gateway::parse(&file, "gateway.toml").map_err(|error| error.to_string())
    };
    assert!(parse(&[jwt], "claim:/jti").is_ok());
    assert!(parse(&[jwt, jwt], "claim:/jti").is_ok());
    for others in [[jwt, hmac], [hmac, jwt], [jwt, detached]] {
        assert!(parse(&others, "claim:/jti").unwrap_err().contains("every alternative is a JWT"));
    }
    assert!(parse(&[jwt], "body").unwrap_err().contains("cannot look into the signature"));
    // What is signed tells replays apart by itself.
    let gateway = parse(&[jwt], "claim:/jti").unwrap();
    assert!(!gateway.sources.values().next().unwrap().replay_guard);
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

const ACME: &str =
    "[schemes.acme]\nalgorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nsignature = { at = \"header:s\", encoding = \"hex\" }";

#[test]
fn every_configuration_that_we_ship_or_document_is_good() {
    let shipped = [
        ("infra/gateway/gateway.toml", include_str!("../../../infra/gateway/gateway.toml")),
        ("infra/local/gateway/gateway.toml", include_str!("../../../infra/local/gateway/gateway.toml")),
    ];
    let documented = [
        ("README.md", include_str!("../../../README.md")),
        ("docs/configuration.md", include_str!("../../../docs/configuration.md")),
        ("docs/destinations.md", include_str!("../../../docs/destinations.md")),
        ("docs/deploy.md", include_str!("../../../docs/deploy.md")),
        ("docs/schemes.md", include_str!("../../../docs/schemes.md")),
    ];
    let blocks = documented.into_iter().flat_map(|(file, text)| {
        let blocks = fenced(text, "toml");
        assert!(!blocks.is_empty(), "{file} shows no configuration");
        blocks.into_iter().map(move |block| (file, block))
    });
    // What is shown in parts is one file: a source may name a scheme that another part describes.
    let blocks = blocks.map(|(file, block)| match block.contains("scheme = \"acme\"") && !block.contains("[schemes.acme]") {
        true => (file, format!("{ACME}\n{block}")),
        false => (file, block.to_owned()),
    });
    let shipped = shipped.map(|(file, text)| (file, text.to_owned()));
    for (file, text) in shipped.into_iter().chain(blocks) {
        if let Err(error) = Gateway::parse(&text, file) {
            panic!("{error}\n{text}");
        }
    }
}

#[test]
fn the_documented_enrolment_is_one() {
    let [enrolment] = fenced(include_str!("../../../docs/schemes.md"), "json")[..] else { panic!("not one") };
    let keyring = crate::secrets::Keyring::parse(enrolment).unwrap();
    let just_before = crate::time::Timestamp::parse_rfc3339("2026-12-01T08:59:59Z").unwrap();
    assert!(keyring.enrolled(crate::secrets::Secret::new("brought"), just_before).is_some());
}

#[test]
fn the_documented_keyring_is_one() {
    for keyring in fenced(include_str!("../../../docs/configuration.md"), "json") {
        assert_eq!(crate::secrets::Keyring::parse(keyring).map(|keyring| keyring.keys().len()), Ok(2));
    }
}

#[test]
fn a_batch_of_a_scheme_that_signs_needs_a_signed_body() {
    let own = |signed: &str, rest: &str| {
        let scheme = format!(
            "[schemes.own]\nalgorithm = \"hmac-sha256\"\nsigned = \"{signed}\"\nsignature = {{ at = \"header:s\", encoding = \"hex\" }}\n\
             unsigned_body = {}",
            signed != "{body}"
        );
        let text = format!("{scheme}\n[sources.s]\nscheme = \"own\"\nsecret = \"a\"\n{rest}");
        Gateway::parse(&text, "gateway.toml").map(drop).map_err(|error| error.to_string())
    };
    let each = "event = { each = \"/events\", id = \"json:/id\" }";
    assert_eq!(own("{body}", each), Ok(()));
    assert!(own("{header:x-id}", each).unwrap_err().contains("`event.each` needs a signed body"));
}
