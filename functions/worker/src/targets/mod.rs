//! `lambda`, `eventbridge`, `sqs` and `sns` destinations: each delivery is one call to AWS.
//!
//! The SDK's own retries are off: retries belong to the delivery alone, which counts them and waits between them.

mod envelope;
mod eventbridge;
#[cfg(test)]
pub(crate) mod fake;
mod lambda;
mod message;
mod refusal;
mod sns;
mod sqs;

use std::{sync::OnceLock, time::Duration};

use aws_config::{SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use shared::{
    aws::{self, CallTimeouts},
    config::TARGET_SECONDS_MAX,
};

pub use eventbridge::{DETAIL_TYPE_CHARS_MAX, ENTRY_BYTES_MAX};
pub use lambda::PAYLOAD_BYTES_MAX;
pub use message::MESSAGE_BYTES_MAX;

/// The clients of AWS's services that events go to. Each is made when the first delivery needs it: a cold start pays for none
/// that the configuration has not.
#[derive(Debug)]
pub struct Targets {
    config: SdkConfig,
    lambda: OnceLock<aws_sdk_lambda::Client>,
    eventbridge: OnceLock<aws_sdk_eventbridge::Client>,
    sqs: OnceLock<aws_sdk_sqs::Client>,
    sns: OnceLock<aws_sdk_sns::Client>,
}

impl Targets {
    /// Clients that have Region, credentials and HTTP client in common with the others, but neither retries nor timeouts.
    pub fn new(config: &SdkConfig) -> Self {
        let config = config.to_builder();
        let config = config.retry_config(RetryConfig::disabled()).timeout_config(once(Duration::from_secs(TARGET_SECONDS_MAX)));
        Self {
            config: config.build(),
            lambda: OnceLock::new(),
            eventbridge: OnceLock::new(),
            sqs: OnceLock::new(),
            sns: OnceLock::new(),
        }
    }

    fn lambda(&self) -> &aws_sdk_lambda::Client {
        self.lambda.get_or_init(|| aws_sdk_lambda::Client::new(&self.config))
    }

    fn eventbridge(&self) -> &aws_sdk_eventbridge::Client {
        self.eventbridge.get_or_init(|| aws_sdk_eventbridge::Client::new(&self.config))
    }

    fn sqs(&self) -> &aws_sdk_sqs::Client {
        self.sqs.get_or_init(|| aws_sdk_sqs::Client::new(&self.config))
    }

    fn sns(&self) -> &aws_sdk_sns::Client {
        self.sns.get_or_init(|| aws_sdk_sns::Client::new(&self.config))
    }
}

/// One try within this time.
fn once(timeout: Duration) -> TimeoutConfig {
    aws::timeouts(CallTimeouts { attempt: timeout, operation: timeout })
}

#[cfg(test)]
mod tests {
    use super::{fake::Fake, *};

    #[test]
    fn a_call_is_made_once_within_its_time_and_no_client_is_made_before() {
        let targets = Fake::answering(200, "{}").targets();
        assert_eq!(targets.config.retry_config().map(RetryConfig::max_attempts), Some(1));
        let timeouts = targets.config.timeout_config().unwrap();
        assert_eq!(timeouts.operation_timeout(), Some(Duration::from_secs(TARGET_SECONDS_MAX)));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(Duration::from_secs(TARGET_SECONDS_MAX)));
        let Targets { lambda, eventbridge, sqs, sns, .. } = &targets;
        assert!(lambda.get().is_none() && eventbridge.get().is_none() && sqs.get().is_none() && sns.get().is_none());
        targets.sqs();
        assert!(targets.sqs.get().is_some());
    }
}
