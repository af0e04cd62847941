//! Keys that are replaced, broken, rotated and handed out, as their operator does it.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, sts::AssumeRoleProvider};
use aws_sdk_dynamodb::{config::SharedCredentialsProvider, types::AttributeValue};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::signature::{ED25519, UnparsedPublicKey};
use tests::{
    destination::Entry,
    providers::{Provider, standard_webhooks_signature},
    stack::{Answer, Stack, eventually, unique, unix_now, when},
};

use crate::{SOON, journey, operator::posthouse};

/// The configuration that the stack was deployed with.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/local/gateway/gateway.toml");
/// How long a receiver that has just read its keyring early may take until it reads it again.
const KEYRING_READ_AGAIN: Duration = Duration::from_secs(90);

/// What a destination's operator is handed, newest first.
pub(crate) fn destination_keys(stack: &Stack, destination: &str) -> Vec<String> {
    let said = posthouse(stack, "destinations", &["key", "--config", CONFIG, destination]);
    said.is(0, "destination ");
    let keys = said.text.lines().skip(1).map(|line| line.split_once("  ").unwrap_or_else(|| panic!("no key in {line}")).0);
    keys.map(str::to_owned).collect()
}

/// Sends a new event of a source, signed with a secret of the journey's choice.
async fn send(stack: &Stack, source: &'static str, secret: &str) -> Answer {
    let sample = stack.sample(source);
    let webhook = Provider::StandardWebhooks.sign(&sample.body, &sample.id, secret, unix_now());
    stack.post_once(source, &webhook).await
}

/// A file with a secret, which is removed with it.
struct SecretFile(std::path::PathBuf);

