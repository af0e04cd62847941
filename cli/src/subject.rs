//! Whose webhooks these are: a source of the configuration, one of its schemes, or a preset.

use std::path::Path;

use http::Method;
use shared::{
    config::{AnswerSpec, Gateway, Source},
    event::EventSpec,
    location::Places,
    names::SourceName,
    signatures::{Scheme, UnverifiedWebhook, handshake::Handshake, preset::Preset},
};

use crate::Stop;

/// How alike two names must be for one to be suggested for the other, from 0 to 1.
const ALIKE_MIN: f64 = 0.8;
/// Most suggestions.
const SUGGESTIONS_MAX: usize = 3;

/// What is known of a sender.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) scheme: Scheme,
    pub(crate) event: EventSpec,
    pub(crate) methods: Vec<Method>,
    pub(crate) handshakes: Vec<Handshake>,
    pub(crate) answer: AnswerSpec,
    /// As registered with the provider, without a query.
    pub(crate) public_url: Option<String>,
}

impl From<&Source> for Subject {
    fn from(source: &Source) -> Self {
        Self {
            name: source.name.to_string(),
            scheme: source.scheme.clone(),
            event: source.event.clone(),
            methods: source.methods.clone(),
            handshakes: source.handshakes.clone(),
            answer: source.answer.clone(),
            public_url: source.public_url.clone(),
        }
    }
}

impl Subject {
    /// What a source of this preset has unless its own settings say otherwise.
    pub(crate) fn of_preset(name: &str, preset: Preset) -> Self {
        let mut event = preset.event;
        event.id = event.id.or_else(|| preset.scheme.id().cloned().map(Into::into));
        Self {
            name: name.to_owned(),
            scheme: preset.scheme,
            event,
            methods: preset.methods,
            handshakes: preset.handshakes,
            answer: preset.answer,
            public_url: None,
        }
    }

    /// The handshake that a request is, if any. What has a signature is never taken for one that needs none.
    pub(crate) fn handshake(&self, webhook: &UnverifiedWebhook) -> Option<&Handshake> {
        let places = Places::new(webhook);
        let mut meant = self.handshakes.iter().filter(|handshake| handshake.is_meant(&places));
        meant.find(|handshake| handshake.signed || !self.scheme.is_signed(&places))
    }
}

/// A configuration, if one is given, and the presets behind it.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    gateway: Option<Gateway>,
}

impl Catalogue {
    /// Reads the configuration.
    pub(crate) fn load(config: Option<&Path>) -> Result<Self, Stop> {
        let gateway = config.map(Gateway::load).transpose().map_err(|error| Stop::Asked(error.to_string()))?;
        Ok(Self { gateway })
    }

    /// A source of that name, or else a scheme.
    pub(crate) fn source(&self, name: &str) -> Result<Subject, Stop> {
        let source =
            self.gateway.as_ref().zip(SourceName::parse(name).ok()).and_then(|(gateway, name)| gateway.sources.get(&name));
        match source {
            Some(source) => Ok(source.into()),
            None => self.scheme(name).map_err(Stop::Asked),
        }
    }

    /// A scheme of that name: one of the file goes before a preset.
    pub(crate) fn scheme(&self, name: &str) -> Result<Subject, String> {
        if let Some(scheme) = self.gateway.as_ref().and_then(|gateway| gateway.schemes.get(name)) {
            return Ok(Subject::of_preset(name, Preset::of_scheme(name, scheme.clone())));
        }
        match Preset::find(name) {
            Some(preset) => preset.map(|preset| Subject::of_preset(name, preset)),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let mut known: Vec<&str> = Preset::names().collect();
        if let Some(gateway) = &self.gateway {
            known.extend(gateway.sources.keys().map(SourceName::as_str));
            known.extend(gateway.schemes.keys().map(String::as_str));
        }
        let what = if self.gateway.is_some() { "no source, scheme or preset" } else { "no preset" };
        let hint = did_you_mean(name, known.into_iter());
        let config = if self.gateway.is_some() { "" } else { "; for a source of your own give --config gateway.toml" };
        format!("there is {what} `{name}`{hint}; `posthouse providers` lists the presets{config}")
    }
}

/// ` (did you mean …?)`, or nothing.
pub(crate) fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let wanted = name.to_ascii_lowercase();
    let mut alike: Vec<(f64, &str)> =
        known.map(|known| (strsim::jaro_winkler(&wanted, known), known)).filter(|(alike, _)| *alike >= ALIKE_MIN).collect();
    alike.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    alike.dedup_by(|(_, left), (_, right)| left == right);
    let names: Vec<String> = alike.into_iter().take(SUGGESTIONS_MAX).map(|(_, known)| format!("`{known}`")).collect();
    if names.is_empty() { String::new() } else { format!(" (did you mean {}?)", names.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let hint = |name: &str| did_you_mean(name, Preset::names());
        assert!(hint("gihtub").contains("`github`"), "{}", hint("gihtub"));
        assert!(hint("Stripe").contains("`stripe`"));
        assert!(hint("shoppify").starts_with(" (did you mean `shopify`"));
        assert_eq!(hint("qqqqqq"), "");
    }
}
