//! The `lambda` destination: the event as JSON, to a function that is waited for.

use aws_sdk_lambda::{config::Builder, operation::invoke::InvokeOutput, primitives::Blob, types::InvocationType};
use serde::Deserialize;
use shared::{config::LambdaDestination, time::Timestamp};

use super::{
    Targets,
    envelope::envelope,
    once,
    refusal::{Call, word},
};
use crate::{failure::Failure, parcel::Parcel};

/// Largest payload, in bytes: Lambda's quota for an invocation that is waited for (6 MB).
pub const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;

pub(super) const INVOKE: Call = Call {
    service: "Lambda",
    action: "lambda:InvokeFunction",
    parameter: "LambdaTargets",
    // The function is being deployed, or cannot start just now: that is about no event.
    passing: &[
        "CodeArtifactUserFailedException",
        "CodeArtifactUserPendingException",
        "EFSIOException",
        "EFSMountConnectivityException",
        "EFSMountFailureException",
        "EFSMountTimeoutException",
        "ResourceConflictException",
        "S3FilesMountConnectivityException",
        "S3FilesMountFailureException",
        "S3FilesMountTimeoutException",
        "SnapStartException",
        "SnapStartNotReadyException",
        "SnapStartRegenerationFailureException",
        "SnapStartTimeoutException",
    ],
};

impl Targets {
    /// Invokes the function once.
    pub(crate) async fn invoke(
        &self,
        destination: &LambdaDestination,
        parcel: &Parcel<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let payload = envelope(parcel);
        if payload.len() > PAYLOAD_BYTES_MAX {
            let bytes = payload.len();
            let reason = format!("the payload of {bytes} bytes is above the {PAYLOAD_BYTES_MAX} that a function takes");
            return Err(Failure::Permanent(reason));
        }
        let invoke = self.lambda().invoke().function_name(&destination.function).payload(Blob::new(payload));
        let invoke = invoke.invocation_type(InvocationType::RequestResponse).customize();
        let invoke = invoke.config_override(Builder::new().timeout_config(once(destination.timeout)));
        match invoke.send().await {
            Ok(answer) => judge(&answer, &destination.permanent_errors),
            Err(error) => Err(INVOKE.failure(&error, now)),
        }
    }
}

/// What a function's answer means. What it returns is not looked at.
fn judge(answer: &InvokeOutput, permanent_errors: &[String]) -> Result<(), Failure> {
    if answer.function_error().is_none() {
        return Ok(());
    }
    let error_type = error_type(answer.payload().map_or(&[][..], AsRef::as_ref));
    let reason = format!("the function failed: {}", word(&error_type));
    if permanent_errors.contains(&error_type) {
        return Err(Failure::Permanent(format!("{reason}, which `permanent_errors` names")));
    }
    Err(Failure::Transient(reason))
}

