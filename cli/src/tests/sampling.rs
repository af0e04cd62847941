//! `posthouse check` with expressions, contracts and samples.

use std::{fs, path::PathBuf};

use super::{Said, at_root, file, name, posthouse};

const FOLDER: &str = "cli/testdata/routes";
const SMALL: &str = r#"{"id":"1","type":"order.paid","data":{"number":"A-1","amount":5,"version":1}}"#;

/// The documented configuration with a change.
fn changed(case: &str, from: &str, to: &str) -> PathBuf {
    at_root();
    let text = fs::read_to_string(format!("{FOLDER}/gateway.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    let contract = file(&format!("{case}.json"), fs::read(format!("{FOLDER}/contracts/order.json")).unwrap());
    let beside = contract.file_name().unwrap().to_str().unwrap();
    file(&format!("{case}.toml"), text.replace(from, to).replace("contracts/order.json", beside))
}

async fn check(config: &str, args: &[&str], body: &str) -> Said {
    posthouse(&[&["check", config], args].concat(), "", body.as_bytes()).await
}

#[tokio::test]
async fn an_expression_or_schema_that_is_none_is_told_with_its_place() {
    let broken = changed("broken", ".data.amount >= 100", ".data.amount >=");
    check(name(&broken), &[], "").await.is(1, ":20:10: jq, line 1, column 16: expected term, found the end");
    let clock = changed("clock", ".data.version", "now");
    check(name(&clock), &[], "").await.is(1, ": jq, line 1, column 1: there is no function `now/0`: ");
    let missing = changed("missing", "contracts/order.json", "no-such.json");
    check(name(&missing), &[], "").await.is(1, "no-such.json");
}

#[tokio::test]
async fn a_sample_is_told_what_becomes_of_it() {
    let config = format!("{FOLDER}/gateway.toml");
    let said = check(&config, &["--sample", "shop=-"], SMALL).await;
    said.is(0, "shop=-: type order.paid, event id 1\n  contract    kept\n  filter      to billing: .data.amount >= 100: false\n");
    said.is(0, "  billing: skipped, since no filter lets it through\n  archive: sent as it is\n");
    let other = check(&config, &["--sample", "shop=-", "--type", "refund"], SMALL).await;
    other.is(0, "shop=-: type refund, event id 1\n  archive: sent as it is\n");
    let untyped = check(&config, &["--sample", "shop=-"], r#"{"id":"1"}"#).await;
    untyped.is(0, ": type unknown, event id 1\n");
    untyped.is(0, "  type        not found at json:/type: say it with --type\n  archive: sent as it is\n");
    let contract = check(&config, &["--sample", "shop=-", "--type", "order.paid"], "no JSON").await;
    contract.is(1, "  contract    the body is not JSON (line 1, column 2)");
}

#[tokio::test]
async fn an_expression_that_fails_and_an_event_that_goes_nowhere_are_told() {
    let failing = changed("failing", ".data.amount * 100", ".data.number * {}");
    let large = SMALL.replace(":5", ":500");
    let said = check(name(&failing), &["--sample", "shop=-"], &large).await;
    said.is(
        1,
        "  billing: dead, since the map of its route fails: cannot calculate a string * an object\n  archive: sent as it is\n",
    );
    let order = check(name(&failing), &["--sample", "shop=-"], &large.replace("\"A-1\"", "\"\"")).await;
    order.is(1, "  billing: dead, since the order.key of its route gives an empty text");
    let nowhere = changed("nowhere", "source = \"shop\"\ndestination", "source = \"shop\"\ntypes = [\"a\"]\ndestination");
    let said = check(name(&nowhere), &["--sample", "shop=-", "--type", "b"], SMALL).await;
    said.is(0, "  no route takes it: it would be recorded and go nowhere\n");
}

#[tokio::test]
async fn several_samples_are_told_and_one_that_is_wrong_is_enough() {
    let config = format!("{FOLDER}/gateway.toml");
    let (good, bad) = (format!("shop={FOLDER}/order-paid.json"), format!("shop={FOLDER}/order-broken.json"));
    let said = check(&config, &["--sample", &bad, "--sample", &good], "").await;
    said.is(1, "contract    does not keep its contract at /data/amount: type\n");
    said.is(1, "archive: sent as it is\n");
    check(&config, &["--sample", &good, "--sample", &good], "").await.is(0, ": ok\n");
}

#[tokio::test]
async fn a_sample_that_is_not_there_or_of_no_source_is_asked_for() {
    let config = format!("{FOLDER}/gateway.toml");
    check(&config, &["--sample", "shop=no-such-file"], "").await.is(2, "no-such-file cannot be read");
    check(&config, &["--sample", "shoe=-"], "").await.is(2, "gateway.toml has no source `shoe`");
    for wrong in ["shop", "shop=", "Shop=-"] {
        check(&config, &["--sample", wrong], "").await.is(2, "--sample");
    }
    check(&config, &["--type", "a"], "").await.is(2, "--sample");
}

#[tokio::test]
async fn a_sample_without_a_readable_id_is_told_as_the_receiver_takes_it() {
    let config = format!("{FOLDER}/gateway.toml");
    let digest = hex(b"no JSON");
    let said = check(&config, &["--sample", "shop=-"], "no JSON").await;
    said.is(0, &format!("shop=-: type unreadable, event id {digest}\n"));
    said.is(
        0,
        "  unreadable  the body is not JSON (line 1, column 2), and the event id should stand in it, at `json:/id`: \
         the receiver accepts it under its digest, and an alarm rings\n",
    );
    let refusing = changed("refusing", "type = \"json:/type\" }", "type = \"json:/type\", unreadable = \"refuse\" }");
    let said = check(name(&refusing), &["--sample", "shop=-"], r#"{"type":"order.paid"}"#).await;
    said.is(1, "shop=-: the receiver refuses it with 400: there is no event id at `json:/id`\n");
}

fn hex(body: &[u8]) -> String {
    shared::event::BodyDigest::of(body).to_hex()
}

const DOOR: &str = r#"
    [sources.github]
    scheme = "github"
    secret = "github"
    body_bytes_max = 100
    [sources.meta]
    scheme = "meta"
    secret = "meta"
    handshake_secret = "meta-handshake"
    [sources.slack]
    scheme = "slack"
    secret = "slack"
    [sources.shop]
    scheme = "standard-webhooks"
    secret = "shop"
    event = { type = "query:type", unreadable = "refuse" }
    [destinations.d]
    type = "handler"
    handler = "d"
    [[routes]]
    source = "github"
    types = ["push"]
    destination = "d"
"#;

#[tokio::test]
async fn a_sample_may_be_a_whole_request() {
    let config = file("door.toml", DOOR);
    let sample = async |source: &str, request: &str| check(name(&config), &["--sample", &format!("{source}=-")], request).await;
    let push = "POST /v1/webhooks/github HTTP/1.1\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: 7\r\n\r\n{}";
    sample("github", push).await.is(0, "github=-: type push, event id 7\n  d: sent as it is\n");
    let bare = sample("github", "{}").await;
    bare.is(0, &format!("github=-: type unknown, event id {}\n", hex(b"{}")));
    bare.is(0, "  event id    stands at header:x-github-delivery, which is not in a body: give the request as captured\n");
    sample("github", &push.replace("X-GitHub-Delivery: 7\r\n", "")).await.is(0, "  unreadable  there is no event id at `header:");
    sample("github", &push.replace("POST", "PUT")).await.is(1, "the receiver refuses it with 405: this source takes POST\n");
    sample("github", &"a".repeat(101)).await.is(1, "the receiver refuses it with 413: the body is larger than the 100 bytes");
    sample("github", "POST / HTTP/1.1\nno header").await.is(2, "github=-: has no blank line after its headers");
    let asked = "GET /?hub.mode=subscribe&hub.challenge=1&hub.verify_token=a HTTP/1.1\n\n";
    sample("meta", asked).await.is(0, "meta=-: a handshake, which the receiver answers without recording an event\n");
    let challenge = r#"{"type":"url_verification","challenge":"abc"}"#;
    sample("slack", challenge).await.is(0, "slack=-: a handshake, which the receiver answers");
    let with_query = "POST /?type=a.b HTTP/1.1\nwebhook-id: m1\n\n{}";
    sample("shop", with_query).await.is(0, "shop=-: type a.b, event id m1\n");
    sample("shop", &with_query.replace("webhook-id: m1\n", ""))
        .await
        .is(1, "refuses it with 400: there is no event id at `header:");
}

#[tokio::test]
async fn each_event_of_a_batch_is_told() {
    let config = file(
        "batch.toml",
        "[schemes.acme]\nalgorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nsignature = { at = \"header:x-sig\", encoding = \"hex\" }\n\
         [sources.acme]\nscheme = \"acme\"\nsecret = \"a\"\nevent = { each = \"/events\", id = \"json:/id\", type = \"json:/type\" }\n\
         [destinations.app]\ntype = \"http\"\nurl = \"https://example.com/\"\nsecret = \"a\"\n\
         [[routes]]\nsource = \"acme\"\ndestination = \"app\"\nmap = \"{id, to: $envelope.to}\"\n",
    );
    let body = r#"{"to":"x","events":[{"id":1,"type":"a"},{"type":"b"}]}"#;
    let said = check(name(&config), &["--sample", "acme=-"], body).await;
    said.is(0, "acme=-: type a, event id 1\n  app: sent as its map makes it\n    map       {\"id\":1,\"to\":\"x\"}\n");
    said.is(0, "acme=-: type unreadable, event id ");
    said.is(0, "  unreadable  there is no event id at `json:/id`: the receiver accepts it under its digest");
    let none = check(name(&config), &["--sample", "acme=-"], r#"{"events":[]}"#).await;
    none.is(0, "acme=-: a batch without events: the receiver accepts it, and there is nothing to deliver\n");
    let many = format!("{{\"events\":[{}]}}", vec!["1"; 101].join(","));
    check(name(&config), &["--sample", "acme=-"], &many)
        .await
        .is(1, "refuses it with 400: the batch at `/events` has 101 events");
    // The rest of the body is read only for an expression that names it.
    let deep = format!(r#"{{"to":{}1{},"events":[{{"id":1}}]}}"#, "[".repeat(200), "]".repeat(200));
    check(name(&config), &["--sample", "acme=-"], &deep).await.is(1, "app: dead, since the map of its route fails: ");
    let text = fs::read_to_string(&config).unwrap().replace(", to: $envelope.to", "");
    let shallow = file("batch-without-envelope.toml", text);
    check(name(&shallow), &["--sample", "acme=-"], &deep).await.is(0, "    map       {\"id\":1}\n");
    // The same of a request that proves itself.
    let event = file("batch.json", body);
    let send = ["send", "--config", name(&config), "--source", "acme", "--event", name(&event)];
    let sent =
        posthouse(&[&send[..], &["--url", "https://hooks.example.com/v1/webhooks/acme", "--dry-run"]].concat(), "k", b"").await;
    let verify = ["verify", "--config", name(&config), "--source", "acme", "--request", "-"];
    let verdict = posthouse(&verify, "k", sent.text().as_bytes()).await;
    verdict.is(0, "  batch       of 2 events, each an event of its own\n  event id    1\n  type        a\n  event id    ");
}
