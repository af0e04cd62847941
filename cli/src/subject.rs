//! Whose webhooks these are: a source of the configuration, one of its schemes, or a preset.

use std::path::Path;

use shared::{
    config::{ConfigError, Senders, Source},
    names::SourceName,
    signatures::preset::Preset,
};

use crate::Stop;

/// How alike two names must be for one to be suggested for the other, from 0 to 1.
const ALIKE_MIN: f64 = 0.8;
/// Most suggestions.
const SUGGESTIONS_MAX: usize = 3;

/// What is known of a sender.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As it was asked for.
    pub name: String,
    /// What the receiver knows of it.
    pub source: Source,
    /// Whether the configuration has it, as a source: a scheme or a preset is one with no settings of its own.
    pub(crate) is_configured: bool,
}

impl From<Source> for Subject {
    fn from(source: Source) -> Self {
        Self { name: source.name.to_string(), source, is_configured: true }
    }
}

impl Subject {
    /// What a source of this preset has unless its own settings say otherwise.
    pub(crate) fn of_preset(name: &str, preset: Preset) -> Self {
        // A scheme of a configuration may have a name that no source can have.
        let known = SourceName::parse(name).or_else(|_| SourceName::parse("preset")).expect("this is a name");
        Self { name: name.to_owned(), source: Source::of_preset(known, preset), is_configured: false }
    }

    /// The URL as it is registered with the provider, its query included.
    pub(crate) fn registered_url(&self) -> Option<String> {
        self.source.registered_url()
    }
}

/// A configuration, if one is given, and the presets behind it. What is wrong with one sender is told to whoever asks for it.
#[derive(Debug, Default)]
pub struct Catalogue {
    senders: Option<Senders>,
}

impl Catalogue {
    /// Reads the configuration.
    pub fn load(config: Option<&Path>) -> Result<Self, Stop> {
        let senders = config.map(Senders::load).transpose().map_err(|error| Stop::Asked(error.to_string()))?;
        Ok(Self { senders })
    }

    /// Parses a configuration; `file` is for messages.
    pub fn parse(text: &str, file: &str) -> Result<Self, Stop> {
        Ok(Self { senders: Some(Senders::parse(text, file).map_err(|error| Stop::Asked(error.to_string()))?) })
    }

    /// A source of that name, or else a scheme of the file, or else a preset.
    pub fn subject(&self, name: &str) -> Result<Subject, String> {
        let told = |error: &ConfigError| error.to_string();
        if let Some(senders) = &self.senders {
            if let Some(source) = senders.sources.get(name) {
                return source.clone().map(Subject::from).map_err(|error| told(&error));
            }
            if let Some(scheme) = senders.schemes.get(name) {
                let scheme = scheme.as_ref().map_err(told)?;
                return Ok(Subject::of_preset(name, Preset::of_scheme(name, scheme.clone())));
            }
        }
        match Preset::find(name) {
            Some(preset) => preset.map(|preset| Subject::of_preset(name, preset)),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let mut known: Vec<&str> = Preset::names().collect();
        if let Some(senders) = &self.senders {
            known.extend(senders.sources.keys().chain(senders.schemes.keys()).map(String::as_str));
        }
        let what = if self.senders.is_some() { "no source, scheme or preset" } else { "no preset" };
        let hint = did_you_mean(name, known.into_iter());
        let config = if self.senders.is_some() { "" } else { "; for a source of your own give --config gateway.toml" };
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
