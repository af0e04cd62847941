//! Providers that come configured: one file each under `shared/presets/`, compiled in, parsed only when a source names it.

use http::Method;
use serde::{Deserialize, Deserializer, de::Error};

use super::{Scheme, handshake::Handshake};
use crate::{
    config::{AnswerSpec, OnConflict},
    event::EventSpec,
};

/// What is known about a provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The provider's own name.
    pub name: String,
    /// Where the provider documents its webhooks.
    pub documentation: String,
    /// How well the scheme is known.
    pub verified: Known,
    /// What a user must know, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The methods that webhooks come by.
    #[serde(default = "post", deserialize_with = "methods")]
    pub methods: Vec<Method>,
    /// Headers that are kept on the event, beside the content type; lower case.
    #[serde(default)]
    pub keep_headers: Vec<String>,
    /// A dedupe horizon that is longer than the provider's longest redelivery, in days.
    pub dedupe_days: Option<u64>,
    /// Under how many event types its sender sends the same signed content, where the type is not signed and nobody names it.
    pub types_per_content: Option<u8>,
    /// What becomes of another body under a known event id, where that is its retry and not a conflict.
    pub on_conflict: Option<OnConflict>,
    /// What the provider does when it delivers.
    #[serde(default)]
    pub delivery: DeliveryFacts,
    /// What the provider does when its webhook is created.
    #[serde(default)]
    pub registration: Registration,
    /// Its signature scheme.
    pub scheme: Scheme,
    /// Where its events carry id, type and time.
    #[serde(default)]
    pub event: EventSpec,
    /// What it must be answered instead of the usual.
    #[serde(default)]
    pub answer: AnswerSpec,
    /// What it asks of a URL before it sends.
    #[serde(default, rename = "handshake", deserialize_with = "one_or_many")]
    pub handshakes: Vec<Handshake>,
}

/// How well a scheme is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// The vendor's own tests have verdicts that ours reproduce.
    SdkTests,
    /// From the source of the vendor's own library.
    SdkSource,
    /// From the vendor's documentation.
    Docs,
    /// From somebody else's source or tests.
    ThirdParty,
    /// From general knowledge: try it before you rely on it.
    Memory,
}

impl Known {
    /// In a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::SdkTests => "the vendor's tests",
            Self::SdkSource => "the vendor's source",
            Self::Docs => "the vendor's documentation",
            Self::ThirdParty => "third-party source",
            Self::Memory => "unconfirmed",
        }
    }
}

/// What a provider does when it delivers; each is absent where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryFacts {
    /// How long it waits for an answer, in seconds.
    pub deadline_seconds: Option<u64>,
    /// When it sends again, in words.
    pub retries: Option<String>,
    /// How long it waits before each of its own retries, counted from the attempt before, in seconds. Empty: it makes none.
    pub retry_after_seconds: Option<Vec<u64>>,
    /// Where the single waits are not known: how long after the first attempt the last retry may come, in seconds.
    pub retry_for_seconds: Option<u64>,
    /// Whether a retry is signed anew. One of which that is not known may carry the time of the first attempt.
    pub retry_time: Option<RetryTime>,
    /// Where that is known from.
    pub retry_time_source: Option<String>,
    /// What it takes for success.
    pub answer: Option<String>,
}

/// Which time a provider's own retry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetryTime {
    /// Its own: it is signed anew.
    Anew,
    /// That of the first attempt, to the byte.
    Kept,
}

impl DeliveryFacts {
    /// How long after its first attempt a webhook may still come by the provider's own retries, in seconds; `None` if that is not
    /// known.
    pub fn last_retry_seconds(&self) -> Option<u64> {
        self.retry_after_seconds.as_ref().map(|waits| waits.iter().sum()).or(self.retry_for_seconds)
    }
}

/// How a provider checks a URL when a webhook is created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// What it sends.
    #[serde(default)]
    pub check: UrlCheck,
    /// Where that is known from.
    pub source: Option<String>,
}

