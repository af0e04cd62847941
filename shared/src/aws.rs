//! The AWS clients of a function, made once at cold start.
//!
//! The configuration is built from the environment that Lambda gives, not through the SDK's whole provider chain, which
//! would look for profiles and metadata services that a function does not have. Endpoints are read from the environment
//! like everything else (`AWS_ENDPOINT_URL`), so the same binary runs against AWS and against the local stack.

use std::time::Duration;

use aws_config::{
    AppName, BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// How long a function waits for one AWS call. The SDK sets a connect timeout alone: without these, a call that hangs
/// takes the function's whole time.
#[derive(Clone, Copy, Debug)]
pub struct CallTimeouts {
    /// One try.
    pub attempt: Duration,
    /// All tries together.
    pub operation: Duration,
}

/// Connecting, in milliseconds.
pub const CONNECT_TIMEOUT_MILLIS: u64 = 1000;
/// Longest description of an error, in characters: some of AWS's messages repeat the whole request.
pub const ERROR_CHARS_MAX: usize = 400;
/// Tries of one AWS call, the first included.
pub const CALL_ATTEMPTS_MAX: u32 = 3;

impl CallTimeouts {
    /// For a function that somebody waits for.
    pub const INTERACTIVE: Self = Self { attempt: Duration::from_millis(1500), operation: Duration::from_millis(2500) };
    /// For work that nobody waits for.
    pub const BACKGROUND: Self = Self { attempt: Duration::from_secs(3), operation: Duration::from_secs(6) };
}

/// The configuration of all clients of the function `name`, which shows in the user agent of its calls.
pub async fn configure(name: &'static str, timeouts: CallTimeouts) -> SdkConfig {
    aws_config::defaults(behavior())
        .app_name(AppName::new(name).expect("function names are valid app names"))
        .http_client(http_client())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .region(EnvironmentVariableRegionProvider::new())
        .timeout_config(self::timeouts(timeouts))
        .retry_config(retries())
        .load()
        .await
}

/// What all clients speak HTTP with.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Which of the SDK's defaults all clients have.
pub fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// How long all clients wait.
pub fn timeouts(timeouts: CallTimeouts) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MILLIS))
        .operation_attempt_timeout(timeouts.attempt)
        .operation_timeout(timeouts.operation)
        .build()
}

/// How often all clients try.
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(CALL_ATTEMPTS_MAX)
}

/// What an AWS call failed of: the error and its causes, in words. Not the SDK's own debug form, which shows the whole response.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words.chars().take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("service error")]
    struct Outer {
        #[source]
        cause: std::num::ParseIntError,
    }

    #[test]
    fn an_error_is_described_with_its_causes_and_nothing_else() {
        let error = Outer { cause: "x".parse::<u8>().unwrap_err() };
        assert_eq!(describe(&error), "service error: invalid digit found in string");
    }
}
