//! `posthouse send`.

use base64::{Engine, prelude::BASE64_STANDARD};
use shared::signatures::{Algorithm, Alternative, Encoding, preset::Preset};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::{FRESH_ID, SECRET, file, name, posthouse};

/// A server on this machine that answers one request, and what it was sent.
pub(super) async fn server(answer: &'static str) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let request = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !is_whole(&request) {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "the request ends early");
            request.extend_from_slice(&piece[..read]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        request
    });
    (url, request)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some(end) = text.find("\r\n\r\n") else { return false };
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
    text.len() >= end + 4 + length
}

/// A secret that is written as the scheme says.
fn secret(alternative: &Alternative) -> String {
    let text = match alternative.secret.encoding {
        None if alternative.algorithm == Algorithm::Basic => "user:password".to_owned(),
        None => SECRET.to_owned(),
        Some(Encoding::Hex) => "00ff10".to_owned(),
        Some(Encoding::Base64 | Encoding::Base64url) => BASE64_STANDARD.encode("a key of some bytes"),
        Some(Encoding::Base64OfHex) => BASE64_STANDARD.encode("00ff10"),
    };
    alternative.secret.id_separator.as_ref().map_or(text.clone(), |separator| format!("key{separator}{text}"))
}

#[tokio::test]
async fn a_sample_of_every_symmetric_preset_is_genuine() {
    let json = file("sample.json", r#"{"id":"evt_1","value":[{"a":1}],"events":[{"action":"added"}]}"#);
    let form = file("sample-form", "bt_payload=eA&AccountSid=AC1");
    let transaction = r#"{"id":"1","status":"APPROVED","amount_in_cents":1}"#;
    let listed = r#"["transaction.id","transaction.status","transaction.amount_in_cents"]"#;
    let listed = format!(r#"{{"signature":{{"properties":{listed}}},"data":{{"transaction":{transaction}}}}}"#);
    let listed = file("sample-listed.json", &listed);
    let mut sent = 0;
    for preset in Preset::names() {
        let scheme = Preset::find(preset).unwrap().unwrap().scheme;
        let event = match preset {
            "braintree" | "nuvei" => &form,
            "wompi" => &listed,
            _ => &json,
        };
        let key = secret(&scheme.alternatives[0]);
        let url = "https://hooks.example.com/v1/webhooks/a?b=c";
        let said = posthouse(&["send", "--source", preset, "--event", name(event), "--url", url, "--dry-run"], &key, b"").await;
        if scheme.alternatives.iter().all(|alternative| !alternative.is_symmetric()) {
            said.is(2, "signs with a private key that only it has");
            continue;
        }
        assert_eq!(said.status, 0, "{preset}: {}", said.text());
        let verdict = posthouse(&["verify", "--source", preset, "--request", "-"], &key, &said.output).await;
        assert_eq!(verdict.status, 0, "{preset}: {}\n{}", verdict.text(), said.text());
        sent += 1;
    }
    assert!(sent > 130, "{sent}");
}

#[tokio::test]
async fn a_sample_is_posted_and_its_answer_shown() {
    for (answer, status, words) in [
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\nyes", 0, "202 Accepted\nyes\n"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 0, "204 No Content\n"),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno", 1, "401 Unauthorized\nno\n"),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 1, "302 Found\n"),
    ] {
        let (url, request) = server(answer).await;
        let url = format!("{url}/github?a=b");
        let said =
            posthouse(&["send", "--source", "github", "--event", "events/github-push.json", "--url", &url], SECRET, b"").await;
        assert_eq!((said.text(), said.status), (format!("event id {FRESH_ID}, type push\n{words}"), status));
        let request = request.await.unwrap();
        let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
        assert!(head.starts_with("post /github?a=b http/1.1\r\n"), "{head}");
        for header in ["content-type: application/json", "x-github-event: push", &format!("x-github-delivery: {FRESH_ID}")] {
            assert!(head.contains(&format!("\r\n{header}\r\n")), "{header}\n{head}");
        }
        posthouse(&["verify", "--source", "github", "--request", "-"], SECRET, &request).await.is(0, "valid\n");
    }
}

#[tokio::test]
async fn the_registered_url_is_signed_wherever_the_sample_goes() {
    let config = file(
        "send.toml",
        "[sources.shop]\nscheme = \"square\"\nsecret = \"a\"\npublic_url = \"https://hooks.example.com/shop\"\n",
    );
    let (url, request) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let args = ["send", "--source", "shop", "--event", "-", "--config", name(&config), "--url", &url];
    posthouse(&args, SECRET, b"{}").await.is(0, "200 OK");
    let args = ["verify", "--source", "shop", "--request", "-", "--config", name(&config)];
    posthouse(&args, SECRET, &request.await.unwrap()).await.is(0, "valid\n");
    let args = ["send", "--source", "shop", "--event", "-", "--config", name(&config), "--dry-run"];
    posthouse(&args, SECRET, b"{}").await.is(0, "POST /shop HTTP/1.1\r\nhost: hooks.example.com\r\n");
}

