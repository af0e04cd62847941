use std::collections::BTreeMap;

use super::*;
use crate::{
    event::{BodyDigest, EventKey},
    names::{EventId, EventType},
    time::Timestamp,
};

const BASE: &str = "[sources.s]\nscheme = \"github\"\nsecret = \"s\"\n\
                    [destinations.one]\ntype = \"handler\"\nhandler = \"x\"\n";

fn load(routes: &str) -> Result<Routing, ConfigError> {
    let gateway = Gateway::parse(&format!("{BASE}{routes}"), "gateway.toml")?;
    Routing::load(&gateway, Path::new("gateway.toml"))
}

fn event(event_type: &str) -> Event {
    Event {
        key: EventKey { source: SourceName::parse("s").unwrap(), event_id: EventId::parse("7").unwrap() },
        event_type: EventType::parse(event_type).unwrap(),
        received_at: Timestamp::from_seconds(1_700_000_000),
        occurred_at: None,
        headers: BTreeMap::from([("x-version".to_owned(), "2".to_owned())]),
        body_bytes: 0,
        sha256: BodyDigest::of(b""),
        compared_sha256: None,
        part: None,
        key_id: String::new(),
        destinations: Vec::new(),
        expires_at: Timestamp::from_seconds(1_800_000_000),
    }
}

fn plan_of(routes: &str, event_type: &str, body: &str) -> Result<Plan, RoutingFailure> {
    let one = DestinationName::parse("one").unwrap();
    load(routes).unwrap().plan(&event(event_type), &one, body.as_bytes().to_vec())
}

fn route(settings: &str) -> String {
    format!("[[routes]]\nsource = \"s\"\ndestination = \"one\"\n{settings}\n")
}

#[test]
fn without_an_expression_any_body_is_sent_as_it_is() {
    assert_eq!(plan_of(&route(""), "push", "no JSON"), Ok(Plan::unchanged(b"no JSON".to_vec())));
}

