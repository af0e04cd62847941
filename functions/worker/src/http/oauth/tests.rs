use reqwest::StatusCode;

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

#[test]
fn a_token_is_used_until_shortly_before_it_expires() {
    let used = |seconds| used_for(Some(Duration::from_secs(seconds))).as_secs();
    assert_eq!(used(3600), 3600 - TOKEN_MARGIN_SECONDS);
    assert_eq!(used(2 * TOKEN_MARGIN_SECONDS + 1), TOKEN_MARGIN_SECONDS + 1);
    assert_eq!(used(2 * TOKEN_MARGIN_SECONDS), TOKEN_MARGIN_SECONDS);
    assert_eq!(used(2), 1);
    assert_eq!(used(0), 0);
    assert_eq!(used_for(None).as_secs(), TOKEN_SECONDS_DEFAULT);
    let token = Token { access: Secret::new("a"), until: NOW };
    assert!(token.is_good(None, Timestamp::from_millis(NOW.millis() - 1)));
    assert!(!token.is_good(None, NOW));
    assert!(!token.is_good(Some(&Secret::new("a")), Timestamp::from_seconds(1)), "it was refused");
}

#[test]
fn every_answer_of_a_token_endpoint_has_its_class() {
    let class = |status: u16, retry_after: Option<&str>, body: &str| {
        let mut answer = Answer::of(StatusCode::from_u16(status).unwrap());
        answer.headers.extend(retry_after.map(|text| (reqwest::header::RETRY_AFTER, text.parse().unwrap())));
        answer.body = body.as_bytes().to_vec();
        refusal(&answer, NOW)
    };
    let refused = r#"{"error":"invalid_client"}"#;
    assert_eq!(class(200, None, "whatever it is"), None);
    for status in [400, 401, 403] {
        assert_eq!(class(status, None, refused), None, "an error of the protocol");
        assert!(matches!(class(status, None, "<html>"), Some(Failure::Auth(_))), "{status}");
    }
    for status in [404, 302] {
        assert!(matches!(class(status, None, ""), Some(Failure::Auth(_))), "{status}");
    }
    for status in [204, 408, 425, 500, 502, 503] {
        assert!(matches!(class(status, None, refused), Some(Failure::Transient(_))), "{status}");
    }
    let asked = |failure| match failure {
        Some(Failure::Throttled { retry_after, .. }) => retry_after.map(|wait| wait.as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(class(429, Some("7"), refused)), Some(7));
    assert_eq!(asked(class(429, None, refused)), None);
    assert_eq!(asked(class(503, Some("7"), "")), Some(7));
}

#[test]
fn an_error_of_the_protocol_tells_its_code_and_nothing_else() {
    let told = |json: &str| failure(RequestTokenError::ServerResponse(serde_json::from_str(json).unwrap()));
    let refused = |code: &str| Failure::Auth(format!("the token endpoint answered {code}"));
    assert_eq!(told(r#"{"error":"invalid_grant","error_description":"hush"}"#), refused("invalid_grant"));
    assert_eq!(told(r#"{"error":"invalid_client"}"#), refused("invalid_client"));
    let longest = "a".repeat(ERROR_CODE_BYTES_MAX);
    assert_eq!(told(&format!(r#"{{"error":"{longest}"}}"#)), refused(&longest));
    assert_eq!(told(&format!(r#"{{"error":"{longest}a"}}"#)), refused("an error"));
    assert_eq!(told(r#"{"error":"hush hush"}"#), refused("an error"));
    assert!(matches!(told(r#"{"error":"temporarily_unavailable"}"#), Failure::Transient(_)));
    let no_token = failure(RequestTokenError::Other("hush".to_owned()));
    assert!(matches!(&no_token, Failure::Transient(reason) if !reason.contains("hush")), "{no_token:?}");
}

#[test]
fn neither_tokens_nor_secrets_are_shown() {
    let grant = RefreshGrant::parse(r#"{"clientSecret":"hush","refreshToken":"hush","accessToken":"hush"}"#).unwrap();
    let state = State {
        token: Some(Token { access: Secret::new("hush"), until: NOW }),
        failure: None,
        unwritten: Some((Secret::new("hush"), grant)),
    };
    assert!(!format!("{state:?}").contains("hush"));
}
