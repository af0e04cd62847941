use std::time::Instant;

use serde_json::{Value, json};

use super::*;

/// A destination of this test alone.
struct Running {
    base: String,
    http: reqwest::Client,
}

impl Running {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(Destination::default().serve(listener));
        Self { base, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    async fn script(&self, name: &str, script: Value) -> u16 {
        let put = self.http.put(format!("{}/_control/{name}", self.base)).json(&script);
        put.send().await.unwrap().status().as_u16()
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Result<reqwest::Response> {
        self.http.post(format!("{}/{path}", self.base)).body(body).send().await
    }

    async fn statuses<const N: usize>(&self, name: &str) -> [u16; N] {
        let mut statuses = [0; N];
        for status in &mut statuses {
            *status = self.post(name, "x").await.unwrap().status().as_u16();
        }
        statuses
    }

    async fn journal(&self, name_and_query: &str) -> Vec<Entry> {
        let read = self.http.get(format!("{}/_journal/{name_and_query}", self.base));
        read.send().await.unwrap().json().await.unwrap()
    }
}

#[tokio::test]
async fn without_a_script_everything_is_taken_and_written_down() {
    let destination = Running::start().await;
    let body: &[u8] = b"\xff\0{";
    let request = destination.http.put(format!("{}/ci/deep?x=1", destination.base)).header("webhook-id", "evt-1").body(body);
    assert_eq!(request.send().await.unwrap().status(), 200);

    let [entry] = &destination.journal("ci").await[..] else { panic!("one entry was written") };
    assert_eq!((entry.name.as_str(), entry.method.as_str(), entry.path.as_str()), ("ci", "PUT", "/ci/deep?x=1"));
    assert_eq!(entry.header("Webhook-Id"), Some("evt-1"));
    assert_eq!(entry.body, body);
    assert_eq!(entry.sha256, hex::encode(Sha256::digest(body)));
    assert_eq!(entry.answer.status, 200);
    assert!(entry.at > 1_700_000_000_000, "milliseconds of Unix time");
    assert!(destination.journal("shop").await.is_empty());
}

#[tokio::test]
async fn steps_are_played_in_order_and_the_last_one_stays() {
    let destination = Running::start().await;
    destination.script("a", json!([{"status": 503, "times": 2}, {"status": 429}, {"status": 204}])).await;
    assert_eq!(destination.statuses("a").await, [503, 503, 429, 204, 204]);
    assert_eq!(destination.statuses("b").await, [200]);
}

#[tokio::test]
async fn a_last_step_with_a_number_of_times_gives_way_to_200() {
    let destination = Running::start().await;
    destination.script("a", json!({"status": 503, "times": 2})).await;
    assert_eq!(destination.statuses("a").await, [503, 503, 200, 200]);
    let answers: Vec<u16> = destination.journal("a").await.iter().map(|entry| entry.answer.status).collect();
    assert_eq!(answers, [503, 503, 200, 200]);
}

#[tokio::test]
async fn deleting_a_script_brings_back_200() {
    let destination = Running::start().await;
    destination.script("a", json!({"status": 503})).await;
    assert_eq!(destination.statuses("a").await, [503, 503]);
    destination.http.delete(format!("{}/_control/a", destination.base)).send().await.unwrap();
    assert_eq!(destination.statuses("a").await, [200]);
}

#[tokio::test]
async fn a_script_for_an_event_goes_before_the_one_for_everything() {
    let destination = Running::start().await;
    destination.script("a?event=evt-1", json!({"status": 503})).await;
    destination.script("a", json!({"status": 400})).await;
    assert_eq!(destination.post("a", r#"{"id":"evt-1"}"#).await.unwrap().status(), 503);
    assert_eq!(destination.post("a", r#"{"id":"evt-2"}"#).await.unwrap().status(), 400);
    let named = destination.http.post(format!("{}/a", destination.base)).header("idempotency-key", "x#evt-1#y").send();
    assert_eq!(named.await.unwrap().status(), 503);
    assert_eq!(destination.journal("a?event=evt-1").await.len(), 2);
    assert_eq!(destination.journal("a?event=evt-2").await.len(), 1);
    assert_eq!(destination.journal("a").await.len(), 3);
}

#[tokio::test]
async fn headers_and_body_are_those_of_the_script() {
    let destination = Running::start().await;
    destination.script("a", json!({"status": 429, "headers": {"retry-after": "2"}, "body": "later"})).await;
    let answer = destination.post("a", "x").await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "2");
    assert_eq!(answer.text().await.unwrap(), "later");
}

#[tokio::test]
async fn a_reset_is_no_answer() {
    let destination = Running::start().await;
    destination.script("a", json!({"reset": true})).await;
    assert!(destination.post("a", "x").await.unwrap_err().is_request());
    assert!(destination.journal("a").await[0].answer.reset);
}

#[tokio::test]
async fn a_hanging_destination_has_the_request_and_never_answers() {
    let destination = Running::start().await;
    destination.script("a", json!({"hang": true})).await;
    let post = destination.http.post(format!("{}/a", destination.base)).timeout(Duration::from_millis(200));
    assert!(post.send().await.unwrap_err().is_timeout());
    assert!(destination.journal("a").await[0].answer.hang);
}

#[tokio::test]
async fn delays_are_before_the_head_and_slow_bodies_after_it() {
    let destination = Running::start().await;
    let body = "y".repeat(25);
    destination.script("delayed", json!({"delay_ms": 200, "body": body})).await;
    destination.script("slow", json!({"slow_body_ms": 200, "body": body})).await;

    let began = Instant::now();
    let delayed = destination.post("delayed", "x").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(delayed.text().await.unwrap(), body);

    let slow = destination.post("slow", "x").await.unwrap();
    let head = Instant::now();
    assert_eq!(slow.text().await.unwrap(), body);
    assert!(head.elapsed() >= Duration::from_millis(100), "the body was there at once");
}

#[tokio::test]
async fn the_journal_is_forgotten_by_name() {
    let destination = Running::start().await;
    destination.statuses::<1>("a").await;
    destination.statuses::<1>("b").await;
    destination.http.delete(format!("{}/_journal/a", destination.base)).send().await.unwrap();
    assert_eq!((destination.journal("a").await.len(), destination.journal("b").await.len()), (0, 1));
}

#[tokio::test]
async fn what_is_no_script_is_refused_in_words() {
    let destination = Running::start().await;
    for wrong in [json!({"statsu": 503}), json!("503"), json!({"status": 99}), json!([{"status": 1000}])] {
        assert_eq!(destination.script("a", wrong.clone()).await, 400, "{wrong}");
    }
    assert_eq!(destination.statuses("a").await, [200]);
}

#[tokio::test]
async fn names_with_an_underscore_are_no_destinations() {
    let destination = Running::start().await;
    assert_eq!(destination.statuses("_else").await, [404]);
    assert_eq!(destination.statuses("").await, [404]);
    let health = destination.http.get(format!("{}/_health", destination.base)).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn what_is_answered_with_2xx_is_applied_once_for_each_idempotency_key() {
    let destination = Running::start().await;
    let post = async |name: &str, key: Option<&str>| {
        let mut request = destination.http.post(format!("{}/{name}", destination.base)).body("x");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let _ = request.send().await;
    };
    destination.script("a", json!([{"status": 503}, {"reset": true}, {"status": 200}])).await;
    for _ in 0..3 {
        post("a", Some("k")).await;
    }
    for (name, key) in [("a", Some("other")), ("b", Some("k")), ("a", None), ("a", None)] {
        post(name, key).await;
    }
    let effects =
        async |name: &str| -> Vec<Effect> { destination.journal(name).await.iter().map(|entry| entry.effect).collect() };
    let expected = [Effect::Refused, Effect::Applied, Effect::Repeated, Effect::Applied, Effect::Applied, Effect::Applied];
    assert_eq!(effects("a").await, expected, "a reset cuts off the answer and not the effect");
    assert_eq!(effects("b").await, [Effect::Applied]);

    destination.http.delete(format!("{}/_journal/a", destination.base)).send().await.unwrap();
    post("a", Some("k")).await;
    post("b", Some("k")).await;
    assert_eq!(effects("a").await, [Effect::Applied], "keys are forgotten with the journal");
    assert_eq!(effects("b").await, [Effect::Applied, Effect::Repeated]);
}

#[test]
fn the_journal_is_bounded_in_entries_and_in_bytes() {
    let entry = |body: Bytes| Entry {
        name: "a".to_owned(),
        at: 0,
        method: "POST".to_owned(),
        path: "/a".to_owned(),
        headers: Vec::new(),
        sha256: String::new(),
        body,
        answer: Step::default(),
        effect: Effect::Refused,
    };
    let mut state = State::default();
    let mut first = entry(Bytes::new());
    first.headers = vec![("idempotency-key".to_owned(), "k".to_owned())];
    first.effect = state.apply(&first);
    state.write(first.clone());
    for _ in 0..JOURNAL_ENTRIES_MAX - 1 {
        state.write(entry(Bytes::new()));
    }
    assert_eq!((state.journal.len(), state.apply(&first)), (JOURNAL_ENTRIES_MAX, Effect::Repeated));
    state.write(entry(Bytes::new()));
    assert_eq!((state.journal.len(), state.applied.len()), (JOURNAL_ENTRIES_MAX, 0), "a key goes with its entry");
    // Static and shared, so that this takes no memory.
    static MEGABYTE: [u8; 1024 * 1024] = [0; 1024 * 1024];
    let full = JOURNAL_BODY_BYTES_MAX / MEGABYTE.len();
    for _ in 0..full + 1 {
        state.write(entry(Bytes::from_static(&MEGABYTE)));
    }
    assert_eq!(state.journal.len(), full);
    assert_eq!(state.journal_body_bytes, JOURNAL_BODY_BYTES_MAX);
}
