//! Which bytes a scheme signs: text with `{body}`, `{timestamp}` and places of the request, as `{header:webhook-id}`.

use serde::Deserialize;

use crate::location::Location;

/// A signed-content template. `{timestamp}` is the timestamp as sent, `{body}` the exact body; every other brace names a [`Location`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Body,
    Timestamp,
    At(Location),
}

impl Template {
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Location> {
        self.parts.iter().filter_map(|part| match part {
            Part::At(place) => Some(place),
            _ => None,
        })
    }

    pub(super) fn uses_timestamp(&self) -> bool {
        self.parts.contains(&Part::Timestamp)
    }

    pub(super) fn covers_body(&self) -> bool {
        self.parts.contains(&Part::Body)
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((literal, after)) = rest.split_once('{') {
            if !literal.is_empty() {
                parts.push(Part::Text(literal.to_owned()));
            }
            let (name, after) = after.split_once('}').ok_or_else(|| format!("`{text}` has a `{{` without its `}}`"))?;
            parts.push(match name {
                "body" => Part::Body,
                "timestamp" => Part::Timestamp,
                place => Part::At(Location::try_from(place.to_owned())?),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_parsed_into_their_parts() {
        let template = Template::try_from("v0:{timestamp}:{body}".to_owned()).unwrap();
        assert_eq!(template.parts(), [Part::Text("v0:".into()), Part::Timestamp, Part::Text(":".into()), Part::Body]);
        assert!(Template::try_from("{header:a}.{body}".to_owned()).unwrap().covers_body());
    }

    #[test]
    fn a_template_that_cannot_be_read_says_why() {
        assert!(Template::try_from("{body".to_owned()).unwrap_err().contains("without its `}`"));
        assert!(Template::try_from("{nonsense}".to_owned()).is_err());
    }
}
