//! The `eventbridge` destination: the event as JSON, as the detail of an event on a bus.

use aws_sdk_eventbridge::{operation::put_events::PutEventsOutput, types::PutEventsRequestEntry};
use aws_smithy_types::DateTime;
use shared::{config::EventBridgeDestination, time::Timestamp};

use super::{Targets, envelope::envelope, refusal::Call};
use crate::{failure::Failure, parcel::Parcel};

/// Largest entry, in bytes: the quota of PutEvents (1 MB).
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Longest detail type, in characters (PutEventsRequestEntry).
pub const DETAIL_TYPE_CHARS_MAX: usize = 128;
/// What PutEvents counts for the time of an entry, in bytes.
const TIME_BYTES: usize = 14;

pub(super) const PUT_EVENTS: Call = Call {
    service: "EventBridge",
    action: "events:PutEvents",
    parameter: "EventBridgeTargets",
    // Two names of one error: that of the request and that of an entry.
    passing: &["InternalException", "InternalFailure"],
};
/// How an entry says that the bus's own policy refuses it: a person must change that.
const UNAUTHORIZED: [&str; 2] = ["NotAuthorizedForDetailTypeException", "NotAuthorizedForSourceException"];

impl Targets {
    /// Puts one event on the bus.
    pub(crate) async fn put_event(
        &self,
        destination: &EventBridgeDestination,
        parcel: &Parcel<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let entry = entry(destination, parcel)?;
        match self.eventbridge().put_events().entries(entry).send().await {
            Ok(answer) => judge(&answer),
            Err(error) => Err(PUT_EVENTS.failure(&error, now)),
        }
    }
}

fn entry(destination: &EventBridgeDestination, parcel: &Parcel<'_>) -> Result<PutEventsRequestEntry, Failure> {
    let event = parcel.event;
    let detail_type = event.event_type.as_str();
    let chars = detail_type.chars().count();
    if chars > DETAIL_TYPE_CHARS_MAX {
        let reason = format!("the event's type has {chars} characters, and EventBridge takes {DETAIL_TYPE_CHARS_MAX}");
        return Err(Failure::Permanent(reason));
    }
    let (detail, source) = (envelope(parcel), destination.event_source(&event.key.source));
    let bytes = TIME_BYTES + source.len() + detail_type.len() + detail.len();
    if bytes > ENTRY_BYTES_MAX {
        let reason = format!("the entry of {bytes} bytes is above the {ENTRY_BYTES_MAX} that EventBridge takes");
        return Err(Failure::Permanent(reason));
    }
    let time = event.occurred_at.unwrap_or(event.received_at).seconds();
    let entry = PutEventsRequestEntry::builder().event_bus_name(&destination.bus).source(source);
    let entry = entry.detail_type(detail_type).detail(detail);
    Ok(entry.set_time(i64::try_from(time).ok().map(DateTime::from_secs)).build())
}