#[tokio::test]
async fn headers_are_as_given_or_guessed() {
    let dry = async |args: &[&str], input: &[u8]| {
        let base = ["send", "--event", "-", "--url", "https://h/", "--dry-run"];
        posthouse(&[&base, args].concat(), SECRET, input).await
    };
    let given =
        ["--source", "github", "--header", "X-GitHub-Event: issues", "--header", "x-github-delivery: 7", "--header", "a:"];
    let said = dry(&given, b"{}").await;
    for header in ["x-github-event: issues", "x-github-delivery: 7", "a: ", "content-type: application/json"] {
        said.is(0, &format!("\r\n{header}\r\n"));
    }
    assert!(!said.text().contains(FRESH_ID));
    dry(&["--source", "github"], b"a=b&c").await.is(0, "content-type: application/x-www-form-urlencoded\r\n");
    assert!(!dry(&["--source", "github"], b"{}").await.text().contains("x-github-event"), "nothing tells the type of stdin");
    dry(&["--source", "github"], b"plain text").await.is(0, "content-type: text/plain\r\n");
    dry(&["--source", "github", "--content-type", "text/xml"], b"{}").await.is(0, "content-type: text/xml\r\n");
    dry(&["--source", "github", "--header", "Content-Type: text/csv"], b"{}").await.is(0, "content-type: text/csv\r\n");
    let shopify =
        ["send", "--source", "shopify", "--event", "events/shopify-orders-create.json", "--url", "https://h/", "--dry-run"];
    posthouse(&shopify, SECRET, b"").await.is(0, "x-shopify-topic: orders/create\r\n");
}

#[tokio::test]
async fn only_the_sources_name_is_taken_from_a_samples_and_what_is_sent_is_told() {
    let beside = |stem: &str| {
        let path = std::env::temp_dir().join(format!("{stem}.json"));
        std::fs::write(&path, r#"{"id":1}"#).unwrap();
        path
    };
    for (source, stem, event_type) in [
        ("shopify", "orders-create", "orders-create"),
        ("shopify", "shopify-orders-paid", "orders-paid"),
        ("github", "a-push", "a-push"),
        ("github", "github-push", "push"),
    ] {
        let (url, request) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let event = beside(stem);
        let said = posthouse(&["send", "--source", source, "--event", name(&event), "--url", &url], SECRET, b"").await;
        said.is(0, &format!(", type {event_type}\n200 OK\n"));
        assert!(String::from_utf8_lossy(&request.await.unwrap()).contains(&format!(": {event_type}\r\n")), "{stem}");
    }
    let refusing = "[sources.a]\nscheme = \"stripe\"\nsecret = \"a\"\nevent = { unreadable = \"refuse\" }\n";
    let config = file("refusing-send.toml", refusing);
    let (url, _request) = server("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let args = ["send", "--source", "a", "--event", "-", "--config", name(&config), "--url", &url];
    posthouse(&args, SECRET, b"{}")
        .await
        .is(1, "no event: refused with 400: there is no event id at `json:/id`\n400 Bad Request\n");
}

#[tokio::test]
async fn a_url_that_a_host_header_cannot_tell_is_printed_whole() {
    for url in ["http://h:1/x", "https://user:pass@h/x", "https://h"] {
        let said = posthouse(&["send", "--source", "square", "--event", "-", "--url", url, "--dry-run"], SECRET, b"{}").await;
        said.is(0, &format!("POST {url} HTTP/1.1\r\n"));
        posthouse(&["verify", "--source", "square", "--request", "-"], SECRET, &said.output).await.is(0, "valid\n");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_told() {
    let event = "events/github-push.json";
    for (args, secret, status, words) in [
        (vec!["--source", "github", "--event", event], SECRET, 2, "where to? give --url, as https://…/v1/webhooks/github"),
        (
            vec!["--source", "github", "--event", event, "--url", "https://h/"],
            "",
            2,
            "set POSTHOUSE_SECRET or give --secret-file",
        ),
        (vec!["--source", "github", "--event", "no-such-file", "--url", "https://h/"], SECRET, 2, "no-such-file cannot be read"),
        (vec!["--source", "gihtub", "--event", event, "--url", "https://h/"], SECRET, 2, "(did you mean `github`"),
        (vec!["--source", "discord", "--event", event, "--url", "https://h/"], SECRET, 2, "private key that only it has"),
        (vec!["--source", "aws-sns", "--event", event, "--url", "https://h/"], SECRET, 2, "private key that only it has"),
        (
            vec!["--source", "svix", "--event", event, "--url", "https://h/"],
            "not base64!",
            2,
            "the text that the provider shows, in Base64",
        ),
        (vec!["--source", "github", "--event", event, "--url", "nonsense"], SECRET, 2, "the URL cannot be read"),
        (vec!["--source", "github", "--event", event, "--url", "http://127.0.0.1:1/"], SECRET, 1, "not sent: cannot connect"),
    ] {
        posthouse(&[vec!["send"], args].concat(), secret, b"").await.is(status, words);
    }
}
