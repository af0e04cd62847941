//! Providers that come configured: one file each under `shared/presets/`, compiled in, parsed only when a source names it.

use http::Method;
use serde::{Deserialize, Deserializer, de::Error};

use super::{Scheme, handshake::Handshake};
use crate::{config::AnswerSpec, event::EventSpec};

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
    /// What the provider does when it delivers.
    #[serde(default)]
    pub delivery: DeliveryFacts,
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
    /// When it sends again.
    pub retries: Option<String>,
    /// What it takes for success.
    pub answer: Option<String>,
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
    "airtable"
    "asana"
    "authorize-net"
    "aws-sns"
    "bigcommerce"
    "bitbucket"
    "braintree"
    "cal-com"
    "calendly"
    "chargebee"
    "clerk"
    "close"
    "cloudinary"
    "cloudinary-sha256"
    "coinbase-cdp"
    "contentful"
    "convoy-advanced-sha256-base64"
    "convoy-advanced-sha256-hex"
    "convoy-advanced-sha512-base64"
    "convoy-advanced-sha512-hex"
    "convoy-simple-sha256-base64"
    "convoy-simple-sha256-hex"
    "convoy-simple-sha512-base64"
    "convoy-simple-sha512-hex"
    "discord"
    "docusign"
    "dropbox"
    "figma"
    "front"
    "fusionauth"
    "fusionauth-public"
    "gitea"
    "github"
    "github-sha1"
    "gitlab"
    "gitlab-signing-token"
    "google-push"
    "hook0"
    "hubspot"
    "hubspot-v3"
    "huggingface"
    "intercom"
    "intuit"
    "jira"
    "launchdarkly"
    "line"
    "linear"
    "lithic"
    "livekit"
    "mailgun"
    "mandrill"
    "messagebird-jwt"
    "messagebird-legacy"
    "meta"
    "microsoft-graph"
    "mollie"
    "netlify"
    "notion"
    "okta"
    "openai"
    "paddle"
    "pagerduty"
    "paypal"
    "paystack"
    "plaid"
    "plivo-v2"
    "postmark"
    "pusher"
    "razorpay"
    "resend"
    "retell"
    "sanity"
    "sendgrid"
    "sentry"
    "shopify"
    "slack"
    "square"
    "standard-webhooks"
    "standard-webhooks-v1a"
    "stripe"
    "supabase-auth-hooks"
    "svix"
    "telegram"
    "trello"
    "twilio"
    "twitch"
    "twitter"
    "typeform"
    "vercel"
    "vonage"
    "woocommerce"
    "xero"
    "zendesk"
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
            delivery: DeliveryFacts::default(),
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
