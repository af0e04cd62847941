//! What is refused before anybody has signed it: what comes past the front door, and floods of names of signing keys. Through the real
//! receiver over a model of AWS; nothing of it harms genuine webhooks, and no answer of ours is a 5xx that strangers can cause.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_config::SdkConfig;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use receiver::{FRONT_DOOR_HEADER, Receiver};
use serde_json::{Value, json};
use shared::{
    fetched::{FETCHES_PER_MINUTE_MAX, FetchedKeys},
    secrets::{KEYRING_CACHE_SECONDS, KEYRING_REREAD_SECONDS},
    time::Timestamp,
};
use tests::{
    model::Service,
    passage::{NOW, Passage, SECRET, signed},
    providers::{Provider, Webhook},
};

const SOURCES: &str = "[sources.stripe]\nscheme = \"stripe\"\nsecret = \"shared\"\n\
                       [[routes]]\nsource = \"stripe\"\ndestination = \"plain\"\n";

/// A receiver that only takes what comes through the front door, and that knows no keyring yet.
fn behind_the_front_door(passage: &Passage) -> Receiver {
    let mut receiver = passage.receiver("receiver-1");
    receiver.front_door = Some("front-door".to_owned());
    receiver
}

#[test]
fn what_comes_past_the_front_door_is_refused_before_anything_else() {
    let passage = Passage::new(SOURCES);
    passage.aws.put_signing_secret("front-door", r#"{"current":"new","previous":"old"}"#);
    let receiver = behind_the_front_door(&passage);
    let answer = |webhook: &Webhook| passage.receive_by(&receiver, webhook, NOW);
    let genuine = signed(br#"{"id":"evt_1","type":"a"}"#);
    for (webhook, status) in [
        (genuine.clone(), 403),
        (genuine.clone().with(FRONT_DOOR_HEADER, ""), 403),
        (genuine.clone().with(FRONT_DOOR_HEADER, "wrong"), 403),
        (genuine.clone().with(FRONT_DOOR_HEADER, "new,new"), 403),
        (genuine.clone().with(FRONT_DOOR_HEADER, "new"), 202),
        (genuine.clone().with(FRONT_DOOR_HEADER, "old"), 200),
    ] {
        let (answered, told) = answer(&webhook);
        assert_eq!(answered, status, "{told}");
        if status == 403 {
            assert_eq!(told["error"]["code"], "past_front_door");
        }
    }
    assert_eq!((passage.counted("PastFrontDoor"), passage.counted("SignatureFailures")), (4, 0));
    let reads = passage.aws.calls_by_operation().get(&(Service::SecretsManager, "GetSecretValue".to_owned())).copied();
    assert!(reads <= Some(3), "strangers cause no calls at will: {reads:?}");
}

#[test]
fn the_front_doors_secret_is_rotated_without_refusing_anything() {
    let passage = Passage::new(SOURCES);
    passage.aws.put_signing_secret("front-door", r#"{"current":"old"}"#);
    let receiver = behind_the_front_door(&passage);
    let answered = |shown: &str, seconds: u64| {
        let now = NOW.plus(Duration::from_secs(seconds));
        let genuine = Provider::Stripe.sign(br#"{"id":"evt_1","type":"a"}"#, "", SECRET, now.seconds());
        passage.receive_by(&receiver, &genuine.with(FRONT_DOOR_HEADER, shown), now).0
    };
    assert_eq!(answered("old", 0), 202);
    passage.aws.put_signing_secret("front-door", r#"{"current":"new","previous":"old"}"#);
    assert_eq!((answered("old", 1), answered("new", 2)), (200, 200), "an unknown value has it read again");
    passage.aws.put_signing_secret("front-door", r#"{"current":"new"}"#);
    let later = KEYRING_REREAD_SECONDS + KEYRING_CACHE_SECONDS;
    assert_eq!((answered("new", later), answered("old", later)), (200, 403));
}

const NOTIFICATION: &str = include_str!("../../shared/testdata/keys/sns-notification.json");
const CERTIFICATE: &str = include_str!("../../shared/testdata/keys/sns-certificate.pem");
const SNS: &str = "[sources.stripe]\nscheme = \"aws-sns\"\nsecret = \"topic\"\n\
                   [[routes]]\nsource = \"stripe\"\ndestination = \"plain\"\n";
/// While the certificate is valid.
const SNS_NOW: Timestamp = Timestamp::from_seconds(1_795_329_000);

/// A host that has one certificate, whatever it is asked for.
#[derive(Clone, Debug, Default)]
struct CertificateHost(Arc<AtomicUsize>);

impl HttpConnector for CertificateHost {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        self.0.fetch_add(1, Ordering::Relaxed);
        HttpConnectorFuture::ready(Ok(HttpResponse::new(StatusCode::try_from(200).unwrap(), SdkBody::from(CERTIFICATE))))
    }
}

/// A receiver of a new environment, for notifications of SNS.
fn for_sns(passage: &Passage, host: &CertificateHost) -> Receiver {
    let host = host.clone();
    let client = http_client_fn(move |_, _| SharedHttpConnector::new(host.clone()));
    let mut receiver = passage.receiver("receiver-1");
    receiver.fetched_keys = FetchedKeys::new(&SdkConfig::builder().http_client(client).build());
    receiver
}

/// A notification that names another key.
fn naming(number: usize) -> Webhook {
    let mut message: Value = serde_json::from_str(NOTIFICATION).unwrap();
    let url = format!("https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-{number:032x}.pem");
    message["SigningCertURL"] = json!(url);
    message["MessageId"] = json!(format!("made up {number}"));
    notification(&message.to_string())
}

fn notification(body: &str) -> Webhook {
    let headers = vec![
        ("content-type".to_owned(), "text/plain; charset=UTF-8".to_owned()),
        ("x-amz-sns-message-type".to_owned(), "Notification".to_owned()),
    ];
    Webhook { headers, body: body.as_bytes().to_vec() }
}

#[test]
fn a_flood_of_unknown_keys_keeps_no_genuine_webhook_out_and_is_no_error_of_ours() {
    let passage = Passage::new(SNS);
    passage.aws.put_signing_secret("topic", "arn:aws:sns:eu-central-1:123456789012:posthouse");
    let host = CertificateHost::default();
    let warm = for_sns(&passage, &host);
    let genuine = notification(NOTIFICATION);
    let flood = |receiver: &Receiver, now: Timestamp| {
        for number in 0..3 * FETCHES_PER_MINUTE_MAX {
            let (status, told) = passage.receive_by(receiver, &naming(number), now);
            let is_over = number >= FETCHES_PER_MINUTE_MAX;
            assert_eq!(status, if is_over { 429 } else { 401 }, "{number}: {told}");
        }
    };
    let (status, told) = passage.receive_by(&warm, &genuine, SNS_NOW);
    assert_eq!(status, 202, "{told}");
    // In the environment that knows the key, also when it has to be fetched again.
    let next_day = SNS_NOW.plus(Duration::from_secs(24 * 60 * 60));
    flood(&warm, next_day);
    assert_eq!(passage.receive_by(&warm, &genuine, next_day).0, 200);
    // And in one that knows nothing.
    let cold = for_sns(&passage, &host);
    flood(&cold, next_day);
    let fetched = host.0.load(Ordering::Relaxed);
    assert_eq!(passage.receive_by(&cold, &genuine, next_day).0, 200);
    assert_eq!(host.0.load(Ordering::Relaxed), fetched + 1);
    assert_eq!(passage.counted("UnknownKeysRefused"), 4 * FETCHES_PER_MINUTE_MAX as u64);
    // What nobody has seen before has to wait for the next minute, and is told so.
    let (status, told) = passage.receive_by(&cold, &naming(usize::MAX), next_day);
    assert_eq!((status, &told["error"]["code"]), (429, &json!("too_many_keys")));
}
