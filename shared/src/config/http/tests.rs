use std::time::Duration;

use super::*;
use crate::{
    config::{DestinationKind, Gateway},
    signatures::outgoing::SignatureVersion,
};

const PEM: &str = include_str!("../../../testdata/keys/sns-certificate.pem");

/// The destination that these settings describe, beside its URL and its secret.
fn http(settings: &str) -> Result<HttpDestination, String> {
    parse(&format!("url = \"https://a.b\"\nsecret = \"s\"\n{settings}"))
}

fn parse(settings: &str) -> Result<HttpDestination, String> {
    let text = format!("[destinations.d]\ntype = \"http\"\n{settings}");
    let gateway = Gateway::parse(&text, "gateway.toml").map_err(|error| error.to_string())?;
    match gateway.destinations.into_values().next().map(|destination| destination.kind) {
        Some(DestinationKind::Http(http)) => Ok(*http),
        _ => panic!("it is http"),
    }
}

/// The error of these settings, which stand on line 5 in column `column`.
fn refused(settings: &str, column: usize) -> String {
    let message = http(settings).unwrap_err();
    let place = format!("gateway.toml:5:{column}: ");
    message.strip_prefix(&place).unwrap_or_else(|| panic!("not at {place}{message}")).to_owned()
}

#[test]
fn without_settings_there_is_nothing_but_the_usual() {
    let usual = http("").unwrap();
    let derived = SigningKey::Derived { name: "d".to_owned() };
    let signing = Signing { secret: "s".to_owned(), key: derived, version: SignatureVersion::V1 };
    assert_eq!((usual.signing, usual.auth, usual.headers), (Some(signing), None, Vec::new()));
    assert_eq!(usual.statuses, Statuses::default());
    assert_eq!((usual.timeout, usual.response_bytes_max), (Duration::from_secs(10), 64 * 1024));
    let nothing = Connecting { timeout: Duration::from_secs(3), allow_networks: Vec::new(), ca: None };
    assert_eq!(usual.connecting, nothing);
}

#[test]
fn every_bound_holds_on_both_sides() {
    let oauth = "auth = { type = \"oauth2\", token_url = \"https://a.b\", client_id = \"a\", secret = \"a-oauth\", grant = \"refresh_token\" }";
    let list = |what: &str, one: &str, count: usize| format!("{what} = [{}]", vec![one; count].join(", "));
    let headers = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("x-{n} = \"a\"")).collect();
        format!("headers = {{ {} }}", all.join(", "))
    };
    let value = |text: String| format!("headers = {{ x = \"{text}\" }}");
    let scopes = |count: usize| {
        let list = list("scopes", "\"a\"", count);
        format!("auth = {{ type = \"oauth2\", token_url = \"https://a.b\", client_id = \"a\", secret = \"a\", {list} }}")
    };
    let ca = |bytes: usize| format!("ca = '''{PEM}{}'''", "\n".repeat(bytes - PEM.len()));
    for (good, bad) in [
        ("response_bytes_max = 1".to_owned(), "response_bytes_max = 0".to_owned()),
        (format!("response_bytes_max = {RESPONSE_BYTES_MAX}"), format!("response_bytes_max = {}", RESPONSE_BYTES_MAX + 1)),
        ("connect_timeout_seconds = 1".to_owned(), "connect_timeout_seconds = 0".to_owned()),
        ("connect_timeout_seconds = 10".to_owned(), "connect_timeout_seconds = 11".to_owned()),
        (format!("{oauth}\ntimeout_seconds = 24"), format!("{oauth}\ntimeout_seconds = 25")),
        (list("allow_networks", "\"10.0.0.0/8\"", NETWORKS_MAX), list("allow_networks", "\"10.0.0.0/8\"", NETWORKS_MAX + 1)),
        (headers(HEADERS_MAX), headers(HEADERS_MAX + 1)),
        (value("a".repeat(HEADER_VALUE_BYTES_MAX)), value("a".repeat(HEADER_VALUE_BYTES_MAX + 1))),
        (value("{event.id}".repeat(HEADER_FIELDS_MAX)), value("{event.id}".repeat(HEADER_FIELDS_MAX + 1))),
        (scopes(SCOPES_MAX), scopes(SCOPES_MAX + 1)),
        (ca(CA_BYTES_MAX), ca(CA_BYTES_MAX + 1)),
    ] {
        assert!(http(&good).is_ok(), "{good}: {:?}", http(&good).err());
        assert!(http(&bad).is_err(), "{bad}");
    }
    assert_eq!(http("timeout_seconds = 2").unwrap().connecting.timeout, Duration::from_secs(2), "never longer than the whole");
    let write = Duration::from_secs(TOKEN_WRITE_SECONDS);
    assert_eq!(http(oauth).unwrap().attempt_max(), Duration::from_secs(10) + write);
    assert_eq!(http("").unwrap().attempt_max(), Duration::from_secs(10));
}

