//! `posthouse verify`.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use shared::{location::Places, signatures::preset::Preset};

use super::{NOW, SECRET, Said, file, name, posthouse, vectors};
use crate::vector::Vector;

/// Shortest secret that is searched for: shorter ones are in words and digests by chance.
const SEARCHED_CHARS_MIN: usize = 8;

fn lines(vectors: &[Value]) -> Vec<u8> {
    vectors.iter().map(|vector| format!("{vector}\n")).collect::<String>().into_bytes()
}

fn vector(id: &str) -> Value {
    vectors("signatures").into_iter().find(|vector| vector["id"] == id).unwrap()
}

/// The vector as an HTTP request.
fn as_http(vector: &Value, end: &str) -> Vec<u8> {
    let text = |field: &str| vector[field].as_str().unwrap();
    let mut request = format!("{} {} HTTP/1.1{end}", text("method"), text("url"));
    for header in vector["headers"].as_array().unwrap() {
        request.push_str(&format!("{}: {}{end}", header[0].as_str().unwrap(), header[1].as_str().unwrap()));
    }
    [request.as_bytes(), end.as_bytes(), &BASE64_STANDARD.decode(text("body_b64")).unwrap()].concat()
}

async fn verify(source: &str, request: &[u8], secret: &str) -> Said {
    posthouse(&["verify", "--source", source, "--request", "-"], secret, request).await
}

/// Each line begins as it is wanted, and the status says that something failed.
fn fails_with_lines(said: &Said, wanted: &[&str]) {
    let text = said.text();
    assert_eq!((text.lines().count(), said.status), (wanted.len(), 1), "{text}");
    for (line, wanted) in text.lines().zip(wanted) {
        assert!(line.starts_with(wanted), "{line}\n{wanted}");
    }
}

#[tokio::test]
async fn every_vector_is_judged_as_expected() {
    for name in ["signatures", "handshakes"] {
        let said = posthouse(&["verify", "--vectors", &format!("tests/vectors/{name}.jsonl")], "", b"").await;
        assert_eq!((said.text(), said.status), (format!("{} passed, 0 failed\n", vectors(name).len()), 0));
    }
}

#[tokio::test]
async fn schemes_of_a_configuration_judge_like_the_presets() {
    let own = [
        ("github", "hex-after-prefix"),
        ("slack", "versioned-text"),
        ("stripe", "list-in-one-header"),
        ("standard-webhooks", "encoded-secret"),
        ("square", "registered-url"),
        ("discord", "public-key"),
        ("sendgrid", "elliptic-curve"),
        ("cloudinary", "plain-hash"),
        ("gitlab", "shared-word"),
        ("pusher", "key-by-name"),
        ("messagebird-jwt", "signed-token"),
        ("twilio", "two-ways"),
    ];
    for (preset, scheme) in own {
        let mut renamed = vectors("signatures");
        renamed.retain(|vector| vector["scheme"] == preset);
        renamed.iter_mut().for_each(|vector| vector["scheme"] = scheme.into());
        let args = ["verify", "--vectors", "-", "--config", "cli/testdata/own-schemes.toml"];
        let said = posthouse(&args, "", &lines(&renamed)).await;
        assert_eq!((said.text(), said.status), (format!("{} passed, 0 failed\n", renamed.len()), 0), "{scheme}");
        assert!(renamed.len() > 2 && renamed.iter().any(|vector| vector["expect"] == "valid"), "{scheme}");
    }
}

#[tokio::test]
async fn a_scheme_of_the_file_goes_before_a_preset() {
    let other = file("other-github.toml", "[schemes.github]\nalgorithm = \"token\"\nsignature = { at = \"header:x-none\" }\n");
    let mut github = vectors("signatures");
    github.retain(|vector| vector["scheme"] == "github" && vector["expect"] == "valid");
    let said = posthouse(&["verify", "--vectors", "-", "--config", name(&other)], "", &lines(&github)).await;
    said.is(1, &format!("0 passed, {} failed\n", github.len()));
}

