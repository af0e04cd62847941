//! The worker's own HTTP client against this destination, in the model of AWS.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::join;
use serde_json::{Value, json};
use shared::{
    config::Gateway,
    ledger::{Ledger, Locked},
    names::DestinationName,
    secrets::Keyring,
    signatures::outgoing::{SignatureVersion, Signing, SigningKey},
    time::Timestamp,
};
use worker::{Handlers, HttpClient, Invocation, Planning, Worker};

use super::*;
use crate::{
    model::{Aws, DOORBELL_QUEUE, Failure, Fate, LEDGER_TABLE, Latency, Message, Service, Settings, batch, parts},
    providers::Provider,
    stack::{eventually, when},
    strangers,
};

const SOON: Duration = Duration::from_secs(30);
const KEY: &str = "bWFkZS11cC1zZWNyZXQtb2YtdGhpcy10ZXN0LWFsb25l";
const BODY: &str = r#"{"type": "test"}"#;
/// Where the destination is, if its configuration says so.
const NEAR: &str = "allow_networks = [\"127.0.0.0/8\", \"::1/128\"]\nallow_plaintext = true";

/// A gateway whose only destination is described here; `HTTP` and `TLS` stand for the beginning of this one's URLs, `CA` for its
/// authority.
struct World {
    aws: Aws,
    gateway: Gateway,
    worker: Worker<HttpClient>,
    base: String,
    http: reqwest::Client,
}

/// How a delivery ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    status: String,
    class: String,
    reason: String,
}

impl World {
    async fn new(settings: &str) -> Self {
        Self::with(settings, Certificate::Good).await
    }