#[test]
fn headers_are_text_with_placeholders() {
    let render = |text: &str| {
        let headers = http(&format!("headers = {{ X-Own = '{text}' }}")).unwrap().headers;
        assert_eq!(headers[0].name, "x-own");
        headers[0].value.render(|field| format!("<{field:?}>"))
    };
    assert_eq!(render("acme"), "acme");
    assert_eq!(render("a {event.type}/{event.id}"), "a <EventType>/<EventId>");
    assert_eq!(render("{event.source}{event.received_at}"), "<EventSource><ReceivedAt>");
    assert_eq!(render("{event.occurred_at}{delivery.destination}{delivery.attempt}"), "<OccurredAt><Destination><Attempt>");
    assert_eq!(render("{header:X-Github-Event}"), "<Header(\"x-github-event\")>");
    assert_eq!(render("{{event.id}} }}{{"), "{event.id} }{");
}

#[test]
fn a_header_that_cannot_be_sent_is_named_with_its_place() {
    for name in [
        "host",
        "Content-Length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "idempotency-key",
        "webhook-id",
        "Webhook-Anything",
        "posthouse-source",
        "expect",
    ] {
        let message = refused(&format!("headers = {{ {name} = \"a\" }}"), 13);
        assert!(message.contains("cannot be set"), "{name}: {message}");
    }
    assert!(refused("headers = { authorization = \"a\" }", 13).contains("is for `auth`"));
    assert!(refused("headers = { \"a b\" = \"a\" }", 13).contains("is no header's name"));
    assert!(refused("headers = { X-a = \"a\", x-a = \"a\" }", 24).contains("is there twice"));
    assert!(refused("headers = { x = \"{event.body}\" }", 17).contains("`{event.body}`, which there is not"));
    assert!(refused("headers = { x = \"{header:a b}\" }", 17).contains("which there is not"));
    assert!(refused("headers = { x = \"{event.id\" }", 17).contains("without its `}`"));
    assert!(refused("headers = { x = \"event.id}\" }", 17).contains("without its `{`"));
    for control in ["\\n", "\\r", "\\u0000", "\\u007f", "é"] {
        assert!(refused(&format!("headers = {{ x = \"a{control}\" }}"), 17).contains("a control character"), "{control}");
    }
    let own = "auth = { type = \"api_key\", header = \"X-Key\", secret = \"a\" }\nheaders = { x-key = \"a\" }";
    assert!(http(own).unwrap_err().starts_with("gateway.toml:6:13: the header `x-key` is that of `auth`"));
}