/// The kind of a function's error. Its message stays unread: it may quote the event.
fn error_type(payload: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FunctionError {
        error_type: String,
    }
    serde_json::from_slice(payload).map(|FunctionError { error_type }| error_type).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use shared::config::{DestinationKind, Gateway};

    use super::{
        super::fake::{Asked, Fake, NOW, class, destination, event, parcel},
        *,
    };

    async fn invoke(fake: &Fake, body: impl Into<Vec<u8>>) -> Result<(), Failure> {
        let config =
            "[destinations.orders]\ntype = \"lambda\"\nfunction = \"orders:live\"\npermanent_errors = [\"ValidationError\"]";
        let kind = Gateway::parse(config, "gateway.toml").unwrap().destinations.into_values().next().unwrap().kind;
        let DestinationKind::Lambda(lambda) = kind else { panic!() };
        fake.targets().invoke(&lambda, &parcel(&event(), &destination(), body), NOW).await
    }

    #[tokio::test]
    async fn a_function_is_waited_for_with_the_whole_event() {
        let fake = Fake::answering(200, "null");
        assert_eq!(invoke(&fake, "{}").await, Ok(()));
        let asked = fake.asked_once();
        assert_eq!(asked.uri, "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/orders%3Alive/invocations");
        assert_eq!(asked.header("x-amz-invocation-type"), Some("RequestResponse"));
        assert_eq!(asked.json()["body"], serde_json::json!({}));
        assert_eq!(asked.json()["idempotencyKey"], "shop#%C3%A9%207#orders");
    }

    #[tokio::test]
    async fn a_function_that_fails_says_what_it_means_by_the_type_of_its_error() {
        for (payload, expected, said) in [
            (r#"{"errorType":"ValidationError","errorMessage":"hush"}"#, "permanent", "ValidationError"),
            (r#"{"errorType":"Sandbox.Timedout","errorMessage":"hush"}"#, "transient", "Sandbox.Timedout"),
            (r#"{"errorType":"Runtime.ExitError","errorMessage":"hush"}"#, "transient", "Runtime.ExitError"),
            (r#"{"errorType":"Validation Error","errorMessage":"hush"}"#, "transient", "ValidationError"),
            (r#"{"errorMessage":"hush"}"#, "transient", "an error without a name"),
            ("hush", "transient", "an error without a name"),
            ("", "transient", "an error without a name"),
        ] {
            let fake = Fake::answering(200, payload).header("x-amz-function-error", "Unhandled");
            let result = invoke(&fake, "{}").await;
            assert_eq!(class(&result), expected, "{payload}");
            let (Err(Failure::Transient(reason)) | Err(Failure::Permanent(reason))) = result else { panic!() };
            assert!(reason.starts_with(&format!("the function failed: {said}")) && !reason.contains("hush"), "{reason}");
            assert_eq!(fake.asked().len(), 1);
        }
    }

    #[tokio::test]
    async fn what_lambda_itself_answers_has_its_class_and_is_not_tried_again() {
        for (status, code, expected) in [
            (429, "TooManyRequestsException", "throttled"),
            (404, "ResourceNotFoundException", "permanent"),
            (400, "InvalidRequestContentException", "permanent"),
            (413, "RequestTooLargeException", "permanent"),
            (403, "AccessDeniedException", "auth"),
            (409, "ResourceConflictException", "transient"),
            (403, "EFSMountFailureException", "transient"),
            (502, "KMSAccessDeniedException", "transient"),
            (500, "ServiceException", "transient"),
            (503, "ServiceUnavailableException", "transient"),
        ] {
            let fake = Fake::answering(status, r#"{"Message":"hush"}"#).header("x-amzn-errortype", code);
            let result = invoke(&fake, "{}").await;
            assert_eq!(class(&result), expected, "{code}");
            assert!(!format!("{result:?}").contains("hush"), "{result:?}");
            assert_eq!(fake.asked().len(), 1, "{code}");
        }
    }

    #[tokio::test]
    async fn a_throttle_waits_as_long_as_lambda_asks() {
        let fake = Fake::answering(429, "{}").header("x-amzn-errortype", "TooManyRequestsException").header("retry-after", "7");
        let Err(Failure::Throttled { retry_after, reason }) = invoke(&fake, "{}").await else { panic!() };
        assert_eq!(retry_after.map(|wait| wait.as_secs()), Some(7));
        assert_eq!(reason, "Lambda asks for fewer requests (TooManyRequestsException)");
    }

    #[tokio::test]
    async fn the_payload_holds_on_both_sides_of_its_bound() {
        let bytes_of = |asked: &Asked| asked.body.len();
        let fake = Fake::answering(200, "null");
        invoke(&fake, "0").await.unwrap();
        let around = bytes_of(&fake.asked_once()) - 1;

        let fake = Fake::answering(200, "null");
        invoke(&fake, "1".repeat(PAYLOAD_BYTES_MAX - around)).await.unwrap();
        assert_eq!(bytes_of(&fake.asked_once()), PAYLOAD_BYTES_MAX);

        let fake = Fake::answering(200, "null");
        let result = invoke(&fake, "1".repeat(PAYLOAD_BYTES_MAX - around + 1)).await;
        let reason = "the payload of 6291457 bytes is above the 6291456 that a function takes";
        assert_eq!(result, Err(Failure::Permanent(reason.to_owned())));
        assert!(fake.asked().is_empty());
    }
}
