//! The headers of a delivery: ours, and those of the operator.

use reqwest::header::{self, HeaderMap, HeaderValue};
use shared::{
    config::{Field, Header},
    content::CONTENT_ENCODING,
    time::Timestamp,
};

use crate::{
    failure::Failure,
    parcel::{Parcel, header_safe},
};

/// All but the signature and the credential. Headers of the operator's own take the place of ours.
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
    let content_encoding = parcel.content_encoding.and_then(|text| HeaderValue::try_from(text).ok());
    headers.extend(content_encoding.map(|value| (header::CONTENT_ENCODING, value)));
    for header in own {
        let text = header.value.render(|field| header_safe(&fill(field, parcel)));
        // It would say that there is a coding, and not which.
        if header.name == header::CONTENT_ENCODING && text.is_empty() {
            headers.remove(header::CONTENT_ENCODING);
            continue;
        }
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
        // Of the body that is sent, which may be another than that of the event.
        Field::Header(name) if name == CONTENT_ENCODING => parcel.content_encoding.unwrap_or_default().to_owned(),
        Field::Header(name) => event.headers.get(name).cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use shared::config::{DestinationKind, Gateway};

    use super::*;
    use crate::targets::fake::{NOW, destination, event, parcel};

    /// What of these settings a gzip-encoded event's header `content-encoding` becomes; `mapped` where a map made the body.
    fn content_encoding(own: &str, mapped: bool) -> Option<String> {
        let config = format!("[destinations.a]\ntype = \"http\"\nurl = \"https://a.b\"\nsecret = \"a\"\nheaders = {{ {own} }}");
        let gateway = Gateway::parse(&config, "gateway.toml").unwrap();
        let DestinationKind::Http(http) = &gateway.destinations.values().next().unwrap().kind else { panic!("it is http") };
        let mut event = event();
        event.headers.insert("content-encoding".to_owned(), "gzip".to_owned());
        let destination = destination();
        let mut parcel = parcel(&event, &destination, "{}");
        parcel.content_encoding = parcel.content_encoding.filter(|_| !mapped);
        let headers = of(&parcel, "id", &http.headers, NOW).unwrap();
        assert!(headers.get_all("content-encoding").iter().count() <= 1);
        headers.get("content-encoding").map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_exact_body_is_sent_with_its_content_encoding_and_a_mapped_one_without() {
        assert_eq!(content_encoding("", false).as_deref(), Some("gzip"));
        assert_eq!(content_encoding("", true), None);
    }

    #[test]
    fn a_content_encoding_of_the_operators_own_takes_the_place_of_the_senders_and_is_never_empty() {
        assert_eq!(content_encoding("Content-Encoding = \"identity\"", false).as_deref(), Some("identity"));
        let kept = "content-encoding = \"{header:content-encoding}\"";
        assert_eq!(content_encoding(kept, false).as_deref(), Some("gzip"));
        assert_eq!(content_encoding(kept, true), None);
    }
}