/// What is sent to a URL when a webhook is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UrlCheck {
    /// Nothing.
    Nothing,
    /// An unsigned HEAD, to be answered 2xx.
    Head,
    /// An unsigned GET, to be answered 2xx.
    Get,
    /// A request whose answer must repeat, or be derived from, something of it.
    Challenge,
    /// A test event, signed as every webhook is.
    Ping,
    /// A test request without a signature, to be answered 2xx.
    UnsignedPing,
    /// Not documented.
    #[default]
    Unknown,
}

impl UrlCheck {
    /// In a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing is sent",
            Self::Head => "an unsigned HEAD",
            Self::Get => "an unsigned GET",
            Self::Challenge => "a challenge",
            Self::Ping => "a test event, signed as every webhook",
            Self::UnsignedPing => "a test request without a signature",
            Self::Unknown => "not documented",
        }
    }

    /// Whether a handshake of the preset must answer it.
    pub const fn needs_handshake(self) -> bool {
        matches!(self, Self::Head | Self::Get | Self::Challenge | Self::UnsignedPing)
    }
}

fn post() -> Vec<Method> {
    vec![Method::POST]
}

/// Reads a list of HTTP methods.
pub(crate) fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Method>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    if words.is_empty() {
        return Err(D::Error::custom("`methods` is empty, so nothing could be sent"));
    }
    words.iter().map(|word| word.parse().map_err(|_| D::Error::custom(format!("`{word}` is no HTTP method")))).collect()
}

/// Reads one handshake or several.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Handshake>, D::Error> {
    // Not an untagged enum: its errors would not say what is wrong.
    match toml::Value::deserialize(deserializer)? {
        toml::Value::Array(tables) => tables.into_iter().map(|table| table.try_into().map_err(D::Error::custom)).collect(),
        table => Ok(vec![table.try_into().map_err(D::Error::custom)?]),
    }
}

macro_rules! presets {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../presets/", $name, ".toml")))),*]
    };
}

const PRESETS: &[(&str, &str)] = presets![
    "adyen"
    "adyen-platform"
    "aircall"
    "airtable"
    "alchemy"
    "apple-app-store"
    "asana"
    "authorize-net"
    "aws-sns"
    "azure-event-grid"
    "bigcommerce"
    "bitbucket"
    "bolt"
    "box"
    "braintree"
    "brevo"
    "buildkite"
    "buildkite-token"
    "cal-com"
    "calendly"
    "cashfree"
    "chargebee"
    "checkout-com"
    "circleci"
    "clerk"
    "clickup"
    "close"
    "cloudinary"
    "cloudinary-sha256"
    "coinbase-cdp"
    "coinbase-commerce"
    "contentful"
    "convoy-advanced-sha256-base64"
    "convoy-advanced-sha256-hex"
    "convoy-advanced-sha512-base64"
    "convoy-advanced-sha512-hex"
    "convoy-simple-sha256-base64"
    "convoy-simple-sha256-hex"
    "convoy-simple-sha512-base64"
    "convoy-simple-sha512-hex"
    "customer-io"
    "discord"
    "docusign"
    "dropbox"
    "dwolla"
    "easypost"
    "elevenlabs"
    "figma"
    "flutterwave"
    "front"
    "fusionauth"
    "fusionauth-public"
    "ghost"
    "gitea"
    "github"
    "github-sha1"
    "gitlab"
    "gitlab-signing-token"
    "gocardless"
    "google-pubsub"
    "google-push"
    "gumroad"
    "hcp-terraform"
    "hook0"
    "hubspot"
    "hubspot-v3"
    "huggingface"
    "intercom"
    "intuit"
    "jira"
    "jotform"
    "klaviyo"
    "launchdarkly"
    "lemon-squeezy"
    "line"
    "linear"
    "lithic"
    "livekit"
    "mailersend"
    "mailgun"
    "mandrill"
    "mercado-pago"
    "messagebird-jwt"
    "messagebird-legacy"
    "meta"
    "microsoft-graph"
    "midtrans"
    "modern-treasury"
    "mollie"
    "monday"
    "mux"
    "netlify"
    "notion"
    "nuvei"
    "nylas"
    "okta"
    "onfido"
    "openai"
    "paddle"
    "pagerduty"
    "patreon"
    "paypal"
    "paystack"
    "persona"
    "plaid"
    "plivo-v2"
    "postmark"
    "pusher"
    "razorpay"
    "recurly"
    "replicate"
    "resend"
    "retell"
    "revenuecat"
    "revenuecat-token"
    "sanity"
    "sendgrid"
    "sentry"
    "shopify"
    "slack"
    "smartcar"
    "sparkpost"
    "square"
    "standard-webhooks"
    "standard-webhooks-v1a"
    "storyblok"
    "stripe"
    "sumsub"
    "supabase-auth-hooks"
    "svix"
    "tally"
    "telegram"
    "telnyx"
    "trello"
    "trolley"
    "twilio"
    "twitch"
    "twitter"
    "typeform"
    "vercel"
    "veriff"
    "vonage"
    "webflow"
    "wise"
    "wix"
    "wompi"
    "woocommerce"
    "workos"
    "xendit"
    "xero"
    "zendesk"
    "zoho-billing"
    "zoho-payments"
    "zoom"
];