#[test]
fn of_several_routes_the_first_that_lets_it_through_makes_what_is_sent() {
    let routes = [
        route("types = [\"push\"]\nfilter = \".n > 10\"\nmap = \"{big: .n}\""),
        route("types = [\"push\"]\nfilter = \".n > 5\"\nmap = \"{middle: .n}\""),
        route("default = true"),
    ]
    .concat();
    let sent = |event_type: &str, body: &str| match plan_of(&routes, event_type, body).unwrap() {
        Plan::Send(sending) => (String::from_utf8(sending.body).unwrap(), sending.is_mapped),
        Plan::Skip => ("skipped".to_owned(), false),
    };
    assert_eq!(sent("push", r#"{"n": 11}"#), (r#"{"big":11}"#.to_owned(), true));
    assert_eq!(sent("push", r#"{"n": 10}"#), (r#"{"middle":10}"#.to_owned(), true));
    assert_eq!(sent("push", r#"{"n": 5}"#), ("skipped".to_owned(), false));
    assert_eq!(sent("other", r#"{"n": 5}"#), (r#"{"n": 5}"#.to_owned(), false));
}

#[test]
fn an_expression_that_cannot_be_compiled_is_named_with_its_line() {
    let error = load(&route("filter = \".a |\"")).unwrap_err().to_string();
    assert!(error.starts_with("gateway.toml:10:10: jq, line 1"), "{error}");
    let error = load(&route("order = { key = \".a\", version = \"nonsense(1)\" }")).unwrap_err().to_string();
    assert!(error.starts_with("gateway.toml:10:33: jq"), "{error}");
}

#[test]
fn what_fails_says_which_expression_and_nothing_of_the_body() {
    for (settings, words) in [
        ("filter = \".a.b\"", "the filter of its route fails"),
        ("map = \".a.b\"", "the map of its route fails"),
        ("order = { key = \".a.b\", version = \"1\" }", "the order.key of its route fails"),
        ("order = { key = \"1\", version = \".a.b\" }", "the order.version of its route fails"),
    ] {
        let failure = plan_of(&route(settings), "push", r#"{"a": "hush"}"#).unwrap_err();
        let said = failure.to_string();
        assert!(said.contains(words) && !said.contains("hush"), "{said}");
        assert!(!failure.is_transient() && !failure.is_violation());
    }
}

#[test]
fn a_body_that_is_no_json_names_the_first_key_that_needs_it() {
    const ORDER: &str = "order = { key = \"1\", version = \"1\" }";
    for (settings, what) in [
        ("filter = \"true\"", "filter"),
        ("filter = \"true\"\nmap = \".\"", "filter"),
        ("map = \".\"", "map"),
        (&format!("map = \".\"\n{ORDER}"), "map"),
        (ORDER, "order.key"),
    ] {
        let failure = plan_of(&route(settings), "push", "hush").unwrap_err();
        assert_eq!(failure.to_string(), format!("the {what} of its route fails: the body is not JSON (line 1, column 1)"));
    }
    let several = [route("map = \".\""), route("filter = \"true\"")].concat();
    assert!(plan_of(&several, "push", "hush").unwrap_err().to_string().starts_with("the map of its route fails: "));
}

#[test]
fn expressions_and_contracts_see_the_decoded_body_and_others_get_the_exact_one() {
    let one = DestinationName::parse("one").unwrap();
    let plan = |routes: &str, coding: &str, body: &[u8]| {
        let mut event = event("push");
        event.headers.insert("content-encoding".to_owned(), coding.to_owned());
        let routing = load(routes).unwrap();
        let key = routing.order_key(&event, &one, body);
        (routing.plan(&event, &one, body.to_vec()), key)
    };
    let body = zstd::encode_all(&br#"{"n": 11}"#[..], 3).unwrap();
    let sent = |routes: &str| match plan(routes, "zstd", &body) {
        (Ok(Plan::Send(sending)), _) => (sending.body, sending.is_mapped),
        other => panic!("{other:?}"),
    };
    assert_eq!(sent(&route("")), (body.clone(), false));
    assert_eq!(sent(&route("filter = \".n > 10\"")), (body.clone(), false));
    assert_eq!(sent(&route("filter = \".n > 10\"\nmap = \".n\"")), (b"11".to_vec(), true));
    let order = route("order = { key = \".n\", version = \"1\" }");
    assert_eq!(sent(&order), (body.clone(), false));
    assert_eq!(plan(&order, "zstd", &body).1.as_deref(), Some("11"));

    assert_eq!(plan(&route(""), "gzip", &body).0, Ok(Plan::unchanged(body.clone())), "nothing looks into it");
    let why = "the body is not valid gzip, although `content-encoding` says that it is";
    let failure = plan(&route("map = \".n\""), "gzip", &body).0.unwrap_err();
    assert_eq!(failure.to_string(), format!("the map of its route fails: {why}"));
    assert!(!failure.is_transient() && !failure.is_violation());
    let contract = "[[contracts]]\nsource = \"s\"\nschema_version = { at = \"json:/n\", is = [\"11\"] }\n";
    let contract = format!("{contract}{}", route(""));
    assert_eq!(sent(&contract), (body.clone(), false));
    let failure = plan(&contract, "gzip", &body).0.unwrap_err();
    assert_eq!(failure.to_string(), format!("{why}, and its contract says what is in it"));
    assert!(failure.is_violation() && !failure.is_transient());
    assert_eq!(plan(&order, "gzip", &body).1, None);
}

#[test]
fn a_body_that_is_too_much_for_its_contract_blames_no_expression() {
    let contract = "[[contracts]]\nsource = \"s\"\nschema_version = { at = \"json:/n\", is = [\"11\"] }\n";
    let deep = ["[".repeat(200), "]".repeat(200)].concat();
    let failure = plan_of(&format!("{contract}{}", route("map = \".\"")), "push", &deep).unwrap_err();
    assert_eq!(failure, RoutingFailure::Unchecked(JqFailure::Nesting));
}

#[test]
fn an_order_has_a_key_and_a_version() {
    let order = |body: &str| {
        let plan = plan_of(&route("order = { key = \".k\", version = \".v\" }"), "push", body);
        plan.map(|plan| match plan {
            Plan::Send(sending) => sending.order.unwrap(),
            Plan::Skip => panic!("skipped"),
        })
    };
    let number = |text: &str| Version::Number(text.to_owned());
    assert_eq!(order(r#"{"k": "a", "v": 7}"#), Ok(("a".to_owned(), number("7"))));
    assert_eq!(order(r#"{"k": 12, "v": 7.5}"#), Ok(("12".to_owned(), number("7.5"))));
    assert_eq!(order(r#"{"k": "a", "v": "2026"}"#), Ok(("a".to_owned(), Version::Text("2026".to_owned()))));
    let longest = "k".repeat(ORDER_KEY_BYTES_MAX);
    assert!(order(&format!(r#"{{"k": "{longest}", "v": 1}}"#)).is_ok());
    assert!(order(&format!(r#"{{"k": "{longest}k", "v": 1}}"#)).is_err());
    let longest = "v".repeat(ORDER_VERSION_BYTES_MAX);
    assert!(order(&format!(r#"{{"k": "a", "v": "{longest}"}}"#)).is_ok());
    assert!(order(&format!(r#"{{"k": "a", "v": "{longest}v"}}"#)).is_err());
    for nothing in [r#"{"k": "", "v": 1}"#, r#"{"k": null, "v": 1}"#, r#"{"k": "a", "v": []}"#, r#"{"k": "a", "v": ""}"#] {
        assert!(matches!(order(nothing), Err(RoutingFailure::Unusable { .. })), "{nothing}");
    }
}

#[test]
fn what_an_event_is_about_is_known_as_the_plan_knows_it() {
    let one = DestinationName::parse("one").unwrap();
    let routes = [
        route("types = [\"push\"]\nfilter = \".n > 10\"\norder = { key = \".big\", version = \"0\" }"),
        route("types = [\"push\"]\norder = { key = \".small\", version = \"0\" }"),
        route("default = true"),
    ]
    .concat();
    for (event_type, body, about) in [
        ("push", r#"{"n": 11, "big": "a", "small": "b"}"#, Some("a")),
        ("push", r#"{"n": 10, "big": "a", "small": "b"}"#, Some("b")),
        ("push", r#"{"n": 11, "small": "b"}"#, None),
        ("push", "no JSON", None),
        ("other", r#"{"n": 11, "big": "a", "small": "b"}"#, None),
    ] {
        let key = load(&routes).unwrap().order_key(&event(event_type), &one, body.as_bytes());
        assert_eq!(key.as_deref(), about, "{event_type} {body}");
        let planned = match plan_of(&routes, event_type, body) {
            Ok(Plan::Send(sending)) => sending.order.map(|(thing, _)| thing),
            _ => None,
        };
        assert_eq!(planned, key, "{event_type} {body}");
    }
    assert!(load(&routes).unwrap().has_order(&event("push"), &one));
    assert!(!load(&routes).unwrap().has_order(&event("other"), &one));
}

#[test]
fn a_number_that_dynamodb_would_round_is_no_version() {
    assert!(is_exact(&"9".repeat(38)) && !is_exact(&"9".repeat(39)));
    assert!(is_exact("1e85") && !is_exact("1e86") && is_exact("1e-90") && !is_exact("1e-91"));
}

#[test]
fn a_schema_version_is_found_in_the_body_or_in_a_header() {
    let contract = |at: &str| {
        let contract = format!("[[contracts]]\nsource = \"s\"\nschema_version = {{ at = \"{at}\", is = [\"2\", \"true\"] }}\n");
        format!("{}{contract}", route(""))
    };
    let keeps = |at: &str, body: &str| plan_of(&contract(at), "push", body).is_ok();
    assert!(keeps("json:/v", r#"{"v": "2"}"#) && keeps("json:/v", r#"{"v": 2}"#) && keeps("json:/v", r#"{"v": true}"#));
    assert!(keeps("json:/a~1b/v", r#"{"a/b": {"v": 2}}"#));
    assert!(!keeps("json:/v", r#"{"v": 3}"#) && !keeps("json:/v", "{}") && !keeps("json:/v", r#"{"v": {}}"#));
    assert!(!keeps("json:/a/v", r#"{"a": 2}"#));
    assert!(keeps("header:x-version", "{}") && !keeps("header:x-other", "{}"));
    let failure = plan_of(&contract("json:/v"), "push", "{}").unwrap_err();
    assert!(failure.is_violation());
    assert_eq!(failure.to_string(), "its schema version, at json:/v, is none that the contract knows");
}

#[test]
fn a_schema_that_cannot_be_read_is_named_with_its_line() {
    let contract = "[[contracts]]\nsource = \"s\"\nschema = \"nowhere.json\"\n";
    let error = load(contract).unwrap_err().to_string();
    assert!(error.starts_with("gateway.toml:9:10: the schema `nowhere.json` cannot be read"), "{error}");
}