#[tokio::test]
async fn what_disagrees_or_cannot_be_read_has_failed_and_the_rest_goes_on() {
    let good = vector("github-fallback-secret");
    let with = |field: &str, value: Value| {
        let mut changed = good.clone();
        changed[field] = value;
        changed
    };
    let forged = with("body_b64", "e30=".into());
    let mut by_provider = with("extra", json!({"unknown": true}));
    by_provider.as_object_mut().unwrap().remove("scheme");
    let handshakes = vectors("handshakes");
    let handshake = |change: fn(&mut Value)| {
        let mut changed = handshakes.iter().find(|vector| vector["id"] == "twitter-crc").unwrap().clone();
        change(&mut changed["respond"]);
        changed
    };
    let file = [
        lines(&[good.clone(), with("expect", "invalid".into()), forged.clone()]),
        b"\r\n{\"id\": \"hush\", \n".to_vec(),
        lines(&[with("scheme", "gihtub".into()), with("expect", Value::Null), with("scheme", Value::Null), by_provider]),
        lines(&[handshake(|_| ()), handshake(|respond| respond["status"] = 400.into())]),
        lines(&[handshake(|respond| respond["body_b64"] = "e30=".into())]),
        lines(&[handshake(|respond| respond["headers"] = json!([["x-a", "1"]]))]),
        lines(&[
            json!({"provider": "plaid", "url": "https://h/", "headers": [], "body_b64": "", "secrets": [""], "expect": "invalid"}),
        ]),
    ];
    let said = posthouse(&["verify", "--vectors", "-"], "", &file.concat()).await;
    let wanted = [
        "line 2: github-fallback-secret: expected invalid, got valid by key 2",
        "line 3: github-fallback-secret: expected valid, got invalid: the signature does not match",
        "line 5: is not JSON, from line 1, column",
        "line 6: github-fallback-secret: there is no preset `gihtub` (did you mean `github`",
        "line 7: github-fallback-secret: has neither `expect` nor `respond`",
        "line 11: twitter-crc: expected status 400, got 200",
        "line 12: twitter-crc: expected another body",
        "line 13: twitter-crc: expected another header x-a",
        "5 passed, 8 failed",
    ];
    fails_with_lines(&said, &wanted);
}

#[tokio::test]
async fn a_vector_without_a_time_is_verified_by_the_clock() {
    let mut slack = vector("slack-valid");
    posthouse(&["verify", "--vectors", "-"], "", &lines(&[slack.clone()])).await.is(0, "1 passed");
    slack.as_object_mut().unwrap().remove("now");
    posthouse(&["verify", "--vectors", "-"], "", &lines(&[slack])).await.is(1, "got invalid: the timestamp is ");
}

#[tokio::test]
async fn crlf_and_lf_requests_are_judged_alike() {
    for id in ["github-fallback-secret", "slack-valid", "twilio-valid"] {
        let vector = vector(id);
        let keys: Vec<Value> =
            vector["secrets"].as_array().unwrap().iter().map(|secret| json!({"id": "k", "secret": secret})).collect();
        let (keyring, now) = (json!({ "keys": keys }).to_string(), vector["now"].to_string());
        let args = ["verify", "--source", vector["scheme"].as_str().unwrap(), "--request", "-", "--now", &now];
        for end in ["\r\n", "\n"] {
            posthouse(&args, &keyring, &as_http(&vector, end)).await.is(0, "valid\n");
        }
    }
}

#[tokio::test]
async fn a_body_of_any_bytes_is_verified_as_it_is() {
    let body: Vec<u8> = (0..=255).chain(*b"\r\n\r\n\n").collect();
    let event = file("binary", &body);
    let args = ["send", "--source", "github", "--event", name(&event), "--url", "https://h/", "--dry-run"];
    let sent = posthouse(&args, SECRET, b"").await;
    sent.is(0, "content-type: application/octet-stream");
    assert!(sent.output.ends_with(&body));
    verify("github", &sent.output, SECRET).await.is(0, "valid\n");
    verify("github", &[&sent.output[..], b"\n"].concat(), SECRET).await.is(1, "body without the line break at its end");
}