/// What became of the one entry: a request may succeed although its entry failed.
fn judge(answer: &PutEventsOutput) -> Result<(), Failure> {
    if answer.failed_entry_count() == 0 {
        return Ok(());
    }
    let code = answer.entries().iter().find_map(|entry| entry.error_code()).unwrap_or_default();
    match PUT_EVENTS.refusal(code, 0, None) {
        Failure::Permanent(reason) if UNAUTHORIZED.contains(&code) => {
            Err(Failure::Auth(format!("{reason}: the policy of the event bus refuses the event")))
        }
        failure => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::{
        config::{DestinationKind, Gateway},
        event::Event,
        names::EventType,
    };

    use super::{
        super::fake::{Fake, NOW, class, destination, event, parcel},
        *,
    };

    const TAKEN: &str = r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#;

    async fn put(fake: &Fake, event: &Event, body: impl Into<Vec<u8>>) -> Result<(), Failure> {
        let config = "[destinations.orders]\ntype = \"eventbridge\"\nbus = \"orders\"";
        let kind = Gateway::parse(config, "gateway.toml").unwrap().destinations.into_values().next().unwrap().kind;
        let DestinationKind::EventBridge(bus) = kind else { panic!() };
        fake.targets().put_event(&bus, &parcel(event, &destination(), body), NOW).await
    }

    #[tokio::test]
    async fn an_event_is_put_on_the_bus_with_the_whole_of_it_as_its_detail() {
        let fake = Fake::answering(200, TAKEN);
        assert_eq!(put(&fake, &event(), "{\"n\":12.10}").await, Ok(()));
        let asked = fake.asked_once();
        assert_eq!(asked.header("x-amz-target"), Some("AWSEvents.PutEvents"));
        let mut entries = asked.json();
        let detail = entries["Entries"][0]["Detail"].take();
        let expected = json!({"Entries": [{
            "Source": "posthouse.shop", "DetailType": "orders/create", "EventBusName": "orders", "Time": 1_795_328_600, "Detail": null
        }]});
        assert_eq!(entries, expected);
        assert!(detail.as_str().unwrap().ends_with("\"body\":{\"n\":12.10}}"), "{detail}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(detail.as_str().unwrap()).unwrap()["receivedAt"], NOW.to_rfc3339());
    }

    #[tokio::test]
    async fn an_event_without_a_time_of_its_own_has_that_of_its_receipt() {
        let fake = Fake::answering(200, TAKEN);
        put(&fake, &Event { occurred_at: None, ..event() }, "{}").await.unwrap();
        assert_eq!(fake.asked_once().json()["Entries"][0]["Time"], NOW.seconds());
    }

    #[tokio::test]
    async fn an_entry_that_failed_fails_the_delivery_though_the_request_succeeded() {
        for (code, expected) in [
            ("ThrottlingException", "throttled"),
            ("InternalFailure", "transient"),
            ("InternalException", "transient"),
            ("AccessDeniedException", "auth"),
            ("NotAuthorizedForSourceException", "auth"),
            ("NotAuthorizedForDetailTypeException", "auth"),
            ("MalformedDetail", "permanent"),
            ("InvalidArgument", "permanent"),
            ("", "permanent"),
        ] {
            let answer = json!({"FailedEntryCount": 1, "Entries": [{"ErrorCode": code, "ErrorMessage": "hush"}]});
            let fake = Fake::answering(200, &answer.to_string());
            let result = put(&fake, &event(), "{}").await;
            assert_eq!(class(&result), expected, "{code}");
            assert!(!format!("{result:?}").contains("hush"), "{result:?}");
            assert_eq!(fake.asked().len(), 1, "{code}");
        }
    }

    #[tokio::test]
    async fn what_eventbridge_itself_answers_has_its_class_and_is_not_tried_again() {
        for (status, code, expected) in [
            (400, "ThrottlingException", "throttled"),
            (400, "AccessDeniedException", "auth"),
            (400, "ValidationException", "permanent"),
            (500, "InternalException", "transient"),
        ] {
            let fake = Fake::answering(status, &json!({"__type": code, "message": "hush"}).to_string());
            assert_eq!(class(&put(&fake, &event(), "{}").await), expected, "{code}");
            assert_eq!(fake.asked().len(), 1, "{code}");
        }
    }

    #[tokio::test]
    async fn an_entry_holds_on_both_sides_of_its_bound() {
        let fake = Fake::answering(200, TAKEN);
        put(&fake, &event(), "0").await.unwrap();
        let detail = fake.asked_once().json()["Entries"][0]["Detail"].as_str().unwrap().len();
        let around = detail - 1 + "posthouse.shop".len() + "orders/create".len() + TIME_BYTES;

        let fake = Fake::answering(200, TAKEN);
        assert_eq!(put(&fake, &event(), "1".repeat(ENTRY_BYTES_MAX - around)).await, Ok(()));
        let fake = Fake::answering(200, TAKEN);
        let reason = "the entry of 1048577 bytes is above the 1048576 that EventBridge takes".to_owned();
        let result = put(&fake, &event(), "1".repeat(ENTRY_BYTES_MAX - around + 1)).await;
        assert_eq!(result, Err(Failure::Permanent(reason)));
        assert!(fake.asked().is_empty());
    }

    #[tokio::test]
    async fn a_detail_type_holds_on_both_sides_of_its_bound() {
        let of_chars = |chars: usize| Event { event_type: EventType::parse(&"é".repeat(chars)).unwrap(), ..event() };
        let fake = Fake::answering(200, TAKEN);
        assert_eq!(put(&fake, &of_chars(DETAIL_TYPE_CHARS_MAX), "{}").await, Ok(()));
        let long = Event { event_type: EventType::parse(&"a".repeat(DETAIL_TYPE_CHARS_MAX + 1)).unwrap(), ..event() };
        let reason = "the event's type has 129 characters, and EventBridge takes 128".to_owned();
        assert_eq!(put(&fake, &long, "{}").await, Err(Failure::Permanent(reason)));
        assert_eq!(fake.asked().len(), 1);
    }
}