impl Preset {
    /// The preset of that name. `None` if there is none; an error only if the file that we ship is wrong, which a test rules out.
    pub fn find(name: &str) -> Option<Result<Self, String>> {
        let (_, text) = PRESETS.iter().find(|(preset, _)| *preset == name)?;
        Some(toml::from_str(text).map_err(|error| format!("preset `{name}`: {error}")))
    }

    /// The names of all presets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// A preset of nothing but a scheme, as for one that is described in the configuration.
    pub fn of_scheme(name: &str, scheme: Scheme) -> Self {
        Self {
            name: name.to_owned(),
            documentation: String::new(),
            verified: Known::Docs,
            notes: Vec::new(),
            methods: post(),
            keep_headers: Vec::new(),
            dedupe_days: None,
            types_per_content: None,
            on_conflict: None,
            delivery: DeliveryFacts::default(),
            registration: Registration::default(),
            scheme,
            event: EventSpec::default(),
            answer: AnswerSpec::default(),
            handshakes: Vec::new(),
        }
    }

    /// Names of presets that `name` may have meant: those that begin like it for longest, in at least three letters.
    pub fn similar(name: &str) -> Vec<&'static str> {
        let alike = |preset: &str| preset.bytes().zip(name.bytes()).take_while(|(one, other)| one == other).count();
        let most = Self::names().map(alike).max().filter(|most| *most >= 3);
        Self::names().filter(|preset| Some(alike(preset)) == most).take(3).collect()
    }

    /// The text of the preset's file.
    pub fn text(name: &str) -> Option<&'static str> {
        PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, text)| *text)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn every_preset_parses_and_its_scheme_is_possible() {
        for name in Preset::names() {
            let preset = Preset::find(name).unwrap().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(preset.scheme.check(), Ok(()), "{name}");
            for handshake in &preset.handshakes {
                assert_eq!(handshake.check(), Ok(()), "{name}");
            }
            assert!(preset.documentation.starts_with("https://"), "{name}");
            assert!(preset.keep_headers.iter().all(|header| *header == header.to_ascii_lowercase()), "{name}");
            assert!(preset.dedupe_days.is_none_or(|days| (1..=crate::config::DEDUPE_DAYS_MAX).contains(&days)), "{name}");
        }
    }

    /// Presets of which it is known neither when the last retry comes nor whether it is signed anew.
    const UNDOCUMENTED_RETRIES: [&str; 12] = [
        "buildkite",
        "elevenlabs",
        "front",
        "persona",
        "replicate",
        "retell",
        "telnyx",
        "trolley",
        "twitch",
        "webflow",
        "zendesk",
        "zoho-payments",
    ];

    #[test]
    fn no_preset_refuses_its_own_providers_retry_as_stale() {
        let mut stale = Vec::new();
        for name in Preset::names() {
            let Preset { scheme, delivery, .. } = Preset::find(name).unwrap().unwrap();
            let Some(tolerance) = scheme.alternatives.iter().filter_map(|way| way.timestamp.as_ref()?.tolerance_seconds).min()
            else {
                continue;
            };
            if delivery.retry_time == Some(RetryTime::Anew) {
                continue;
            }
            let Some(last) = delivery.last_retry_seconds() else {
                assert!(UNDOCUMENTED_RETRIES.contains(&name), "{name}: say when it retries, or whether anew, or name it here");
                continue;
            };
            // Each attempt may take as long as the provider waits for an answer.
            let attempts = delivery.retry_after_seconds.as_ref().map_or(0, |waits| waits.len() as u64);
            let oldest = last + attempts * delivery.deadline_seconds.unwrap_or(30);
            if last > 0 && tolerance < oldest {
                stale.push(format!("{name}: tolerates {tolerance} s, and its last retry is {oldest} s old"));
            }
        }
        assert_eq!(stale, Vec::<String>::new());
    }

    #[test]
    fn every_fact_about_retries_has_its_source() {
        for name in Preset::names() {
            let DeliveryFacts { retry_time, retry_time_source, retry_after_seconds, retry_for_seconds, retries, .. } =
                Preset::find(name).unwrap().unwrap().delivery;
            assert_eq!(retry_time.is_some(), retry_time_source.is_some(), "{name}");
            assert!(retry_time_source.is_none_or(|source| source.starts_with("https://")), "{name}");
            assert!(retry_after_seconds.is_none() || retry_for_seconds.is_none(), "{name}: one of the two says it");
            let is_known = retry_after_seconds.is_some() || retry_for_seconds.is_some();
            assert!(!is_known || retries.is_some(), "{name}: a person wants words");
        }
    }

    #[test]
    fn every_preset_says_how_its_provider_checks_a_url_and_answers_it() {
        let mut vectors = BTreeSet::new();
        for line in include_str!("../../../tests/vectors/handshakes.jsonl").lines() {
            let vector: serde_json::Value = serde_json::from_str(line).unwrap();
            vectors.insert(vector["provider"].as_str().unwrap().to_owned());
        }
        for name in Preset::names() {
            let Preset { registration, handshakes, scheme, .. } = Preset::find(name).unwrap().unwrap();
            let Registration { check, source } = registration;
            assert_eq!(source.is_some(), check != UrlCheck::Unknown, "{name}: where is that known from?");
            assert!(source.is_none_or(|source| source.starts_with("https://")), "{name}");
            // What SNS asks is answered with a key that is fetched; a test of the receiver's does that.
            let is_fetched = scheme.alternatives.iter().any(|alternative| alternative.fetched_key.is_some());
            if check.needs_handshake() && !is_fetched {
                assert!(!handshakes.is_empty(), "{name}: nothing answers {}", check.words());
                assert!(vectors.contains(name), "{name}: tests/vectors/handshakes.jsonl has no {}", check.words());
            }
            let method = match check {
                UrlCheck::Head => Some(Method::HEAD),
                UrlCheck::Get => Some(Method::GET),
                _ => None,
            };
            assert!(method.is_none_or(|method| handshakes.iter().any(|one| one.method == method && !one.signed)), "{name}");
        }
    }

    #[test]
    fn every_file_is_compiled_in_and_sorted() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/presets");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".toml").unwrap().to_owned())
            .collect();
        let names: Vec<&str> = Preset::names().collect();
        assert_eq!(names, files.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