#[tokio::test]
async fn a_proven_webhook_is_told_of() {
    let body = r#"{"id":"evt_1","type":"invoice.paid","created":1699999990}"#;
    let sent =
        posthouse(&["send", "--source", "stripe", "--event", "-", "--url", "https://h/", "--dry-run"], SECRET, body.as_bytes())
            .await;
    let args = ["verify", "--source", "stripe", "--request", "-", "--now", "1700000012"];
    let said = posthouse(&args, SECRET, &sent.output).await.text();
    for line in [
        "valid",
        "  scheme      stripe: hmac-sha256",
        "  key         initial",
        "  event id    evt_1",
        "  type        invoice.paid",
        "  occurred    2023-11-14T22:13:10Z",
        "  sent        12 s ago (signature:t; 300 s allowed)",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
    let args = ["verify", "--source", "stripe", "--request", "-", "--now", "2023-11-14T23:13:20Z"];
    let stale = posthouse(&args, SECRET, &sent.output).await;
    stale.is(1, "invalid: the timestamp is 3600 s off, more than the 300 s allowed");
    stale.is(1, "give --now with the time of its capture");
}

#[tokio::test]
async fn every_refusal_has_its_advice() {
    let head = |headers: &str, body: &str| format!("POST / HTTP/1.1\nhost: h\n{headers}\n\n{body}").into_bytes();
    let signed = "webhook-signature: v1,AAAA\nwebhook-id: a";
    for (source, request, words) in [
        ("github", head("x-hub-signature: sha1=00", ""), "  instead     header:x-hub-signature\n"),
        ("github", head("x-hub-signature-256: 00", ""), "hexadecimal after `sha256=`"),
        ("stripe", head("stripe-signature: t=1,v1=zz", ""), "in a list of `v1=…` with `,` between"),
        ("github", head("x-hub-signature-256: sha256=00", ""), "is it this endpoint's secret?"),
        ("square", head("x-square-hmacsha256-signature: AAAA", ""), "is `public_url` (or --url) to the letter"),
        ("plivo-v2", head("x-plivo-signature-v2: AAAA", ""), "  missing     header:x-plivo-signature-v2-nonce\n"),
        ("slack", head("x-slack-signature: v0=00", ""), "the provider sends its time with each one"),
        ("slack", head("x-slack-signature: v0=00\nx-slack-request-timestamp: noon", ""), "unit of time"),
        (
            "standard-webhooks",
            head(&format!("{signed}\nwebhook-timestamp: 1700000000"), ""),
            "in Base64; `whsec_` before it may stay or go",
        ),
        (
            "discord",
            head("x-signature-ed25519: 00\nx-signature-timestamp: 1", ""),
            "the provider's public key: PEM, or hexadecimal",
        ),
        ("vonage", head("authorization: Bearer a.b.c", ""), "check       "),
        (
            "aws-sns",
            head("a: b", r#"{"SignatureVersion":"2","Signature":"AAAA","SigningCertURL":"https://example.com/"}"#),
            "check       ",
        ),
    ] {
        let said = verify(source, &request, "not base64!").await;
        said.is(1, words);
        assert!(said.text().starts_with("invalid: "), "{said:?}");
    }
}

#[tokio::test]
async fn a_url_of_another_spelling_is_found() {
    let square =
        vectors("signatures").into_iter().find(|vector| vector["scheme"] == "square" && vector["expect"] == "valid").unwrap();
    let secret = square["secrets"][0].as_str().unwrap();
    let url = square["url"].as_str().unwrap();
    let request = as_http(&square, "\n");
    let with_url =
        async |url: &str| posthouse(&["verify", "--source", "square", "--request", "-", "--url", url], secret, &request).await;
    with_url(url).await.is(0, "valid");
    with_url(&format!("{url}/")).await.is(1, "the signature holds for the URL without the slash at its end");
    with_url(&url.replace("https:", "http:")).await.is(1, "the signature holds for the URL with https");
    let config = file("square.toml", format!("[sources.shop]\nscheme = \"square\"\nsecret = \"a\"\npublic_url = \"{url}\"\n"));
    let args = ["verify", "--source", "shop", "--request", "-", "--config", name(&config)];
    posthouse(&args, secret, &request).await.is(0, "  scheme      shop: hmac-sha256");
}

#[tokio::test]
async fn a_registered_query_is_tried_in_its_order_and_never_replaces_the_requests() {
    let signed = |query: &str| {
        use hmac::{Hmac, KeyInit, Mac};
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("https://hooks.example.com/t?{query}CallSidCA1").as_bytes());
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, mac.finalize().into_bytes())
    };
    let request = |query: &str, signature: &str| {
        format!(
            "POST /t{query} HTTP/1.1\nHost: hooks.example.com\nX-Twilio-Signature: {signature}\n\
             Content-Type: application/x-www-form-urlencoded\n\nCallSid=CA1"
        )
    };
    let registered = "https://hooks.example.com/t?b=456&a=123";
    let config =
        file("twilio.toml", format!("[sources.tw]\nscheme = \"twilio\"\nsecret = \"t\"\npublic_url = \"{registered}\"\n"));
    let ways = [vec!["--source", "tw", "--config", name(&config)], vec!["--source", "twilio", "--url", registered]];
    for way in ways {
        let args = [&["verify", "--request", "-"], &way[..]].concat();
        let sorted = request("?a=123&b=456", &signed("b=456&a=123"));
        posthouse(&args, SECRET, sorted.as_bytes()).await.is(0, "URL         signed with the query as it is registered");
        let none = request("", &signed("b=456&a=123"));
        posthouse(&args, SECRET, none.as_bytes()).await.is(1, "invalid: the signature does not match");
    }
}

