//! How functions keep their keyrings, with the time as a value, so that caches grow old without waiting.

use std::time::Duration;

use serde_json::json;
use shared::{
    secrets::{
        ENROLMENT_CACHE_SECONDS, ENROLMENT_SECONDS_MAX, Enrolment, KEYRING_CACHE_SECONDS, KEYRING_OUTAGE_SECONDS,
        KEYRING_REREAD_SECONDS, KEYRING_STALE_SECONDS_MAX, Keyrings, Secret, SecretsError,
    },
    time::Timestamp,
};
use tests::stack::{Stack, unique};

use crate::journey;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A secret of its own, read through the wire as the functions do.
struct Shelf {
    keyrings: Keyrings,
    name: String,
}

impl Shelf {
    async fn open(stack: &Stack) -> Self {
        let name = unique();
        let create = stack.secretsmanager.create_secret().name(format!("journey/{name}"));
        create.secret_string("first").send().await.unwrap();
        let through_the_wire = stack.aws.clone().into_builder().endpoint_url(stack.wire_url()).build();
        Self { keyrings: Keyrings::new(&through_the_wire, "journey/".to_owned()), name }
    }

    async fn put(&self, stack: &Stack, secret: &str) {
        let put = stack.secretsmanager.put_secret_value().secret_id(format!("journey/{}", self.name));
        put.secret_string(secret).send().await.unwrap();
    }

    /// Opens enrolment until `seconds`.
    async fn open_until(&self, stack: &Stack, seconds: u64) {
        self.put(stack, &json!({"keys": [], "enrolUntil": after(seconds).to_rfc3339()}).to_string()).await;
    }

    async fn enrol(&self, secret: &str, seconds: u64) -> Result<Enrolment, SecretsError> {
        self.keyrings.enrol(&self.name, Secret::new(secret), after(seconds)).await
    }

    /// What Secrets Manager has.
    async fn stored(&self, stack: &Stack) -> String {
        let get = stack.secretsmanager.get_secret_value().secret_id(format!("journey/{}", self.name));
        get.send().await.unwrap().secret_string.unwrap()
    }

    async fn current(&self, seconds: u64) -> String {
        let keyring = self.keyrings.current(&self.name, after(seconds)).await.unwrap();
        keyring.keys()[0].secret.expose().to_owned()
    }

    async fn after_refusal(&self, seconds: u64) -> Option<String> {
        let keyring = self.keyrings.after_refusal(&self.name, after(seconds)).await.unwrap()?;
        Some(keyring.keys()[0].secret.expose().to_owned())
    }
}

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

#[test]
fn a_keyring_is_read_again_when_it_is_old_and_not_before() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        assert_eq!(shelf.current(0).await, "first");
        shelf.put(stack, "second").await;
        assert_eq!(shelf.current(KEYRING_CACHE_SECONDS - 1).await, "first");
        assert_eq!(shelf.current(KEYRING_CACHE_SECONDS).await, "second");
    });
}

#[test]
fn a_refusal_reads_the_keyring_again_at_most_once_a_minute() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        assert_eq!(shelf.current(0).await, "first");
        shelf.put(stack, "second").await;
        assert_eq!(shelf.after_refusal(1).await.as_deref(), Some("second"));
        shelf.put(stack, "third").await;
        assert_eq!(shelf.after_refusal(KEYRING_REREAD_SECONDS).await, None);
        assert_eq!(shelf.current(KEYRING_REREAD_SECONDS).await, "second");
        assert_eq!(shelf.after_refusal(1 + KEYRING_REREAD_SECONDS).await.as_deref(), Some("third"));
        assert_eq!(shelf.after_refusal(2 + 2 * KEYRING_REREAD_SECONDS).await, None, "it has not changed");
    });
}