    async fn with(settings: &str, certificate: Certificate) -> Self {
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = Authority::default();
        let settings = settings
            .replace("HTTP", &format!("http://127.0.0.1:{port}"))
            .replace("TLS", &format!("https://localhost:{port}"))
            .replace("CA", authority.pem());
        tokio::spawn(async move { Destination::default().serve_with(listener, &authority, certificate).await });
        let text = format!(
            "[sources.partner]\nscheme = \"standard-webhooks\"\nsecret = \"shared\"\nkeep_headers = [\"x-kept\"]\n\
             [[routes]]\nsource = \"partner\"\ndestination = \"one\"\n\
             [destinations.one]\ntype = \"http\"\n{settings}"
        );
        let gateway = Gateway::parse(&text, "gateway.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        let aws = Aws::new(Settings::posthouse(), Timestamp::now);
        aws.put_signing_secret("shared", KEY);
        let worker = new_worker(&aws, &gateway, "worker-1");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { aws, gateway, worker, base: format!("http://127.0.0.1:{port}"), http }
    }

    async fn script(&self, name: &str, script: Value) {
        let put = self.http.put(format!("{}/_control/{name}", self.base)).json(&script).send().await.unwrap();
        assert!(put.status().is_success());
    }

    async fn journal(&self, name: &str) -> Vec<Entry> {
        self.http.get(format!("{}/_journal/{name}", self.base)).send().await.unwrap().json().await.unwrap()
    }

    /// A header of all that came, in order.
    async fn header(&self, name: &str, header: &str) -> Vec<String> {
        self.journal(name).await.iter().map(|entry| entry.header(header).unwrap_or_default().to_owned()).collect()
    }

    async fn token_endpoint(&self, settings: Value) {
        let mut endpoint = json!({"client_id": "me", "client_secret": "made up", "expires_in": 3600});
        endpoint.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let put = self.http.put(format!("{}/_token/t", self.base)).json(&endpoint).send().await.unwrap();
        assert!(put.status().is_success());
    }

    async fn tokens(&self) -> Endpoint {
        self.http.get(format!("{}/_token/t", self.base)).send().await.unwrap().json().await.unwrap()
    }

    /// Takes an event in.
    async fn receive(&self, id: &str) {
        self.receive_from("partner", id, BODY).await;
    }

    async fn receive_from(&self, source: &str, id: &str, body: &str) {
        let receiver = self.aws.receiver("receiver-1", self.gateway.clone());
        let now = Timestamp::now();
        let mut webhook = Provider::StandardWebhooks.sign(body.as_bytes(), id, KEY, now.seconds());
        webhook.headers.push(("x-kept".to_owned(), "kept value".to_owned()));
        let event = strangers::event("POST", source, "", &webhook.headers, body, false);
        assert_eq!(receiver.receive(&event, "request-1", now).await.status_code, 202);
    }

    /// Works on every doorbell that there is.
    async fn work(&self, worker: &Worker<HttpClient>, request_id: &str) {
        work_on(worker, request_id, &self.aws.receive(DOORBELL_QUEUE, 10)).await;
    }

    async fn deliver(&self, id: &str) -> Ended {
        self.receive(id).await;
        self.work(&self.worker, "request-1").await;
        self.ended(id)
    }

    fn ended(&self, id: &str) -> Ended {
        let item = self.aws.item(LEDGER_TABLE, &format!("partner#{id}"), "delivery#one").expect("it was claimed");
        let text = |name: &str| item.get(name).and_then(|value| value.text()).unwrap_or_default().to_owned();
        Ended { status: text("status"), class: text("error_class"), reason: text("last_error") }
    }

    #[track_caller]
    fn assert(ended: &Ended, status: &str, class: &str, reason: &str) {
        assert_eq!((ended.status.as_str(), ended.class.as_str()), (status, class), "{ended:?}");
        assert!(ended.reason.contains(reason), "{ended:?}");
    }

    async fn is_done(&self, id: &str) {
        let ended = self.deliver(id).await;
        assert_eq!(ended.status, "done", "{ended:?}");
    }
}

async fn work_on(worker: &Worker<HttpClient>, request_id: &str, messages: &[Message]) {
    assert!(!messages.is_empty(), "a doorbell rang");
    let deadline = Timestamp::now().plus(Duration::from_secs(120));
    let invocation = Invocation { request_id, deadline, now: Timestamp::now };
    worker.work(batch(messages.iter().map(parts)), invocation).await.unwrap();
}

fn new_worker(aws: &Aws, gateway: &Gateway, instance: &str) -> Worker<HttpClient> {
    let client = HttpClient::new(gateway.destinations.values()).unwrap();
    aws.worker(instance, gateway.clone(), client, Handlers::new(Vec::new()))
}

#[tokio::test]
async fn headers_are_filled_in_and_fit_for_a_header() {
    let headers = "headers = { x-tenant = \"acme\", x-what = \"{event.source}/{event.type} {event.id}\", x-kept = \"{header:X-Kept}\", \
                   x-gone = \"[{header:gone}{event.occurred_at}]\", x-way = \"{delivery.destination}#{delivery.attempt}\", \
                   x-at = \"{event.received_at}\", user-agent = \"mine\" }";
    let world = World::new(&format!("url = \"HTTP/a\"\nsecret = \"shared\"\n{NEAR}\n{headers}")).await;
    world.is_done("é 1").await;
    let [entry] = &world.journal("a").await[..] else { panic!("one came") };
    for (name, value) in [
        ("x-tenant", "acme"),
        ("x-what", "partner/test %C3%A9%201"),
        ("x-kept", "kept%20value"),
        ("x-gone", "[]"),
        ("x-way", "one#1"),
        ("user-agent", "mine"),
        ("webhook-id", "partner#%C3%A9%201"),
        ("idempotency-key", "partner#%C3%A9%201#one"),
        ("posthouse-event-type", "test"),
    ] {
        assert_eq!(entry.header(name), Some(value), "{name}");
    }
    assert!(Timestamp::parse_rfc3339(entry.header("x-at").unwrap()).is_some());
    assert_eq!(entry.body, BODY.as_bytes());
}

/// Whether a key verifies what came.
fn verifies(entry: &Entry, key: &str) -> bool {
    let (id, at) = (entry.header("webhook-id").unwrap(), entry.header("webhook-timestamp").unwrap());
    let own = Provider::StandardWebhooks.sign(&entry.body, id, key, at.parse().unwrap());
    let own = own.headers.iter().find(|(name, _)| name == "webhook-signature").unwrap().1.clone();
    entry.header("webhook-signature").unwrap().split(' ').any(|signature| signature == own)
}

#[tokio::test]
async fn all_valid_keys_sign_and_expired_ones_do_not() {
    let world = World::new(&format!("url = \"HTTP/a\"\nsecret = \"out\"\nsigning_key = \"own\"\n{NEAR}")).await;
    let (new, old) = ("bmV3IGtleSBvZiBhIHRlc3Q=", "b2xkIGtleSBvZiBhIHRlc3Q=");
    let keyring = |not_after: Timestamp| {
        json!({"keys": [{"id": "b", "secret": new}, {"id": "a", "secret": old, "notAfter": not_after.to_rfc3339()}]}).to_string()
    };
    world.aws.put_signing_secret("out", &keyring(Timestamp::now().plus(Duration::from_secs(60))));
    world.is_done("during").await;
    world.aws.put_signing_secret("out", &keyring(Timestamp::now().minus(Duration::from_secs(60))));
    // Another process, which knows no older keyring.
    world.receive("after").await;
    world.work(&new_worker(&world.aws, &world.gateway, "worker-2"), "request-2").await;
    let [during, after] = &world.journal("a").await[..] else { panic!("two came") };
    assert_eq!((verifies(during, new), verifies(during, old)), (true, true));
    assert_eq!((verifies(after, new), verifies(after, old)), (true, false));
}

#[tokio::test]
async fn without_a_key_of_its_own_a_destination_has_one_that_is_derived_for_it() {
    let world = World::new(&format!("url = \"HTTP/a\"\nsecret = \"out\"\n{NEAR}")).await;
    let master = "bWFzdGVyIGtleSBvZiBhIHRlc3Q=";
    world.aws.put_signing_secret("out", master);
    world.is_done("1").await;
    let [entry] = &world.journal("a").await[..] else { panic!("one came") };
    let keyring = Keyring::parse(master).unwrap();
    let handed_out = |name: &str| {
        let key = SigningKey::Derived { name: name.to_owned() };
        let signing = Signing { secret: "out".to_owned(), key, version: SignatureVersion::V1 };
        signing.keys(&keyring, Timestamp::now()).remove(0).handed_out()
    };
    assert!(verifies(entry, handed_out("one").expose()));
    assert!(!verifies(entry, handed_out("another").expose()) && !verifies(entry, master));
}

#[tokio::test]
async fn the_id_that_is_signed_has_no_full_stop() {
    let world = World::new(&format!("url = \"HTTP/a\"\nsecret = \"out\"\n{NEAR}")).await;
    world.aws.put_signing_secret("out", "bWFzdGVyIGtleSBvZiBhIHRlc3Q=");
    world.is_done("evt.1.2").await;
    assert_eq!(world.header("a", "webhook-id").await, ["partner#evt%2E1%2E2"]);
    assert_eq!(world.header("a", "idempotency-key").await, ["partner#evt.1.2#one"], "nobody signs it");
}

#[tokio::test]
async fn each_credential_stands_where_it_should() {
    for (auth, secret, header, value) in [
        ("type = \"bearer\", secret = \"s\"", "made up", "authorization", "Bearer made up"),
        ("type = \"basic\", secret = \"s\"", "me:made:up", "authorization", "Basic bWU6bWFkZTp1cA=="),
        ("type = \"api_key\", header = \"X-Key\", secret = \"s\"", "made up", "x-key", "made up"),
    ] {
        let world = World::new(&format!("url = \"HTTP/a\"\n{NEAR}\nauth = {{ {auth} }}")).await;
        world.aws.put_signing_secret(
            "s",
            &json!({"keys": [{"id": "b", "secret": secret}, {"id": "a", "secret": "old:old"}]}).to_string(),
        );
        world.is_done("1").await;
        let [entry] = &world.journal("a").await[..] else { panic!("one came") };
        assert_eq!(entry.header(header), Some(value), "the newest key");
        assert_eq!(entry.header("webhook-signature"), None, "no keyring is there to sign with");
        assert_eq!(entry.header("webhook-id"), Some("partner#1"));
    }
}

#[tokio::test]
async fn a_secret_that_has_been_replaced_is_tried_once_more_and_one_that_has_not_is_refused() {
    let world = World::new(&format!("url = \"HTTP/a\"\n{NEAR}\nauth = {{ type = \"bearer\", secret = \"s\" }}")).await;
    world.aws.put_signing_secret("s", "old");
    world.is_done("1").await;
    world.aws.put_signing_secret("s", "new");
    world.script("a", json!([{"status": 401}, {"status": 200}])).await;
    world.is_done("2").await;
    assert_eq!(world.header("a", "authorization").await, ["Bearer old", "Bearer old", "Bearer new"]);
    world.script("a", json!({"status": 401})).await;
    World::assert(&world.deliver("3").await, "waiting", "auth", "answered 401");
    assert_eq!(world.journal("a").await.len(), 4, "nothing was tried twice with the same secret");
}

#[tokio::test]
async fn a_secret_that_is_no_credential_pauses_and_is_not_told() {
    for (auth, secret, why) in [
        ("type = \"basic\", secret = \"s\"", "hush", "is not of the form user:password"),
        ("type = \"bearer\", secret = \"s\"", "hu\u{1}sh", "has characters that no header can have"),
    ] {
        let world = World::new(&format!("url = \"HTTP/a\"\n{NEAR}\nauth = {{ {auth} }}")).await;
        world.aws.put_signing_secret("s", secret);
        let ended = world.deliver("1").await;
        World::assert(&ended, "waiting", "auth", why);
        assert!(!ended.reason.contains("hu"), "{ended:?}");
        assert!(world.journal("a").await.is_empty());
    }
}

/// A destination with tokens.
fn oauth(more: &str) -> String {
    let auth = format!("type = \"oauth2\", token_url = \"HTTP/_token/t\", client_id = \"me\"{more}");
    format!("url = \"HTTP/a\"\n{NEAR}\nauth = {{ {auth} }}")
}

const CLIENT: &str = ", secret = \"s\"";

#[tokio::test]
async fn a_token_is_used_again_until_it_expires() {
    let world =
        World::new(&oauth(&format!("{CLIENT}, scopes = [\"a:b\", \"c\"], audience = \"d\", resource = \"https://e/\""))).await;
    world.aws.put_signing_secret("s", "made up");
    world.token_endpoint(json!({})).await;
    for id in ["1", "2", "3"] {
        world.is_done(id).await;
    }
    assert_eq!(world.tokens().await.granted, ["access-t-1"]);
    assert_eq!(world.header("a", "authorization").await, ["Bearer access-t-1"; 3]);
    let [asked] = &world.journal("token-t").await[..] else { panic!("it was asked once") };
    let form: BTreeMap<String, String> = form_urlencoded::parse(&asked.body).into_owned().collect();
    let expected = [("audience", "d"), ("grant_type", "client_credentials"), ("resource", "https://e/"), ("scope", "a:b c")];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test]
async fn a_token_that_expires_is_replaced_before_it_is_refused() {
    let world = World::new(&oauth(&format!("{CLIENT}, client_auth = \"body\""))).await;
    world.aws.put_signing_secret("s", "made up");
    // Used for a second.
    world.token_endpoint(json!({"expires_in": 2})).await;
    let mut count = 0;
    eventually("another token is used", SOON, async || {
        count += 1;
        world.is_done(&count.to_string()).await;
        when(world.tokens().await.granted.len(), |granted| *granted >= 2)
    })
    .await;
    assert!(world.header("a", "authorization").await.contains(&"Bearer access-t-2".to_owned()));
    let asked = &world.journal("token-t").await[0];
    assert!(asked.header("authorization").is_none(), "the secret stands in the form");
    assert!(form_urlencoded::parse(&asked.body).any(|pair| pair == ("client_secret".into(), "made up".into())));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_in_an_attempt() {
    let world = World::new(&oauth(CLIENT)).await;
    world.aws.put_signing_secret("s", "made up");
    world.token_endpoint(json!({})).await;
    world.script("a", json!([{"status": 401}, {"status": 200}])).await;
    world.is_done("1").await;
    assert_eq!(world.header("a", "authorization").await, ["Bearer access-t-1", "Bearer access-t-2"]);
    world.script("a", json!({"status": 401})).await;
    World::assert(&world.deliver("2").await, "waiting", "auth", "the destination answered 401");
    assert_eq!(world.tokens().await.granted.len(), 3);
    assert_eq!(world.journal("a").await.len(), 4);
    assert!(world.journal("a").await.windows(2).all(|pair| pair[0].body == pair[1].body));
}

#[tokio::test]
async fn of_ten_deliveries_at_once_one_asks_for_the_token() {
    let world = World::new(&oauth(CLIENT)).await;
    world.aws.put_signing_secret("s", "made up");
    world.token_endpoint(json!({})).await;
    for id in 0..10 {
        world.receive(&id.to_string()).await;
    }
    world.work(&world.worker, "request-1").await;
    assert_eq!(world.header("a", "authorization").await, ["Bearer access-t-1"; 10]);
    assert_eq!(world.tokens().await.granted.len(), 1);
}

#[tokio::test]
async fn of_ten_that_wait_for_a_token_none_asks_again_when_there_is_none() {
    let world = World::new(&oauth(CLIENT)).await;
    world.aws.put_signing_secret("s", "made up");
    world.script("token-t", json!({"status": 503, "delay_ms": 300})).await;
    for id in 0..10 {
        world.receive(&id.to_string()).await;
    }
    world.work(&world.worker, "request-1").await;
    for id in 0..10 {
        World::assert(&world.ended(&id.to_string()), "waiting", "transient", "the token endpoint answered 503");
    }
    assert_eq!(world.journal("token-t").await.len(), 1);
}

#[tokio::test]
async fn a_token_endpoint_in_trouble_is_tried_again_and_one_that_refuses_us_pauses() {
    for (script, status, class, why) in [
        (json!({"status": 503}), "waiting", "transient", "the token endpoint answered 503"),
        (json!({"status": 500, "body": "hush"}), "waiting", "transient", "the token endpoint answered 500"),
        (json!({"reset": true}), "waiting", "transient", "the token endpoint: "),
        (json!({"hang": true}), "waiting", "transient", "timed out"),
        (json!({"status": 429, "headers": {"retry-after": "9"}}), "waiting", "throttled", "the token endpoint answered 429"),
        (json!({"status": 200, "body": "{\"hush\": 1}"}), "waiting", "transient", "is no token"),
        (json!({"status": 307, "headers": {"location": "/a"}}), "waiting", "auth", "the token endpoint answered 307"),
        (json!({"status": 404}), "waiting", "auth", "the token endpoint answered 404"),
        (json!({"status": 400, "body": "{\"error\": \"invalid_scope\"}"}), "waiting", "auth", "answered invalid_scope"),
    ] {
        let world = World::new(&format!("{}\ntimeout_seconds = 1", oauth(CLIENT))).await;
        world.aws.put_signing_secret("s", "made up");
        world.token_endpoint(json!({})).await;
        world.script("token-t", script.clone()).await;
        let ended = world.deliver("1").await;
        World::assert(&ended, status, class, why);
        assert!(!ended.reason.contains("hush") && !ended.reason.contains("made up"), "{ended:?}");
        assert!(world.journal("a").await.is_empty(), "{script}");
    }
}

#[tokio::test]
async fn a_client_secret_that_has_been_replaced_is_read_again() {
    let world = World::new(&oauth(CLIENT)).await;
    world.aws.put_signing_secret("s", "old secret");
    world.token_endpoint(json!({})).await;
    World::assert(&world.deliver("1").await, "waiting", "auth", "the token endpoint answered invalid_client");
    let world = World::new(&oauth(CLIENT)).await;
    world.aws.put_signing_secret("s", "made up");
    // Used for half a second at the most: the second delivery asks again.
    world.token_endpoint(json!({"expires_in": 0})).await;
    world.is_done("1").await;
    world.token_endpoint(json!({"client_secret": "replaced"})).await;
    world.aws.put_signing_secret("s", "replaced");
    world.is_done("2").await;
    assert_eq!(world.tokens().await.refused, 1);
}

const REFRESH: &str = ", secret = \"s-oauth\", grant = \"refresh_token\"";

/// What the secret has.
fn stored(world: &World) -> Value {
    serde_json::from_str(&world.aws.secret("model/s-oauth").unwrap()).unwrap()
}

async fn refreshing() -> World {
    let world = World::new(&oauth(REFRESH)).await;
    world.aws.put_signing_secret("s-oauth", r#"{"clientSecret":"made up","refreshToken":"first"}"#);
    world.token_endpoint(json!({"refresh_token": "first"})).await;
    world
}

#[tokio::test]
async fn a_refresh_token_is_written_down_and_the_next_process_goes_on_with_it() {
    let world = refreshing().await;
    world.is_done("1").await;
    assert_eq!(stored(&world)["refreshToken"], "refresh-t-1");
    // Whoever starts now finds the access token as well, and spends nothing.
    world.receive("2").await;
    world.work(&new_worker(&world.aws, &world.gateway, "worker-2"), "request-2").await;
    assert_eq!(world.ended("2").status, "done");
    assert_eq!(world.tokens().await.granted.len(), 1);
    // The destination refuses it: one exchange more.
    world.script("a", json!([{"status": 401}, {"status": 200}])).await;
    world.is_done("3").await;
    assert_eq!(stored(&world)["refreshToken"], "refresh-t-2");
    assert_eq!(world.header("a", "authorization").await.last().unwrap(), "Bearer access-t-2");
    assert_eq!(world.tokens().await.refused, 0);
}

#[tokio::test]
async fn a_lock_is_one_holders_until_it_ends_or_is_given_back() {
    let at = Timestamp::from_seconds;
    let aws = Aws::new(Settings::posthouse(), Timestamp::now);
    let ledger = Ledger::new(&aws.config("worker-1"), LEDGER_TABLE.to_owned());
    let one = DestinationName::parse("one").unwrap();
    let lock = async |holder: &str, now: u64, until: u64| ledger.lock(&one, "oauth", holder, at(now), at(until)).await.unwrap();
    assert_eq!(lock("a", 100, 110).await, Locked::Acquired);
    assert_eq!(lock("b", 109, 119).await, Locked::HeldUntil(at(110)));
    assert_eq!(lock("a", 109, 112).await, Locked::Acquired, "its holder gets it again, and for longer");
    assert_eq!(lock("b", 111, 121).await, Locked::HeldUntil(at(112)));
    assert_eq!(lock("b", 112, 122).await, Locked::Acquired, "at its end it is nobody's");
    ledger.unlock(&one, "oauth", "a").await.unwrap();
    assert_eq!(lock("a", 113, 123).await, Locked::HeldUntil(at(122)), "nobody gives another one's back");
    ledger.unlock(&one, "oauth", "b").await.unwrap();
    assert_eq!(lock("a", 113, 123).await, Locked::Acquired);
    let other = ledger.lock(&one, "another", "b", at(113), at(123)).await.unwrap();
    assert_eq!(other, Locked::Acquired, "another lock is another's");
}

#[tokio::test]
async fn two_workers_at_once_spend_a_refresh_token_once() {
    let world = refreshing().await;
    let other = new_worker(&world.aws, &world.gateway, "worker-2");
    // Long enough that the other one comes meanwhile.
    let slow = Latency { before: Duration::from_millis(200), after: Duration::ZERO };
    let fast = Latency { before: Duration::ZERO, after: Duration::ZERO };
    world.aws.latency(move |call| if call.service == Service::SecretsManager { slow } else { fast });
    world.receive("1").await;
    world.receive("2").await;
    let messages = world.aws.receive(DOORBELL_QUEUE, 10);
    let (one, two) = messages.split_at(1);
    join(work_on(&world.worker, "request-1", one), work_on(&other, "request-2", two)).await;
    assert_eq!((world.ended("1").status.as_str(), world.ended("2").status.as_str()), ("done", "done"));
    let tokens = world.tokens().await;
    assert_eq!((tokens.granted.len(), tokens.refused), (1, 0));
    assert_eq!(world.header("a", "authorization").await, ["Bearer access-t-1"; 2]);
}

#[tokio::test]
async fn a_refresh_token_that_cannot_be_written_down_is_not_lost_and_not_used() {
    let world = refreshing().await;
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = broken.clone();
    world.aws.on_call(move |call| match call.operation.as_str() {
        "PutSecretValue" if is_broken.load(Ordering::Relaxed) => Fate::FailBefore(Failure::InternalError),
        _ => Fate::Succeed,
    });
    World::assert(&world.deliver("1").await, "waiting", "transient", "cannot write the secret model/s-oauth");
    assert!(world.journal("a").await.is_empty(), "nothing goes out before it is written down");
    assert_eq!(stored(&world)["refreshToken"], "first");
    broken.store(false, Ordering::Relaxed);
    world.is_done("2").await;
    assert_eq!(stored(&world)["refreshToken"], "refresh-t-1");
    assert_eq!(
        world.header("a", "authorization").await,
        ["Bearer access-t-1"],
        "what could not be written down was not asked for again"
    );
    assert_eq!(world.tokens().await.granted.len(), 1);
}

#[tokio::test]
async fn a_worker_that_dies_after_it_has_written_the_refresh_token_down_leaves_the_new_one() {
    let world = refreshing().await;
    world.aws.on_call(|call| match (call.function.as_str(), call.operation.as_str()) {
        ("worker-1", "PutSecretValue") => Fate::Kill { after_effect: true },
        _ => Fate::Succeed,
    });
    world.receive("1").await;
    tokio::select! {
        () = world.work(&world.worker, "request-1") => panic!("it died"),
        () = world.aws.killed("worker-1") => {}
    }
    assert!(world.journal("a").await.is_empty());
    // The lock of the dead one has not ended: the next attempt waits for it in vain, and a later one does not.
    world.receive("2").await;
    world.work(&new_worker(&world.aws, &world.gateway, "worker-2"), "request-2").await;
    World::assert(&world.ended("2"), "waiting", "transient", "timed out");
    assert!(world.aws.remove_item(LEDGER_TABLE, "destination#one", "oauth"), "as when it ends");
    world.receive("3").await;
    world.work(&new_worker(&world.aws, &world.gateway, "worker-3"), "request-3").await;
    assert_eq!(world.ended("3").status, "done");
    assert_eq!(world.header("a", "authorization").await, ["Bearer access-t-1"]);
    assert_eq!(world.tokens().await.refused, 0);
}

#[tokio::test]
async fn a_spent_refresh_token_pauses_and_says_so() {
    let world = refreshing().await;
    world.token_endpoint(json!({"refresh_token": "another"})).await;
    World::assert(&world.deliver("1").await, "waiting", "auth", "the token endpoint answered invalid_grant");
    let world = refreshing().await;
    world.aws.put_signing_secret("s-oauth", "hush");
    let ended = world.deliver("1").await;
    World::assert(&ended, "waiting", "transient", "is not of the form {\"clientSecret\"");
    assert!(!ended.reason.contains("hush"));
}

#[tokio::test]
async fn statuses_mean_what_the_configuration_says() {
    let statuses = "statuses = { 404 = \"transient\", 409 = \"done\", 5xx = \"permanent\", 401 = \"transient\" }";
    let world = World::new(&format!("url = \"HTTP/a\"\nsecret = \"shared\"\n{NEAR}\n{statuses}")).await;
    for (status, ended, class) in [
        (404, "waiting", "transient"),
        (409, "done", ""),
        (503, "dead", "permanent"),
        (401, "waiting", "transient"),
        (410, "dead", "permanent"),
    ] {
        world.script("a", json!({"status": status, "headers": {"x-request-id": "r-1"}})).await;
        let told = if ended == "done" { "" } else { "(request id r-1)" };
        World::assert(&world.deliver(&status.to_string()).await, ended, class, told);
    }
}

#[tokio::test]
async fn the_head_of_an_answer_decides_whatever_its_body_does() {
    let settings = |more: &str| format!("url = \"HTTP/a\"\nsecret = \"shared\"\ntimeout_seconds = 1\n{NEAR}\n{more}");
    let world = World::new(&settings("")).await;
    world.script("a", json!({"slow_body_ms": 20_000, "body": "x".repeat(100)})).await;
    world.is_done("slow").await;
    world.script("a", json!({"status": 503, "slow_body_ms": 20_000, "body": "x".repeat(100)})).await;
    World::assert(&world.deliver("failed").await, "waiting", "transient", "answered 503");
    let world = World::new(&settings("response_bytes_max = 1000")).await;
    for (id, bytes) in [("fits", 1000), ("does-not", 1001), ("long", 2_000_000)] {
        world.script("a", json!({"body": "x".repeat(bytes)})).await;
        world.is_done(id).await;
    }
}

#[tokio::test]
async fn what_does_not_answer_is_tried_again() {
    let world = World::new(&format!("url = \"HTTP/a\"\nsecret = \"shared\"\ntimeout_seconds = 1\n{NEAR}")).await;
    world.script("a", json!({"hang": true})).await;
    World::assert(&world.deliver("hang").await, "waiting", "transient", "timed out");
    world.script("a", json!({"reset": true})).await;
    World::assert(&world.deliver("reset").await, "waiting", "transient", "");
}

#[tokio::test]
async fn a_redirect_is_not_followed_wherever_it_leads() {
    let world = World::new(&format!("url = \"HTTP/a\"\nsecret = \"shared\"\n{NEAR}")).await;
    for status in [301, 302, 303, 307, 308] {
        for location in
            [format!("{}/inside", world.base), "http://169.254.169.254/latest/meta-data/".to_owned(), "/inside".to_owned()]
        {
            world.script("a", json!({"status": status, "headers": {"location": location}})).await;
            let ended = world.deliver(&format!("{status}{location}")).await;
            World::assert(&ended, "dead", "permanent", "redirects are not followed");
        }
    }
    assert!(world.journal("inside").await.is_empty());
}

#[tokio::test]
async fn a_certificate_is_of_whom_it_should_be_and_says_what_it_is_not() {
    let settings = |ca: &str| format!("url = \"TLS/a\"\nsecret = \"shared\"\nallow_networks = [\"127.0.0.0/8\"]\n{ca}");
    let ca = settings("ca = \"\"\"\nCA\"\"\"");
    World::with(&ca, Certificate::Good).await.is_done("1").await;
    for (settings, certificate, why) in [
        (&ca, Certificate::Expired, "its certificate has expired"),
        (&ca, Certificate::OtherHost, "its certificate is for another host"),
        (&ca, Certificate::SelfSigned, "its certificate is self-signed, or of an authority that is not known"),
        (&settings(""), Certificate::Good, "its certificate is self-signed, or of an authority that is not known"),
    ] {
        let world = World::with(settings, certificate).await;
        World::assert(&world.deliver("1").await, "waiting", "transient", &format!("cannot connect: {why}"));
        assert!(world.journal("a").await.is_empty());
    }
}

#[tokio::test]
async fn an_address_that_is_not_public_is_not_reached_unless_its_network_is_allowed() {
    let refused = "resolves to an address that is not public";
    for (settings, why) in [
        ("url = \"HTTP/a\"\nallow_plaintext = true", refused),
        ("url = \"TLS/a\"", refused),
        ("url = \"HTTP/a\"\nallow_plaintext = true\nallow_networks = [\"10.0.0.0/8\"]", refused),
        ("url = \"http://localhost:1/a\"\nallow_plaintext = true", "localhost resolves to an address"),
        ("url = \"http://0x7f.1:1/a\"\nallow_plaintext = true", "127.0.0.1 resolves to an address"),
        ("url = \"http://169.254.169.254/latest\"\nallow_plaintext = true", "`allow_networks = [\"169.254.169.254/32\"]`"),
        ("url = \"https://[::ffff:127.0.0.1]/a\"", refused),
        ("url = \"https://[fd00:ec2::254]/a\"", refused),
    ] {
        let world = World::new(&format!("{settings}\nsecret = \"shared\"")).await;
        World::assert(&world.deliver("1").await, "dead", "permanent", why);
        assert!(world.journal("a").await.is_empty(), "{settings}");
    }
    // The token endpoint is reached in the same way.
    let world = World::new(&oauth(CLIENT).replace("token_url = \"HTTP", "token_url = \"http://10.0.0.1:1")).await;
    world.aws.put_signing_secret("s", "made up");
    World::assert(&world.deliver("1").await, "dead", "permanent", "the token endpoint: 10.0.0.1 resolves to an address");
}

#[tokio::test]
async fn a_connection_that_is_open_is_no_way_around() {
    let world = World::new(&format!("url = \"HTTP/a\"\nsecret = \"shared\"\n{NEAR}")).await;
    let text = format!(
        "[sources.partner]\nscheme = \"standard-webhooks\"\nsecret = \"shared\"\n\
         [[routes]]\nsource = \"partner\"\ndestination = [\"one\", \"two\"]\n\
         [destinations.one]\ntype = \"http\"\nurl = \"{0}/a\"\nsecret = \"shared\"\n{NEAR}\n\
         [destinations.two]\ntype = \"http\"\nurl = \"{0}/a\"\nsecret = \"shared\"\nallow_plaintext = true",
        world.base
    );
    let gateway = Gateway::parse(&text, "gateway.toml").unwrap();
    let worker = new_worker(&world.aws, &gateway, "worker-2");
    let world = World { gateway, worker, ..world };
    for id in ["1", "2"] {
        world.is_done(id).await;
        let two = world.aws.item(LEDGER_TABLE, &format!("partner#{id}"), "delivery#two").unwrap();
        assert_eq!(two.get("status").and_then(|value| value.text()), Some("dead"));
    }
    assert_eq!(world.header("a", "idempotency-key").await, ["partner#1#one", "partner#2#one"]);
}

/// How many deliveries of a batch have a body that is made so that an expression of their route takes all that it may.
const HOSTILE: usize = 9;

/// Somebody else's body must not be what a destination's answer waits for.
#[tokio::test]
async fn beside_nine_hostile_bodies_a_delivery_is_judged_by_its_own_destinations_time() {
    let hostile = "[sources.hostile]\nscheme = \"standard-webhooks\"\nsecret = \"shared\"\n\
                   [destinations.two]\ntype = \"http\"\nurl = \"HTTP/b\"\nsecret = \"shared\"\n\
                   [[routes]]\nsource = \"hostile\"\ndestination = \"two\"\nfilter = \"[.[] | tostring] | length > 0\"";
    let one = format!("url = \"HTTP/a\"\nsecret = \"shared\"\ntimeout_seconds = 3\n{NEAR}");
    let mut world = World::new(&format!("{one}\n{}", hostile.replacen("url", &format!("{NEAR}\nurl"), 1))).await;
    world.worker.planning = Planning::aside();
    world.script("a", json!([{"status": 200, "delay_ms": 1000}])).await;
    // The innocent one begins first, so that its request is on its way while the others are evaluated.
    world.receive("innocent").await;
    let body = format!("[{}0]", "0,".repeat(300_000));
    for number in 0..HOSTILE {
        world.receive_from("hostile", &number.to_string(), &body).await;
    }
    let began = std::time::Instant::now();
    world.work(&world.worker, "request-1").await;
    let took = began.elapsed();
    World::assert(&world.ended("innocent"), "done", "", "");
    let entries = world.journal("a").await;
    assert_eq!(entries.len(), 1, "it was asked once");
    for number in 0..HOSTILE {
        let item = world.aws.item(LEDGER_TABLE, &format!("hostile#{number}"), "delivery#two").expect("it was claimed");
        let text = |name: &str| item.get(name).and_then(|value| value.text()).unwrap_or_default().to_owned();
        assert_eq!((text("status").as_str(), text("error_class").as_str()), ("dead", "permanent"));
        assert!(text("last_error").contains("steps"), "{}", text("last_error"));
    }
    println!("nine hostile evaluations beside it took {took:?}");
}