#[tokio::test]
async fn a_handshake_is_told_as_the_receiver_answers_it() {
    let get = b"GET /?hub.mode=subscribe&hub.challenge=1158&hub.verify_token=word HTTP/1.1\nhost: h\n\n";
    let meta = ["verify", "--source", "meta", "--request", "-"];
    posthouse(&meta, "", get).await.is(2, "depends on the source's handshake secret: give --handshake-secret-file");
    let with = async |word: &str| {
        let secret = file(&format!("handshake-{word}"), word);
        posthouse(&[&meta[..], &["--handshake-secret-file", name(&secret)]].concat(), "", get).await
    };
    with("word").await.is(0, "handshake: answered 200\n  scheme      meta: hmac-sha256\n  body        4 bytes\n");
    with("other")
        .await
        .is(1, "handshake: refused with 403: the handshake is not what its protocol demands: `query:hub.verify_token`");
    let head = b"HEAD /trello HTTP/1.1\nhost: h\n\n";
    posthouse(&["verify", "--source", "trello", "--request", "-"], "", head).await.is(0, "handshake: answered 200\n");
    let okta = b"GET / HTTP/1.1\nhost: h\nx-okta-verification-challenge: abc\n\n";
    posthouse(&["verify", "--source", "okta", "--request", "-"], "", okta).await.is(0, "bytes: {\"verification\":\"abc\"}\n");
    let asana = b"POST / HTTP/1.1\nhost: h\nx-hook-secret: hush-hush-hush\n\n{}";
    let said = posthouse(&["verify", "--source", "asana", "--request", "-"], "", asana).await;
    said.is(0, "  enrols      its secret becomes a key of the source while enrolment is open; else it is answered 403\n");
    assert!(!said.text().contains("hush"));
    let slack = br#"{"type":"url_verification","challenge":"abc"}"#;
    let unsigned = [&b"POST / HTTP/1.1\nhost: h\n\n"[..], slack].concat();
    verify("slack", &unsigned, SECRET)
        .await
        .is(1, "  note        this is a handshake: it is answered once its signature is right\n");
    let signed =
        posthouse(&["send", "--source", "slack", "--event", "-", "--url", "https://h/", "--dry-run"], SECRET, slack).await;
    let said = verify("slack", &signed.output, SECRET).await;
    said.is(0, "handshake: answered 200\n  scheme      slack: hmac-sha256\n  key         initial\n  body        3 bytes: abc\n");
}

#[tokio::test]
async fn what_the_receiver_refuses_is_refused_in_the_first_line() {
    let ping = std::fs::read("cli/testdata/github-ping.http");
    let ping = ping.or_else(|_| std::fs::read("../cli/testdata/github-ping.http")).unwrap();
    let put = [b"PUT", ping.strip_prefix(b"POST").unwrap()].concat();
    verify("github", &put, SECRET)
        .await
        .is(1, "refused with 405: this source takes POST\n  scheme      github: hmac-sha256\n  key ");
    let of = async |settings: &str, request: &[u8]| {
        let config = file("refusing-verify.toml", format!("[sources.a]\nscheme = \"github\"\nsecret = \"a\"\n{settings}"));
        posthouse(&["verify", "--source", "a", "--request", "-", "--config", name(&config)], SECRET, request).await
    };
    of("", &ping).await.is(0, "  answer      202\n");
    of("answer = { status = 204 }", &ping).await.is(0, "  answer      204\n");
    of("methods = [\"PUT\"]", &put).await.is(0, "valid\n");
    of("body_bytes_max = 3478", &ping).await.is(1, "refused with 413: the body is larger than the 3478 bytes");
    of("event = { id = \"json:/none\", unreadable = \"refuse\" }", &ping)
        .await
        .is(1, "refused with 400: there is no event id at `json:/none`\n");
    of("", b"POST / HTTP/1.1\n\n")
        .await
        .is(1, "invalid: the signature is missing\n  scheme      a: hmac-sha256\n  answer      401\n");
    let svix = b"POST / HTTP/1.1\nsvix-id: a\nsvix-timestamp: 1700000000\nsvix-signature: v1,AAAA\n\n";
    verify("svix", svix, "not base64!").await.is(1, "  answer      503\n");
}