#[test]
fn each_type_of_auth_has_what_it_needs_and_nothing_else() {
    let auth = |settings: &str| http(&format!("auth = {{ {settings} }}")).map(|http| http.auth.unwrap());
    assert_eq!(auth("type = \"bearer\", secret = \"a\""), Ok(Auth::Bearer("a".to_owned())));
    assert_eq!(auth("type = \"basic\", secret = \"a\""), Ok(Auth::Basic("a".to_owned())));
    let key = auth("type = \"api_key\", header = \"X-Api-Key\", secret = \"a\"").unwrap();
    assert_eq!((key.header(), &key), ("x-api-key", &key));
    let oauth = "type = \"oauth2\", token_url = \"https://a.b/token\", client_id = \"c\", secret = \"a\"";
    let Ok(Auth::OAuth(usual)) = auth(oauth) else { panic!("it is one") };
    assert_eq!((usual.grant, usual.client_auth, usual.scopes), (Grant::ClientCredentials, ClientAuth::Basic, Vec::new()));
    let all = "scopes = [\"a:b\", \"c\"], audience = \"d\", resource = \"e\", client_auth = \"body\", grant = \"refresh_token\"";
    let Ok(Auth::OAuth(full)) = auth(&format!("{}, {all}", oauth.replace("\"a\"", "\"a-oauth\""))) else { panic!("it is one") };
    assert_eq!((full.grant, full.client_auth, full.scopes.len()), (Grant::RefreshToken, ClientAuth::Body, 2));
    for (wrong, why) in [
        ("type = \"bearer\"".to_owned(), "has no `secret`"),
        ("type = \"digest\", secret = \"a\"".to_owned(), "digest"),
        ("type = \"bearer\", secret = \"a\", header = \"x\"".to_owned(), "`header` means nothing"),
        ("type = \"bearer\", secret = \"a\", sekret = \"x\"".to_owned(), "sekret"),
        ("type = \"api_key\", secret = \"a\"".to_owned(), "has no `header`"),
        ("type = \"api_key\", secret = \"a\", header = \"host\"".to_owned(), "cannot be set"),
        ("type = \"oauth2\", secret = \"a\"".to_owned(), "has no `token_url`"),
        (oauth.replace("client_id = \"c\", ", ""), "has no `client_id`"),
        (oauth.replace("\"c\"", "\"\""), "`client_id` is empty"),
        (oauth.replace("https", "http"), "`token_url` is not https"),
        (format!("{oauth}, scopes = [\"a b\"]"), "a scope has"),
        (format!("{oauth}, grant = \"refresh_token\""), "must end in `-oauth`"),
        (format!("{oauth}, grant = \"password\""), "password"),
    ] {
        let message = auth(&wrong).unwrap_err();
        assert!(message.starts_with("gateway.toml:5:") && message.contains(why), "{wrong}: {message}");
    }
}

#[test]
fn a_destination_is_signed_with_a_key_of_its_own_unless_it_has_another_name_or_secret() {
    let signing = |settings: &str| http(settings).unwrap().signing.unwrap();
    assert_eq!(signing("").key, SigningKey::Derived { name: "d".to_owned() });
    assert_eq!(signing("signing_name = \"before\"").key, SigningKey::Derived { name: "before".to_owned() });
    assert_eq!(signing("signing_key = \"derived\"").key, signing("").key);
    assert_eq!(signing("signing_key = \"own\"").key, SigningKey::Own);
    assert_eq!(signing("signature = \"v1\"").version, SignatureVersion::V1);
    assert_eq!(signing("signature = \"v1a\"").version, SignatureVersion::V1a);
    assert!(refused("signature = \"v2\"", 13).contains("unknown variant `v2`"));
    assert!(refused("signing_name = \"A\"", 16).contains("lower"), "{}", refused("signing_name = \"A\"", 16));
    let both = http("signing_key = \"own\"\nsigning_name = \"a\"").unwrap_err();
    assert!(both.contains("`signing_name` is for keys that are derived"), "{both}");
    let unsigned = parse("url = \"https://a.b\"\nauth = { type = \"bearer\", secret = \"a\" }\nsignature = \"v1a\"").unwrap_err();
    assert!(unsigned.contains("`signature` means nothing"), "{unsigned}");
}

