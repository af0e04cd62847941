//! What verification costs over the hash that no verification can do without: HMAC-SHA-256 of the same bytes, by `ring`, the key's
//! schedule included.
//!
//! All are timed in one run, in turns, and of many rounds the quickest counts, so that what else the machine does falls away.

use std::{
    fmt::{self, Display, Formatter},
    hint::black_box,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::Method;
use ring::hmac;
use serde_json::{Value, json};
use shared::{
    secrets::Keyring,
    signatures::{Scheme, UnverifiedWebhook, preset::Preset},
    time::Timestamp,
};

/// Presets of the four usual forms, each with what is signed before the body.
const PRESETS: [(&str, &str); 4] =
    [("github", ""), ("stripe", "1700000000."), ("standard-webhooks", "msg_1.1700000000."), ("slack", "v0:1700000000:")];

/// Sizes of bodies in bytes, and how many times as long as the hash alone verification may take.
const GOALS: [(usize, f64); 2] = [(2 * 1024, 1.5), (20 * 1024, 1.1)];

/// How often each is timed, and how many calls are timed at once.
const ROUNDS: usize = 1500;
const CALLS: u32 = 16;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
/// Base64, for schemes that decode it.
const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";

/// The times of all presets and sizes.
pub(crate) struct Verification(Vec<Cost>);

struct Cost {
    preset: &'static str,
    body_bytes: usize,
    verified: Duration,
    hashed: Duration,
    goal: f64,
}

impl Verification {
    pub(crate) fn measure() -> Self {
        let samples = GOALS.iter().flat_map(|(bytes, goal)| PRESETS.iter().map(|preset| Sample::new(*preset, *bytes, *goal)));
        let mut samples: Vec<Sample> = samples.collect();
        for _ in 0..ROUNDS {
            samples.iter_mut().for_each(Sample::time);
        }
        Self(samples.into_iter().map(|sample| sample.cost).collect())
    }

    /// What takes longer than its goal, in words. `None` if nothing does.
    pub(crate) fn missed(&self) -> Option<String> {
        let missed: Vec<String> = self.0.iter().filter(|cost| cost.ratio() > cost.goal).map(Cost::words).collect();
        (!missed.is_empty()).then(|| format!("verification misses its goal: {}", missed.join("; ")))
    }

    /// The figures as JSON.
    pub(crate) fn json(&self) -> Value {
        self.0
            .iter()
            .map(|cost| {
                json!({"preset": cost.preset, "bodyBytes": cost.body_bytes, "nanoseconds": nanoseconds(cost.verified),
                       "hashNanoseconds": nanoseconds(cost.hashed), "ratio": cost.ratio(), "goal": cost.goal})
            })
            .collect()
    }
}

impl Display for Verification {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "Verification, and HMAC-SHA-256 of the same bytes")?;
        writeln!(out, "  {:20}{:>8}{:>14}{:>12}{:>8}{:>8}", "preset", "body", "verification", "hash", "ratio", "goal")?;
        for cost in &self.0 {
            let (verified, hashed) = (nanoseconds(cost.verified), nanoseconds(cost.hashed));
            let (ratio, goal) = (cost.ratio(), cost.goal);
            writeln!(
                out,
                "  {:20}{:>6} B{verified:>11.0} ns{hashed:>9.0} ns{ratio:>8.2}{goal:>8.2}",
                cost.preset, cost.body_bytes
            )?;
        }
        Ok(())
    }
}

/// A webhook to verify, and the bytes to hash.
struct Sample {
    scheme: Scheme,
    webhook: UnverifiedWebhook,
    keyring: Keyring,
    key: Vec<u8>,
    content: Vec<u8>,
    cost: Cost,
}

impl Sample {
    fn new((preset, before_body): (&'static str, &str), body_bytes: usize, goal: f64) -> Self {
        let scheme = Preset::find(preset).expect("there is such a preset").expect("it can be read").scheme;
        let keyring = Keyring::parse(SECRET).expect("it is a secret");
        let headers = [("webhook-id".to_owned(), "msg_1".to_owned())];
        let mut webhook = UnverifiedWebhook::new(Method::POST, "https://example.com/", &headers, vec![b'x'; body_bytes]);
        scheme.sign(&mut webhook, &keyring, NOW).expect("a sample can be signed");
        let key = match scheme.alternatives[0].secret.encoding {
            Some(_) => BASE64.decode(SECRET).expect("the secret is base64 too"),
            None => SECRET.as_bytes().to_vec(),
        };
        let content = [before_body.as_bytes(), &webhook.body].concat();
        let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &content);
        let sent = format!("{:?}", webhook.headers);
        let is_sent = [hex::encode(code), BASE64.encode(code)].iter().any(|code| sent.contains(code));
        assert!(is_sent, "{preset} signs something else than what is hashed here");
        let cost = Cost { preset, body_bytes, verified: Duration::MAX, hashed: Duration::MAX, goal };
        Self { scheme, webhook, keyring, key, content, cost }
    }

    /// Times both once more.
    fn time(&mut self) {
        let verified = time(|| {
            let verdict = black_box(&self.scheme).verify(black_box(&self.webhook), black_box(&self.keyring), None, NOW);
            assert!(black_box(verdict).is_ok(), "{} does not verify what it signed", self.cost.preset);
        });
        let hashed = time(|| {
            black_box(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, black_box(&self.key)), black_box(&self.content)));
        });
        self.cost.verified = self.cost.verified.min(verified);
        self.cost.hashed = self.cost.hashed.min(hashed);
    }
}

impl Cost {
    fn ratio(&self) -> f64 {
        nanoseconds(self.verified) / nanoseconds(self.hashed)
    }

    fn words(&self) -> String {
        let Self { preset, body_bytes, goal, .. } = self;
        format!(
            "{preset} with {body_bytes} bytes takes {:.2} times as long as the hash alone, and may take {goal:.2}",
            self.ratio()
        )
    }
}

/// How long it takes once, of some times.
fn time(call: impl Fn()) -> Duration {
    let begin = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    begin.elapsed() / CALLS
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_its_goal_is_named() {
        let cost = |verified| Cost {
            preset: "github",
            body_bytes: 2048,
            verified: Duration::from_nanos(verified),
            hashed: Duration::from_nanos(1000),
            goal: 1.5,
        };
        assert_eq!(Verification(vec![cost(1500)]).missed(), None);
        let missed = Verification(vec![cost(1400), cost(1510)]).missed().unwrap();
        let words = "github with 2048 bytes takes 1.51 times as long as the hash alone, and may take 1.50";
        assert_eq!(missed, format!("verification misses its goal: {words}"));
    }
}