#[tokio::test]
async fn a_line_is_judged_by_the_source_that_it_names() {
    let config = file(
        "vector-sources.toml",
        r#"
        [schemes.typo]
        algoritm = "token"
        [schemes.impossible]
        algorithm = "hmac-sha256"
        signed = "nothing"
        signature = { at = "header:x-s", encoding = "hex" }
        [sources.gets]
        scheme = "gitlab"
        secret = "a"
        methods = ["GET"]
        [sources.shakes]
        scheme = "gitlab"
        secret = "a"
        handshake = { method = "HEAD", signed = false, answer = { status = 204 } }
        [sources.strict]
        scheme = "github"
        secret = "a"
        event = { id = "json:/id", unreadable = "refuse" }
        [sources.bad]
        scheme = "typo"
        secret = "a"
        [sources.square]
        scheme = "square"
        secret = "a"
        public_url = "https://example.com/registered"
        "#,
    );
    let gitlab = |source: &str, method: &str, expect: &str| {
        json!({"id": format!("{source}-{method}"), "scheme": source, "method": method, "url": "https://h/", "body_b64": "e30=",
            "headers": [["X-Gitlab-Token", "word"]], "secrets": ["word"], "expect": expect})
    };
    let shakes = json!({"id": "shakes", "scheme": "shakes", "method": "HEAD", "url": "https://h/", "headers": [], "body_b64": "",
        "secrets": [], "respond": {"status": 204}});
    let strict = |expect: &str| {
        let mut strict = vector("github-fallback-secret");
        (strict["scheme"], strict["expect"]) = ("strict".into(), expect.into());
        strict
    };
    let mut square = vectors("signatures");
    square.retain(|vector| vector["scheme"] == "square" && vector["expect"] == "valid");
    // Signed over another URL than the registered one.
    square[0]["expect"] = "invalid".into();
    let file = [
        gitlab("gets", "GET", "valid"),
        gitlab("gets", "POST", "invalid"),
        shakes,
        square.remove(0),
        strict("invalid"),
        gitlab("gets", "POST", "valid"),
        strict("valid"),
        gitlab("bad", "POST", "valid"),
        gitlab("typo", "POST", "valid"),
        gitlab("impossible", "POST", "valid"),
        gitlab("gitlap", "POST", "valid"),
        gitlab("gitlab", "POST", "valid"),
    ];
    let args = ["verify", "--vectors", "-", "--config", name(&config)];
    let said = posthouse(&args, "", &lines(&file)).await;
    let text = said.text();
    let wanted = [
        "line 6: gets-POST: expected valid, got refused with 405: this source takes GET",
        "line 7: github-fallback-secret: expected valid, got refused with 400: ",
        "line 8: bad-POST: ",
        "line 9: typo-POST: ",
        "line 10: impossible-POST: ",
        "line 11: gitlap-POST: there is no source, scheme or preset `gitlap` (did you mean `gitlab` or `gitea`?)",
        "6 passed, 6 failed",
    ];
    fails_with_lines(&said, &wanted);
    assert_eq!(text.matches("scheme `typo`: unknown field `algoritm`").count(), 2, "{text}");
    assert_eq!(text.matches("scheme `impossible`: ").count(), 1, "{text}");
}

#[tokio::test]
async fn nothing_that_is_shown_is_a_secret_or_a_signature() {
    for vector in vectors("signatures").into_iter().chain(vectors("handshakes")) {
        let text = vector.to_string();
        let parsed = Vector::parse(text.as_bytes()).unwrap();
        let hidden = hidden(&vector, &parsed);
        let scheme = parsed.scheme.as_deref().unwrap();
        let now = vector["now"].to_string();
        let keyring = parsed.keyring.as_ref().map_or_else(|| "no-key".to_owned(), shared::secrets::Keyring::expose);
        let http = as_http(&vector, "\r\n");
        let spoiled = [&http[..], b" "].concat();
        for (request, secret) in [(text.as_bytes(), ""), (&http, &keyring), (&http, "another-secret"), (&spoiled, &keyring)] {
            let said = posthouse(&["verify", "--source", scheme, "--request", "-", "--now", &now], secret, request).await;
            for hidden in &hidden {
                assert!(!said.text().contains(hidden), "{}: {hidden}\n{}", vector["id"], said.text());
            }
        }
        let said = posthouse(&["verify", "--vectors", "-"], "", text.replace("\"valid\"", "\"invalid\"").as_bytes()).await;
        assert!(hidden.iter().all(|hidden| !said.text().contains(hidden)), "{}", said.text());
    }
}

