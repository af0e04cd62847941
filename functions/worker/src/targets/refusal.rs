//! What it means for a delivery that a call to AWS failed.
//!
//! Reasons have the codes of errors alone, never their messages: some of these repeat what was sent.

use std::time::Duration;

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use shared::{aws, config::ERROR_TYPE_CHARS_MAX, time::Timestamp};

use crate::failure::{Failure, retry_after};

/// How AWS's services say "not now".
const THROTTLED: [&str; 9] = [
    "KMS.ThrottlingException",
    "KMSThrottling",
    "KmsThrottled",
    "RequestLimitExceeded",
    "RequestThrottled",
    "Throttled",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];
/// How they say that the worker's role, or the target's own policy, does not allow the call.
const DENIED: [&str; 7] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "KMS.AccessDeniedException",
    "KMSAccessDenied",
    "KmsAccessDenied",
];
/// How they say that the function's own credentials were too old: the next call has new ones.
const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "RequestExpired"];

/// A kind of call, as far as its failures need to know it.
pub(super) struct Call {
    /// Whom it goes to.
    pub(super) service: &'static str,
    /// What the worker's role must allow.
    pub(super) action: &'static str,
    /// The template's parameter that makes it do so.
    pub(super) parameter: &'static str,
    /// Errors of the service's own that may pass, beside those of every service.
    pub(super) passing: &'static [&'static str],
}

impl Call {
    /// What a failed call means.
    pub(super) fn failure<E>(&self, error: &SdkError<E, HttpResponse>, now: Timestamp) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                let asked = answer.raw().headers().get("retry-after").and_then(|asked| retry_after(asked, now));
                self.refusal(answer.err().code().unwrap_or_default(), answer.raw().status().as_u16(), asked)
            }
            SdkError::TimeoutError(_) => Failure::Transient(format!("{} did not answer in time", self.service)),
            // Nothing was sent, and nothing ever will be.
            SdkError::ConstructionFailure(_) => {
                Failure::Permanent(format!("the call of {} cannot be made: {}", self.service, aws::describe(error)))
            }
            other => Failure::Transient(format!("no answer of {}: {}", self.service, aws::describe(other))),
        }
    }

    /// What an error means that the service answered with. 0 is a status for one that came without.
    pub(super) fn refusal(&self, code: &str, status: u16, asked: Option<Duration>) -> Failure {
        let said = word(code);
        if THROTTLED.contains(&code) || status == 429 {
            let reason = format!("{} asks for fewer requests ({said})", self.service);
            return Failure::Throttled { retry_after: asked, reason };
        }
        let answered = format!("{} answered {said}", self.service);
        if status >= 500 || status == 408 || EXPIRED.contains(&code) || self.passing.contains(&code) {
            return Failure::Transient(answered);
        }
        if DENIED.contains(&code) || matches!(status, 401 | 403) {
            return Failure::Auth(format!(
                "{} does not allow the worker {} ({said}): add the ARN to the stack's parameter {}, or look at the target's own policy",
                self.service, self.action, self.parameter
            ));
        }
        Failure::Permanent(answered)
    }
}

/// A word from outside, bounded and printable.
pub(super) fn word(text: &str) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(ERROR_TYPE_CHARS_MAX).collect();
    if word.is_empty() { "an error without a name".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{eventbridge, fake::class, lambda, sns, sqs},
        *,
    };

    const CALL: Call = Call { service: "SQS", action: "sqs:SendMessage", parameter: "SqsTargets", passing: &["Passing"] };

    #[test]
    fn every_refusal_has_its_class() {
        for (code, status, expected) in [
            ("ThrottlingException", 400, "throttled"),
            ("RequestThrottled", 403, "throttled"),
            ("TooManyRequestsException", 429, "throttled"),
            ("Unheard", 429, "throttled"),
            ("ServiceUnavailable", 503, "transient"),
            ("Unheard", 500, "transient"),
            ("KMSAccessDeniedException", 502, "transient"),
            ("RequestTimeout", 408, "transient"),
            ("ExpiredTokenException", 403, "transient"),
            ("Passing", 403, "transient"),
            ("AccessDeniedException", 400, "auth"),
            ("AuthorizationError", 403, "auth"),
            ("KMS.AccessDeniedException", 400, "auth"),
            ("UnrecognizedClientException", 403, "auth"),
            ("Unheard", 401, "auth"),
            ("QueueDoesNotExist", 400, "permanent"),
            ("Unheard", 499, "permanent"),
            ("", 404, "permanent"),
        ] {
            assert_eq!(class(&Err(CALL.refusal(code, status, None))), expected, "{code} {status}");
        }
    }

    #[test]
    fn what_is_not_allowed_says_what_to_allow_and_where() {
        let Failure::Auth(reason) = CALL.refusal("AccessDenied", 403, None) else { panic!() };
        assert_eq!(
            reason,
            "SQS does not allow the worker sqs:SendMessage (AccessDenied): add the ARN to the stack's parameter SqsTargets, or \
             look at the target's own policy"
        );
    }

    #[test]
    fn the_parameters_that_reasons_name_are_the_templates() {
        let template = include_str!("../../../../infra/template.yaml");
        for call in [lambda::INVOKE, eventbridge::PUT_EVENTS, sqs::SEND_MESSAGE, sns::PUBLISH] {
            assert!(template.contains(&format!("\n  {}:\n", call.parameter)), "{}", call.parameter);
            assert!(template.contains(&format!("Action: {}\n", call.action)), "{}", call.action);
        }
    }

    #[test]
    fn words_are_bounded_and_printable() {
        assert_eq!(word("Validation\n Error\u{1b}é"), "ValidationError");
        assert_eq!(word(""), "an error without a name");
        assert_eq!(word(&"a".repeat(ERROR_TYPE_CHARS_MAX)).len(), ERROR_TYPE_CHARS_MAX);
        assert_eq!(word(&"a".repeat(ERROR_TYPE_CHARS_MAX + 1)).len(), ERROR_TYPE_CHARS_MAX);
    }
}
