//! The settings under `event`: where a source's webhooks have their event id, type and time.

use serde::Deserialize;

use super::BodyDigest;
use crate::{
    json::{self, Pointers},
    location::{IdPlaces, Location, Locations},
    signatures::TimestampFormat,
};

/// Where a source's events carry what Posthouse needs to know about them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSpec {
    /// The sender's event id. Without one, the SHA-256 of what was signed is the id.
    pub id: Option<IdPlaces>,
    /// Whether a webhook may come without it, and is then known by what was signed; by default it may not.
    pub id_optional: Option<bool>,
    /// For senders whose webhooks may be byte for byte the same and yet mean something new: one that is known by what was
    /// signed is the same event only for so long, in seconds.
    pub same_within_seconds: Option<u64>,
    /// The event's type: the first of these places that has one. Without one, or where it is absent, the type is `unknown`.
    #[serde(rename = "type")]
    pub event_type: Option<Locations>,
    /// When the event happened.
    pub occurred_at: Option<OccurredAt>,
    /// Values of a JSON body that are the sender's bookkeeping, as a counter of its attempts, and that two bodies of one event may
    /// differ in.
    pub ignore: Option<Ignored>,
    /// What becomes of a genuine webhook whose id cannot be read; by default it is accepted.
    pub unreadable: Option<Unreadable>,
    /// JSON pointer to an array of which each element is an event of its own; empty where the body itself is that array. Places of a
    /// JSON body are then read within the element.
    pub each: Option<Each>,
    /// What the source's bodies must be. Said on the source.
    #[serde(skip)]
    pub body: BodyFormat,
}

/// What the bodies of a source must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyFormat {
    /// Anything.
    #[default]
    Opaque,
    /// JSON: another body is refused, whatever stands in headers.
    Json,
}

/// Most events of one batch: each is written by itself before the sender has its answer.
pub const BATCH_EVENTS_MAX: usize = 100;

/// The place of a batch's elements.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Each(String);

impl TryFrom<String> for Each {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let pointer = text.strip_prefix("json:").unwrap_or(&text);
        if !pointer.is_empty() {
            Pointers::check(pointer).map_err(|error| format!("`each`: `{pointer}`: {error}"))?;
        }
        if pointer.contains('*') {
            return Err(format!("`each`: `{pointer}` names the array, not its elements: leave `*` out"));
        }
        Ok(Self(pointer.to_owned()))
    }
}

impl Each {
    /// The pointer; empty for the body itself.
    pub fn pointer(&self) -> &str {
        &self.0
    }
}

/// Values of a JSON body that do not count when two bodies are compared: JSON pointers, `*` in them for every element.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Ignored {
    pointers: Pointers,
    texts: Vec<String>,
}

/// Most ignored values of one body. Where there are more, nothing is ignored: a body that would take memory for each is compared whole.
pub const IGNORED_VALUES_MAX: usize = 10_000;

impl TryFrom<Vec<String>> for Ignored {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        let texts: Vec<String> =
            texts.into_iter().map(|text| text.strip_prefix("json:").map_or(text.clone(), str::to_owned)).collect();
        for text in &texts {
            Pointers::check(text).map_err(|error| format!("`ignore`: `{text}`: {error}"))?;
        }
        Ok(Self { pointers: Pointers::new(texts.iter().map(String::as_str)), texts })
    }
}

impl Ignored {
    /// The pointers as they are written.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The digest of a body without these values. `None` if it has none of them.
    pub fn digest_without(&self, body: &[u8]) -> Option<BodyDigest> {
        let spans = json::spans(body, &self.pointers, IGNORED_VALUES_MAX).ok()??;
        (!spans.is_empty()).then(|| BodyDigest::without(body, &spans))
    }
}

/// What becomes of a webhook whose signature is right and whose event id cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unreadable {
    /// It is accepted, known by what was signed, with the type `unreadable`. It is counted, and an alarm rings.
    #[default]
    Accept,
    /// It is refused with 400.
    Refuse,
}

/// Where the sender says when an event happened.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OccurredAt {
    /// The place, or several of which the first that can be read counts.
    pub at: Locations,
    /// How it is written there.
    pub format: TimestampFormat,
}

impl EventSpec {
    /// With the settings of a preset where this has none.
    #[must_use]
    pub fn or(self, preset: Self) -> Self {
        Self {
            id: self.id.or(preset.id),
            id_optional: self.id_optional.or(preset.id_optional),
            same_within_seconds: self.same_within_seconds.or(preset.same_within_seconds),
            event_type: self.event_type.or(preset.event_type),
            occurred_at: self.occurred_at.or(preset.occurred_at),
            ignore: self.ignore.or(preset.ignore),
            unreadable: self.unreadable.or(preset.unreadable),
            each: self.each.or(preset.each),
            body: self.body,
        }
    }

    /// Whether a webhook may come without an id.
    pub fn is_id_optional(&self) -> bool {
        self.id_optional.unwrap_or(false)
    }

    /// All places that it names.
    pub fn places(&self) -> impl Iterator<Item = &Location> {
        let id = self.id.iter().flat_map(IdPlaces::places);
        let event_type = self.event_type.iter().flat_map(Locations::iter);
        id.chain(event_type).chain(self.occurred_at.iter().flat_map(|spec| spec.at.iter()))
    }
}