#[test]
fn while_secrets_manager_is_down_an_old_keyring_serves_and_an_unknown_one_is_an_outage() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        let stranger = Shelf::open(stack).await;
        assert_eq!(shelf.current(0).await, "first");
        let mut faults = Vec::new();
        for name in [&shelf.name, &stranger.name] {
            let fault = json!({"operation": "GetSecretValue", "body_contains": name, "action": "status", "status": 500});
            faults.push(stack.wire.fault(fault).await);
        }
        assert_eq!(shelf.current(KEYRING_CACHE_SECONDS).await, "first");
        let unknown = shelf.keyrings.after_refusal(&shelf.name, after(KEYRING_CACHE_SECONDS)).await;
        assert!(unknown.is_err(), "whether a key was added meanwhile, nobody knows: {unknown:?}");
        let error = stranger.keyrings.current(&stranger.name, NOW).await.unwrap_err().to_string();
        assert!(error.contains(&stranger.name) && !error.contains("first"), "{error}");
        for fault in faults {
            stack.wire.mend(&fault).await;
        }
        let remembered = stranger.keyrings.current(&stranger.name, after(KEYRING_OUTAGE_SECONDS - 1)).await;
        assert!(remembered.is_err(), "it is not asked for again at once");
        assert_eq!(stranger.current(KEYRING_OUTAGE_SECONDS).await, "first");
    });
}

#[test]
fn an_outage_does_not_keep_an_old_keyring_for_ever() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        assert_eq!(shelf.current(0).await, "first");
        let fault = json!({"operation": "GetSecretValue", "body_contains": shelf.name, "action": "status", "status": 500});
        let fault = stack.wire.fault(fault).await;
        // Whether a key was added meanwhile, nobody knows.
        for seconds in [1, 2, KEYRING_STALE_SECONDS_MAX - 1] {
            let refused = shelf.keyrings.after_refusal(&shelf.name, after(seconds)).await;
            assert!(matches!(&refused, Err(SecretsError::Unreadable { is_outage: true, .. })), "{seconds}: {refused:?}");
        }
        assert_eq!(shelf.current(KEYRING_STALE_SECONDS_MAX - 1).await, "first");
        let too_old = shelf.keyrings.current(&shelf.name, after(KEYRING_STALE_SECONDS_MAX)).await;
        assert!(matches!(&too_old, Err(SecretsError::Unreadable { is_outage: true, .. })), "{too_old:?}");
        stack.wire.mend(&fault).await;
        assert_eq!(shelf.current(KEYRING_STALE_SECONDS_MAX + 2 * KEYRING_OUTAGE_SECONDS).await, "first");
    });
}

#[test]
fn of_two_changes_to_one_keyring_the_second_is_refused_and_undoes_nothing() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        let (keyring, version) = shelf.keyrings.read_version(&shelf.name).await.unwrap();
        let changed = |name: &str| keyring.with_next_version(name, NOW, Duration::from_secs(60)).unwrap();
        shelf.keyrings.replace(&shelf.name, &changed("one"), &version).await.unwrap();
        let refused = shelf.keyrings.replace(&shelf.name, &changed("other"), &version).await;
        assert!(matches!(&refused, Err(SecretsError::Changed { .. })), "{refused:?}");
        assert_eq!(shelf.stored(stack).await, changed("one").expose());
        let (keyring, version) = shelf.keyrings.read_version(&shelf.name).await.unwrap();
        let both = keyring.with_next_version("other", NOW, Duration::from_secs(60)).unwrap();
        shelf.keyrings.replace(&shelf.name, &both, &version).await.unwrap();
        assert_eq!(shelf.stored(stack).await, both.expose());
    });
}

