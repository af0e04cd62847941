//! What is sent to a destination.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use shared::{event::Event, names::DestinationName};

/// What a header value must not hold as it is.
const HEADER_UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
/// Characters that a signed id must not have. A full stop follows it in the signed text: with another one inside, the text could be read as a
/// shorter id and another time.
const SIGNED_ID_UNSAFE: &AsciiSet = &HEADER_UNSAFE.add(b'.');

/// An event on its way to a destination, with the body that its route makes of it.
pub(crate) struct Parcel<'a> {
    /// The event.
    pub(crate) event: &'a Event,
    /// Where it goes.
    pub(crate) destination: &'a DestinationName,
    /// The event's exact body, or what the route's map made of it.
    pub(crate) body: Vec<u8>,
    /// The sender's, or that of JSON where a map made the body.
    pub(crate) content_type: Option<&'a str>,
    /// The sender's; none where a map made the body.
    pub(crate) content_encoding: Option<&'a str>,
    /// Which attempt this is, from 1.
    pub(crate) attempt: u32,
}

impl Parcel<'_> {
    /// `{source}#{event id}`, the same in every attempt and at every destination.
    pub(crate) fn id(&self) -> String {
        header_safe(&self.event.key.to_string())
    }

    /// [`Self::id`] without full stops, as the `webhook-id` that Standard Webhooks signs.
    pub(crate) fn signed_id(&self) -> String {
        utf8_percent_encode(&self.event.key.to_string(), SIGNED_ID_UNSAFE).to_string()
    }

    /// `{source}#{event id}#{destination}`, the same in every attempt.
    pub(crate) fn idempotency_key(&self) -> String {
        format!("{}#{}", self.id(), self.destination)
    }

    /// The event's type, fit for a header.
    pub(crate) fn event_type(&self) -> String {
        header_safe(self.event.event_type.as_str())
    }
}

/// Fit for a header: what is no visible ASCII is percent-encoded.
pub(crate) fn header_safe(text: &str) -> String {
    utf8_percent_encode(text, HEADER_UNSAFE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_id_fits_into_a_header() {
        assert_eq!(header_safe("github#7"), "github#7");
        assert_eq!(header_safe("a#é b%"), "a#%C3%A9%20b%25");
    }
}