impl SecretFile {
    fn of(secret: &str) -> Self {
        let path = std::env::temp_dir().join(format!("posthouse-journey-{}", unique()));
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[test]
fn a_leaked_key_that_one_command_has_replaced_proves_nothing_and_the_new_one_does() {
    journey(async |stack| {
        let keys = async |command: &str, rest: &[&str]| {
            let said = posthouse(stack, "keys", &[&[command, "--config", CONFIG, "leaky"], rest].concat());
            said.is(0, "position 1");
            said.text
        };
        let leaked = stack.keyring("source/leaky").await.remove(0).secret;
        let accepted =
            eventually("the key counts", SOON, async || when(send(stack, "leaky", &leaked).await, |answer| answer.status == 202));
        accepted.await;
        let shown =
            eventually("the index has its event", SOON, async || when(keys("show", &[]).await, |text| text.contains("last hit")))
                .await;
        assert!(!shown.contains(&leaked), "{shown}");

        let new = BASE64_STANDARD.encode(format!("a new key, made up by a journey: {}", unique()));
        let file = SecretFile::of(&new);
        let planned = keys("replace", &["--secret-file", file.path(), "--dry-run"]).await;
        assert!(planned.starts_with("would put") && stack.keyring("source/leaky").await[0].secret == leaked, "{planned}");
        let said = keys("replace", &["--secret-file", file.path()]).await;
        assert!(said.contains("proves nothing in any environment after 300 s: from "), "{said}");
        assert!(said.contains("\nbefore\nposition 1   ") && said.contains("\nafter\nposition 1   replaced-"), "{said}");
        assert!(!said.contains(&leaked) && !said.contains(&new), "{said}");
        let again = posthouse(stack, "keys", &["replace", "--config", CONFIG, "leaky", "--secret-file", file.path()]);
        again.is(2, "the keyring has this secret and no other");

        // Each environment that gets one of the new key reads the keyring again, at most once a minute.
        eventually("the leaked key proves nothing", KEYRING_READ_AGAIN, async || {
            let answers = futures::future::join_all((0..4).map(|_| send(stack, "leaky", &new))).await;
            let is_known = answers.iter().all(|answer| answer.status == 202);
            when(send(stack, "leaky", &leaked).await, |answer| is_known && answer.status == 401)
        })
        .await;
        eventually("its hits are told", SOON, async || {
            when(keys("show", &[]).await, |text| {
                text.contains("replaced-") && text.contains("gone  ") && text.contains("last hit")
            })
        })
        .await;
    });
}

#[test]
fn a_broken_keyring_is_answered_503_and_a_mended_one_serves_again() {
    journey(async |stack| {
        let secret = stack.keyring("source/breakable").await.remove(0).secret;
        let served = async || {
            eventually("the key counts", KEYRING_READ_AGAIN, async || {
                when(send(stack, "breakable", &secret).await, |answer| answer.status == 202)
            })
            .await
        };
        served().await;
        for broken in [format!(r#"{{"keys":[{{"id":"a","secret":"{secret}"}},]}}"#), r#"{"keys":[]}"#.to_owned()] {
            stack.put_secret("source/breakable", &broken).await;
            // In an environment that knows the old keyring, it is a wrong signature that has it read again.
            eventually("a broken keyring proves nothing", KEYRING_READ_AGAIN, async || {
                let refused = send(stack, "breakable", "d3Jvbmc=").await;
                let genuine = send(stack, "breakable", &secret).await;
                when(genuine, |genuine| (refused.status, genuine.status) == (503, 503))
            })
            .await;
            stack.put_secret("source/breakable", &secret).await;
            served().await;
        }
    });
}

/// Whether a key signed what came.
fn is_signed_with(entry: &Entry, key: &str) -> bool {
    let header = |name| entry.header(name).unwrap_or_else(|| panic!("no {name} in {:?}", entry.headers));
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let signatures = || header("webhook-signature").split(' ');
    match key.strip_prefix("whpk_") {
        None => {
            let expected = standard_webhooks_signature(key, id, at.parse().unwrap(), &entry.body);
            signatures().any(|signature| signature == expected)
        }
        Some(public) => {
            let key = UnparsedPublicKey::new(&ED25519, BASE64_STANDARD.decode(public).unwrap());
            let signed = [format!("{id}.{at}.").as_bytes(), &entry.body].concat();
            let bytes = |signature: &str| BASE64_STANDARD.decode(signature.strip_prefix("v1a,")?).ok();
            signatures().filter_map(bytes).any(|signature| key.verify(&signed, &signature).is_ok())
        }
    }
}

#[test]
fn a_destination_is_rotated_by_itself_and_verifies_with_what_it_was_handed() {
    journey(async |stack| {
        let delivered = async |destination: &'static str| {
            let sample = stack.sample("leaky");
            let accepted = eventually("a key of the source counts", KEYRING_READ_AGAIN, async || {
                let key = stack.keyring("source/leaky").await.remove(0).secret;
                let webhook = Provider::StandardWebhooks.sign(&sample.body, &sample.id, &key, unix_now());
                when(stack.post_once("leaky", &webhook).await, Answer::took_it_in)
            });
            accepted.await;
            stack.reaches(&sample, destination, "done", SOON).await;
            stack.destination.journal(destination, &sample.id).await.remove(0)
        };
        let before = destination_keys(stack, "rotatable");
        // By one of them: a worker may have read the keyring before it was rotated last.
        let is_signed_with_any = |entry: &Entry, keys: &[String]| keys.iter().any(|key| is_signed_with(entry, key));
        assert!(is_signed_with_any(&delivered("rotatable").await, &before));

        let rotate =
            |rest: &[&str]| posthouse(stack, "destinations", &[&["rotate", "--config", CONFIG, "rotatable"], rest].concat());
        rotate(&["--dry-run"]).is(0, "nothing is changed");
        assert_eq!(destination_keys(stack, "rotatable"), before);
        let said = rotate(&["--overlap-days", "1"]);
        said.is(0, "every worker signs with this key after 300 s");
        let both = destination_keys(stack, "rotatable");
        assert!(both.len() > before.len() && both[1] == before[0] && said.text.contains(&both[0]), "{both:?}");
        // A worker that has read the keyring before signs with the old key for a while; the receiver takes either.
        assert!(is_signed_with_any(&delivered("rotatable").await, &both), "the overlap");
        rotate(&["--secret-file", "/dev/null"]).is(2, "/dev/null");

        // Another one, whose name has changed and whose key has not: it is derived for `before`.
        let public = destination_keys(stack, "renamed").remove(0);
        assert!(public.starts_with("whpk_"), "{public}");
        let entry = delivered("renamed").await;
        assert!(is_signed_with(&entry, &public) && !is_signed_with(&entry, &both[0]), "{:?}", entry.headers);
        posthouse(stack, "destinations", &["key", "--config", CONFIG, "sqs"]).is(2, "are not signed");
        posthouse(stack, "destinations", &["key", "--config", CONFIG, "nobody"]).is(2, "has no destination `nobody`");
    });
}

/// Clients with the credentials of a function's role.
async fn as_function(stack: &Stack, role: &str) -> SdkConfig {
    let function = stack.lambda.get_function().function_name(stack.output(&format!("{role}FunctionName"))).send().await.unwrap();
    let arn = function.configuration.unwrap().role.unwrap();
    let loader =
        aws_config::defaults(BehaviorVersion::latest()).region("us-east-1").endpoint_url(stack.aws.endpoint_url().unwrap());
    let loader = loader.credentials_provider(stack.aws.credentials_provider().unwrap());
    let config = loader.http_client(stack.aws.http_client().unwrap()).load().await;
    let provider = AssumeRoleProvider::builder(arn).session_name(unique()).configure(&config).build().await;
    config.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}

#[test]
fn no_function_reads_the_secrets_of_the_other_half_and_the_receiver_touches_no_item_but_events() {
    journey(async |stack| {
        let refused = |what: &str, error: Option<String>| {
            let error = error.unwrap_or_else(|| panic!("{what} is allowed"));
            assert!(error.contains("AccessDenied"), "{what}: {error}");
        };
        for (role, own, others) in [
            ("Receiver", "source/github", ["destination/delivery-signing", "destination/refreshed-oauth", "elsewhere"]),
            ("Worker", "destination/delivery-signing", ["source/github", "source/asana-enrolled", "elsewhere"]),
        ] {
            let secrets = aws_sdk_secretsmanager::Client::new(&as_function(stack, role).await);
            let read = async |name: &str| secrets.get_secret_value().secret_id(format!("{}/{name}", stack.name)).send().await;
            read(own).await.unwrap_or_else(|error| panic!("{role} reads {own}: {error:?}"));
            for other in others {
                refused(&format!("{role} reads {other}"), read(other).await.err().map(|error| format!("{error:?}")));
                let put = secrets.put_secret_value().secret_id(format!("{}/{other}", stack.name)).secret_string("x").send().await;
                refused(&format!("{role} writes {other}"), put.err().map(|error| format!("{error:?}")));
            }
            let put = secrets.put_secret_value().secret_id(format!("{}/{own}", stack.name)).secret_string("x").send().await;
            refused(&format!("{role} writes {own}"), put.err().map(|error| format!("{error:?}")));
        }

        let ledger = aws_sdk_dynamodb::Client::new(&as_function(stack, "Receiver").await);
        let table = stack.output("LedgerTableName");
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let event = format!("github#{}", unique());
        for (pk, is_allowed) in [
            (event.as_str(), true),
            ("waiting#1", true),
            ("destination#ci", false),
            ("order#ci#00", false),
            ("audit", false),
            ("wait#ci", false),
            ("dead#ci", false),
            ("late#ci", false),
            ("tenant#acme", false),
            ("published#acme", false),
        ] {
            let put = ledger.put_item().table_name(table).item("pk", text(pk)).item("sk", text("a journey's"));
            let put = put.condition_expression("attribute_exists(nothing)").send().await.err().map(|error| format!("{error:?}"));
            let get = ledger.get_item().table_name(table).key("pk", text(pk)).key("sk", text("state")).send().await;
            let query = ledger.query().table_name(table).key_condition_expression("pk = :pk");
            let query = query.expression_attribute_values(":pk", text(pk)).send().await;
            if is_allowed {
                assert!(
                    put.unwrap().contains("ConditionalCheckFailed") && get.is_ok() && query.is_ok(),
                    "{pk}: {get:?} {query:?}"
                );
            } else {
                refused(&format!("to put {pk}"), put);
                refused(&format!("to get {pk}"), get.err().map(|error| format!("{error:?}")));
                refused(&format!("to query {pk}"), query.err().map(|error| format!("{error:?}")));
            }
        }
        for (what, error) in [
            ("scan", ledger.scan().table_name(table).send().await.err().map(|error| format!("{error:?}"))),
            (
                "update",
                ledger
                    .update_item()
                    .table_name(table)
                    .key("pk", text(&event))
                    .key("sk", text("event"))
                    .send()
                    .await
                    .err()
                    .map(|error| format!("{error:?}")),
            ),
        ] {
            refused(&format!("to {what}"), error);
        }
    });
}
