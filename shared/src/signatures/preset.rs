//! Providers that come configured: one file each under `shared/presets/`, compiled in, parsed only when a source names it.

use serde::Deserialize;

use super::Scheme;
use crate::event::EventSpec;

/// What is known about a provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The provider's own name.
    pub name: String,
    /// Where the provider documents its webhooks.
    pub documentation: String,
    /// Its signature scheme.
    pub scheme: Scheme,
    /// Where its events carry id, type and time.
    pub event: EventSpec,
    /// Headers that are kept on the event, beside the content type; lower case.
    #[serde(default)]
    pub keep_headers: Vec<String>,
}

const PRESETS: [(&str, &str); 4] = [
    ("github", include_str!("../../presets/github.toml")),
    ("shopify", include_str!("../../presets/shopify.toml")),
    ("standard-webhooks", include_str!("../../presets/standard-webhooks.toml")),
    ("stripe", include_str!("../../presets/stripe.toml")),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_parses_and_its_scheme_is_possible() {
        for name in Preset::names() {
            let preset = Preset::find(name).unwrap().unwrap();
            assert_eq!(preset.scheme.check(), Ok(()), "{name}");
            assert!(preset.documentation.starts_with("https://"), "{name}");
        }
    }
}