/// How a key is taken away, by a person or by a mistake.
enum Taken {
    Put(&'static str),
    ScheduledForDeletion,
    Deleted,
}

#[test]
fn a_keyring_that_is_wrong_or_gone_proves_nothing_from_the_next_reading_on() {
    journey(async |stack| {
        let malformed = r#"{"keys":[{"id":"new","secret":"second"},]}"#;
        for taken in [Taken::Put(malformed), Taken::Put(r#"{"keys":[]}"#), Taken::ScheduledForDeletion, Taken::Deleted] {
            // Warm: read because it is old, or because a signature failed. Cold: read for the first time.
            let (old, refused) = (Shelf::open(stack).await, Shelf::open(stack).await);
            assert_eq!((old.current(0).await, refused.current(0).await), ("first".to_owned(), "first".to_owned()));
            for shelf in [&old, &refused] {
                let secret_id = format!("journey/{}", shelf.name);
                match taken {
                    Taken::Put(text) => shelf.put(stack, text).await,
                    Taken::ScheduledForDeletion => {
                        drop(
                            stack
                                .secretsmanager
                                .delete_secret()
                                .secret_id(secret_id)
                                .recovery_window_in_days(7)
                                .send()
                                .await
                                .unwrap(),
                        );
                    }
                    Taken::Deleted => {
                        let delete = stack.secretsmanager.delete_secret().secret_id(secret_id);
                        drop(delete.force_delete_without_recovery(true).send().await.unwrap());
                    }
                }
            }
            assert_eq!(old.current(KEYRING_CACHE_SECONDS - 1).await, "first");
            let error = old.keyrings.current(&old.name, after(KEYRING_CACHE_SECONDS)).await.unwrap_err();
            assert!(!matches!(error, SecretsError::Unreadable { is_outage: true, .. }), "{error:?}");
            assert!(!error.to_string().contains("second"), "{error}");

            assert!(refused.keyrings.after_refusal(&refused.name, after(1)).await.is_err());
            for seconds in [1, KEYRING_OUTAGE_SECONDS, KEYRING_OUTAGE_SECONDS + 1, KEYRING_STALE_SECONDS_MAX] {
                assert!(refused.keyrings.current(&refused.name, after(seconds)).await.is_err(), "after {seconds} s");
            }
            let cold = Keyrings::new(&stack.aws, "journey/".to_owned());
            assert!(cold.current(&old.name, NOW).await.is_err());
        }
    });
}

#[test]
fn a_keyring_that_was_wrong_serves_again_some_seconds_after_it_is_mended() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        assert_eq!(shelf.current(0).await, "first");
        shelf.put(stack, r#"{"keys":"#).await;
        assert!(shelf.keyrings.current(&shelf.name, after(KEYRING_CACHE_SECONDS)).await.is_err());
        shelf.put(stack, "second").await;
        assert!(shelf.keyrings.current(&shelf.name, after(KEYRING_CACHE_SECONDS + KEYRING_OUTAGE_SECONDS - 1)).await.is_err());
        assert_eq!(shelf.current(KEYRING_CACHE_SECONDS + KEYRING_OUTAGE_SECONDS).await, "second");
    });
}

#[test]
fn one_secret_is_enrolled_while_the_operator_lets_it() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        assert_eq!(shelf.enrol("brought", 0).await.unwrap(), Enrolment::Closed);
        assert_eq!(shelf.stored(stack).await, "first");

        shelf.open_until(stack, 600).await;
        assert_eq!(shelf.enrol("brought", ENROLMENT_CACHE_SECONDS - 1).await.unwrap(), Enrolment::Closed, "read a moment ago");
        assert_eq!(shelf.enrol("brought", ENROLMENT_CACHE_SECONDS).await.unwrap(), Enrolment::Enrolled);
        assert_eq!(shelf.current(ENROLMENT_CACHE_SECONDS).await, "brought");
        assert!(!shelf.stored(stack).await.contains("enrolUntil"));

        for seconds in [ENROLMENT_CACHE_SECONDS, 2 * ENROLMENT_CACHE_SECONDS, 599] {
            assert_eq!(shelf.enrol("another", seconds).await.unwrap(), Enrolment::Closed, "after {seconds} s");
            assert_eq!(shelf.enrol("brought", seconds).await.unwrap(), Enrolment::Enrolled, "after {seconds} s");
        }
        assert_eq!(shelf.current(599).await, "brought");
    });
}

#[test]
fn enrolment_ends_by_itself_and_is_never_open_for_long() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        shelf.open_until(stack, 600).await;
        assert_eq!(shelf.enrol("brought", 600).await.unwrap(), Enrolment::Closed);
        shelf.open_until(stack, 1000 + ENROLMENT_SECONDS_MAX).await;
        assert_eq!(shelf.enrol("brought", 999).await.unwrap(), Enrolment::Closed);
        assert_eq!(shelf.enrol("brought", 1000).await.unwrap(), Enrolment::Enrolled);
    });
}

#[test]
fn a_secret_that_cannot_be_stored_is_not_enrolled() {
    journey(async |stack| {
        let shelf = Shelf::open(stack).await;
        shelf.open_until(stack, 600).await;
        let fault = json!({"operation": "PutSecretValue", "body_contains": shelf.name, "action": "status", "status": 500});
        let fault = stack.wire.fault(fault).await;
        let error = shelf.enrol("brought", 0).await.unwrap_err().to_string();
        assert!(error.contains("cannot write the secret") && !error.contains("brought"), "{error}");
        assert!(!shelf.stored(stack).await.contains("brought"));
        stack.wire.mend(&fault).await;
        assert_eq!(shelf.enrol("brought", 1).await.unwrap(), Enrolment::Enrolled);
        assert_eq!(shelf.current(1).await, "brought");
    });
}
