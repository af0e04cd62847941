use http::HeaderValue;
use shared::config::{DestinationKind, Gateway};

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// The class of a status, with these of the destination's own.
fn class(status: u16, retry_after: Option<&str>, own: &str) -> &'static str {
    let config = format!("[destinations.a]\ntype = \"http\"\nurl = \"https://a.b\"\nsecret = \"a\"\nstatuses = {{ {own} }}");
    let gateway = Gateway::parse(&config, "gateway.toml").unwrap();
    let DestinationKind::Http(destination) = &gateway.destinations.values().next().unwrap().kind else { panic!("it is http") };
    let mut answer = Answer::of(StatusCode::from_u16(status).unwrap());
    answer.headers.extend(retry_after.map(|text| (header::RETRY_AFTER, HeaderValue::from_str(text).unwrap())));
    match classify(&answer, &destination.statuses, NOW) {
        Ok(()) => "done",
        Err(Failure::Transient(_)) => "transient",
        Err(Failure::Throttled { retry_after: None, .. }) => "throttled",
        Err(Failure::Throttled { retry_after: Some(asked), .. }) => match asked.as_secs() {
            120 => "throttled for 120 s",
            _ => "throttled for another time",
        },
        Err(Failure::Permanent(_)) => "permanent",
        Err(Failure::Auth(_) | Failure::Refused(_)) => "auth",
        Err(Failure::Conflict(_)) => "conflict",
    }
}

#[test]
fn every_status_has_its_class() {
    for (statuses, expected) in [
        (&[200, 202, 204, 299][..], "done"),
        (&[301, 302, 307, 308], "permanent"),
        (&[400, 404, 410, 413, 422], "permanent"),
        (&[401, 403, 407], "auth"),
        (&[408, 425, 500, 502, 503, 504, 599], "transient"),
        (&[409], "conflict"),
        (&[429], "throttled"),
    ] {
        for status in statuses {
            assert_eq!(class(*status, None, ""), expected, "{status}");
        }
    }
    for asked in ["120", "Tue, 14 Nov 2023 22:15:20 GMT"] {
        assert_eq!(class(429, Some(asked), ""), "throttled for 120 s");
        assert_eq!(class(503, Some(asked), ""), "throttled for 120 s");
        assert_eq!(class(500, Some(asked), ""), "transient");
    }
}

#[test]
fn a_destination_may_mean_something_else_and_a_status_goes_before_its_hundred() {
    let own = "404 = \"transient\", 409 = \"done\", 5xx = \"permanent\", 503 = \"auth\", 2xx = \"conflict\", 204 = \"throttled\"";
    for (status, expected) in [
        (404, "transient"),
        (403, "auth"),
        (405, "permanent"),
        (409, "done"),
        (500, "permanent"),
        (502, "permanent"),
        (503, "auth"),
        (200, "conflict"),
        (204, "throttled"),
        (429, "throttled"),
    ] {
        assert_eq!(class(status, None, own), expected, "{status}");
    }
    assert_eq!(class(502, Some("120"), "5xx = \"throttled\""), "throttled for 120 s");
    assert_eq!(class(429, Some("120"), "429 = \"done\""), "done");
    assert_eq!(class(307, None, "3xx = \"done\""), "done");
}

#[test]
fn a_request_id_is_told_if_it_looks_like_one() {
    let reason = |id: &str| {
        let mut answer = Answer::of(StatusCode::SERVICE_UNAVAILABLE);
        answer.headers.insert("x-request-id", HeaderValue::from_bytes(id.as_bytes()).unwrap());
        match classify(&answer, &Statuses::default(), NOW) {
            Err(Failure::Transient(reason)) => reason,
            _ => panic!("a 503 is transient"),
        }
    };
    let without = "the destination answered 503 Service Unavailable";
    assert_eq!(reason("abc-1"), format!("{without} (request id abc-1)"));
    let longest = "a".repeat(REQUEST_ID_BYTES_MAX);
    assert_eq!(reason(&longest), format!("{without} (request id {longest})"));
    for no_id in [&*"a".repeat(REQUEST_ID_BYTES_MAX + 1), "", "a b", "é"] {
        assert_eq!(reason(no_id), without, "{no_id}");
    }
}