/// Secrets, the signatures that came, and the one that would have been right.
fn hidden(vector: &Value, parsed: &Vector) -> Vec<String> {
    let scheme = Preset::find(parsed.scheme.as_deref().unwrap()).unwrap().unwrap().scheme;
    let mut right = parsed.webhook.clone();
    if let Some(keyring) = &parsed.keyring {
        let _ = scheme.sign(&mut right, keyring, parsed.now.unwrap_or(NOW));
    }
    let mut hidden: Vec<String> =
        vector["secrets"].as_array().unwrap().iter().map(|secret| secret.as_str().unwrap().to_owned()).collect();
    for webhook in [&parsed.webhook, &right] {
        let places = Places::new(webhook);
        let found =
            scheme.alternatives.iter().flat_map(|alternative| alternative.signature.at.iter()).filter_map(|at| places.find(at));
        hidden.extend(
            found.flat_map(|value| value.split([',', ' ', ';', '=', '|', '&', ':', '.']).map(str::to_owned).collect::<Vec<_>>()),
        );
    }
    hidden.retain(|text| {
        let is_name = ["signature", "timestamp"].contains(&text.as_str());
        text.len() >= SEARCHED_CHARS_MIN && !is_name && text.bytes().any(|byte| !byte.is_ascii_digit())
    });
    hidden
}

#[tokio::test]
async fn what_is_asked_wrongly_is_told() {
    let ping = "cli/testdata/github-ping.http";
    let long = file("empty-keyring", "{\"keys\": [{\"id\": \"hush\"}]}");
    for (args, secret, words) in [
        (vec!["verify", "--source", "github", "--request", ping], "", "set POSTHOUSE_SECRET or give --secret-file"),
        (vec!["verify", "--request", ping], SECRET, "give --source"),
        (vec!["verify", "--source", "gihtub", "--request", ping], SECRET, "(did you mean `github`"),
        (vec!["verify", "--source", "github", "--request", "no-such-file"], SECRET, "no-such-file cannot be read"),
        (vec!["verify", "--source", "github", "--request", "Makefile"], SECRET, "Makefile: line 1: this is no request line"),
        (vec!["verify", "--source", "github", "--request", "-"], SECRET, "-: is empty"),
        (
            vec!["verify", "--source", "github", "--request", ping, "--secret-file", "no-such-file"],
            "",
            "no-such-file cannot be read",
        ),
        (
            vec!["verify", "--source", "github", "--request", ping, "--secret-file", name(&long)],
            "",
            "the secret is JSON but not of the form",
        ),
        (vec!["verify", "--source", "github", "--request", ping, "--secret", "hush"], "", "unexpected argument"),
        (vec!["verify", "--source", "github", "--request", ping, "--now", "noon"], "", "write it like 2026-11-22T06:24:35Z"),
        (vec!["verify", "--vectors", "no-such-file"], "", "no-such-file cannot be read"),
        (vec!["verify", "--vectors", "-", "--config", "no-such-file"], "", "no-such-file:1:1: cannot be read"),
    ] {
        posthouse(&args, secret, b"").await.is(2, words);
    }
    let config = ["verify", "--source", "shpify", "--request", ping, "--config", "infra/gateway/gateway.toml"];
    posthouse(&config, SECRET, b"").await.is(2, "there is no source, scheme or preset `shpify` (did you mean `shopify`?)");
}

#[tokio::test]
async fn a_secret_comes_from_a_file_before_all_else() {
    let ping = "cli/testdata/github-ping.http";
    let right = file("secret", format!("{SECRET}\n"));
    let args = ["verify", "--source", "github", "--request", ping, "--secret-file", name(&right)];
    posthouse(&args, "another", b"").await.is(0, "  key         initial\n");
    let keyring = file("keyring", json!({"keys": [{"id": "b", "secret": "x"}, {"id": "a", "secret": SECRET}]}).to_string());
    let args = ["verify", "--source", "github", "--request", ping, "--secret-file", name(&keyring)];
    posthouse(&args, "", b"").await.is(0, "  key         a\n");
    let expired = json!({"keys": [{"id": "a", "secret": SECRET, "notAfter": "2020-01-01T00:00:00Z"}]}).to_string();
    posthouse(&["verify", "--source", "github", "--request", ping], &expired, b"").await.is(1, "1 expired");
}
