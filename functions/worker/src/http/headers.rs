//! The headers of a delivery: ours, and those of the operator.

use reqwest::header::{self, HeaderMap, HeaderValue};
use shared::{
    config::{Field, Header},
    time::Timestamp,
};

use crate::{
    failure::Failure,
    parcel::{Parcel, header_safe},
};

/// All but the signature and the credential.
pub(super) fn of(parcel: &Parcel<'_>, id: &str, own: &[Header], now: Timestamp) -> Result<HeaderMap, Failure> {
    let written = [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", now.seconds().to_string()),
        ("idempotency-key", parcel.idempotency_key()),
        ("posthouse-source", parcel.event.key.source.to_string()),
        ("posthouse-event-type", parcel.event_type()),
    ];
    let mut headers = HeaderMap::new();
    for (name, text) in written {
        headers.insert(name, value(name, text)?);
    }
    let content_type = parcel.content_type.and_then(|text| HeaderValue::try_from(text).ok());
    headers.extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
    for header in own {
        let text = header.value.render(|field| header_safe(&fill(field, parcel)));
        headers.insert(header.name.clone(), value(header.name.as_str(), text)?);
    }
    Ok(headers)
}

pub(super) fn value(name: &str, text: String) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(text).map_err(|error| Failure::Permanent(format!("{name}: {error}")))
}

fn fill(field: &Field, parcel: &Parcel<'_>) -> String {
    let event = parcel.event;
    match field {
        Field::EventId => event.key.event_id.to_string(),
        Field::EventType => event.event_type.to_string(),
        Field::EventSource => event.key.source.to_string(),
        Field::ReceivedAt => event.received_at.to_rfc3339(),
        Field::OccurredAt => event.occurred_at.map(Timestamp::to_rfc3339).unwrap_or_default(),
        Field::Destination => parcel.destination.to_string(),
        Field::Attempt => parcel.attempt.to_string(),
        Field::Header(name) => event.headers.get(name).cloned().unwrap_or_default(),
    }
}