#[test]
fn what_keys_are_derived_from_is_shown_to_no_destination() {
    let both = |other: &str| {
        let text = format!(
            "[destinations.app]\ntype = \"http\"\nurl = \"https://a.b\"\nsecret = \"master\"\n\
             [destinations.other]\ntype = \"http\"\nurl = \"https://c.d\"\n{other}\n"
        );
        Gateway::parse(&text, "gateway.toml").map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(both("secret = \"master\""), Ok(()));
    assert_eq!(both("secret = \"another\"\nsigning_key = \"own\""), Ok(()));
    for shown in [
        "secret = \"master\"\nsigning_key = \"own\"",
        "auth = { type = \"bearer\", secret = \"master\" }",
        "secret = \"master\"\nauth = { type = \"api_key\", header = \"x-key\", secret = \"master\" }",
    ] {
        let message = both(shown).unwrap_err();
        let why = "gateway.toml:5:15: destination `other` shows the secret `master` to its other side, and the key of `";
        assert!(message.starts_with(why), "{shown}: {message}");
    }
}

#[test]
fn only_what_proves_itself_in_another_way_may_go_unsigned() {
    let auth = "url = \"https://a.b\"\nauth = { type = \"bearer\", secret = \"a\" }";
    assert_eq!(parse(auth).unwrap().signing, None);
    assert_eq!(parse(&format!("{auth}\nsecret = \"b\"")).unwrap().signing.map(|signing| signing.secret).as_deref(), Some("b"));
    assert!(parse("url = \"https://a.b\"").unwrap_err().contains("has no `secret`"));
}

#[test]
fn statuses_are_exact_or_of_a_hundred() {
    let statuses = http("statuses = { 404 = \"transient\", 4xx = \"done\", 599 = \"auth\" }").unwrap().statuses;
    assert_eq!(statuses.meaning(404), Some(Meaning::Transient));
    assert_eq!(statuses.meaning(405), Some(Meaning::Done));
    assert_eq!(statuses.meaning(500), None);
    assert_eq!(statuses.meaning(599), Some(Meaning::Auth));
    for good in ["200", "599", "2xx", "5xx"] {
        assert!(http(&format!("statuses = {{ \"{good}\" = \"conflict\" }}")).is_ok(), "{good}");
    }
    for nonsense in ["199", "600", "1xx", "6xx", "40x", "4XX", "4", "4040", "", "ok"] {
        assert!(refused(&format!("statuses = {{ \"{nonsense}\" = \"done\" }}"), 14).contains("is no status"), "{nonsense}");
    }
    assert!(http("statuses = { 404 = \"ignore\" }").unwrap_err().contains("ignore"));
}

#[test]
fn networks_are_written_by_their_first_address() {
    let networks = |text: &str| http(&format!("allow_networks = [\"{text}\"]"));
    assert_eq!(networks("10.1.0.0/16").unwrap().connecting.allow_networks[0].to_string(), "10.1.0.0/16");
    assert_eq!(networks("fd00::/8").unwrap().connecting.allow_networks[0].to_string(), "fd00::/8");
    assert_eq!(networks("127.0.0.1/32").unwrap().connecting.allow_networks[0].to_string(), "127.0.0.1/32");
    for wrong in ["10.1.0.0", "10.1.0.0/33", "fd00::/129", "localhost", "", "10.1.0.0/16 "] {
        assert!(networks(wrong).unwrap_err().contains("is no network"), "{wrong}");
    }
    let message = refused("allow_networks = [\"10.1.2.3/16\"]", 19);
    assert!(message.contains("is 10.1.0.0/16 meant?"), "{message}");
}

#[test]
fn authorities_are_certificates_and_nothing_else() {
    assert!(http(&format!("ca = '''{PEM}'''")).is_ok());
    assert!(http(&format!("ca = '''\n{PEM}\n{PEM}'''")).is_ok());
    for wrong in ["", "\n", "text", &PEM.replace("CERTIFICATE", "PRIVATE KEY"), &format!("{PEM}text"), &PEM[..PEM.len() / 2]] {
        assert!(http(&format!("ca = '''{wrong}'''")).unwrap_err().contains("must be X.509 certificates"), "{wrong}");
    }
}

#[test]
fn no_other_type_of_destination_has_these_settings() {
    for setting in [
        "connect_timeout_seconds = 1",
        "response_bytes_max = 1",
        "headers = { x = \"a\" }",
        "auth = { type = \"bearer\", secret = \"a\" }",
        "statuses = { 404 = \"done\" }",
        "allow_networks = []",
        "ca = \"\"",
    ] {
        let text = format!("[destinations.d]\ntype = \"handler\"\nhandler = \"a\"\n{setting}");
        let message = Gateway::parse(&text, "gateway.toml").unwrap_err().to_string();
        assert!(message.starts_with("gateway.toml:4:") && message.contains("means nothing"), "{setting}: {message}");
    }
}
