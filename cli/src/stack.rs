//! A deployed stack, as its operator reaches it: by name, with the credentials that other AWS tools use.

use std::time::Duration;

use aws_config::{AppName, SdkConfig};
use aws_sdk_cloudformation::{Client, types::Output};
use shared::{
    aws::{self, CallTimeouts},
    bodies::Bodies,
    doorbell::Bell,
    ledger::Ledger,
    secrets::Keyrings,
};

use crate::Stop;

/// How long a person waits for one call: longer than a function, which is close by and has somebody waiting.
const CALL_TIMEOUTS: CallTimeouts = CallTimeouts { attempt: Duration::from_secs(10), operation: Duration::from_secs(30) };

/// What of a stack the commands use.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) ledger: Ledger,
    pub(crate) bodies: Bodies,
    pub(crate) bell: Bell,
    /// The keyrings that prove webhooks.
    pub(crate) source_keyrings: Keyrings,
    /// The keyrings that deliveries are signed with.
    pub(crate) destination_keyrings: Keyrings,
}

impl Stack {
    /// The stack of that name: CloudFormation chose the names of table, bucket and queue, and tells them.
    pub(crate) async fn find(name: &str) -> Result<Self, Stop> {
        let config = configure().await?;
        let answer = Client::new(&config).describe_stacks().stack_name(name).send().await;
        let stacks = answer.map_err(|error| Stop::Asked(unfound(name, &aws::describe(&error))))?.stacks.unwrap_or_default();
        let outputs = stacks.first().map(|stack| stack.outputs()).unwrap_or_default();
        let output = |key: &str| find_output(outputs, key).ok_or_else(|| Stop::Asked(no_output(name, key)));
        Ok(Self {
            ledger: Ledger::new(&config, output("LedgerTableName")?).remembering(output("ContentTableName")?),
            bodies: Bodies::new(&config, output("BodiesBucketName")?),
            bell: Bell::new(&config, output("DoorbellQueueUrl")?),
            source_keyrings: Keyrings::new(&config, format!("{name}/source/")),
            destination_keyrings: Keyrings::new(&config, format!("{name}/destination/")),
        })
    }
}

/// The SDK's whole chain of profiles, single sign-on, environment and roles, unlike a function's.
async fn configure() -> Result<SdkConfig, Stop> {
    let config = aws_config::defaults(aws::behavior())
        .app_name(AppName::new("posthouse").expect("a valid app name"))
        .http_client(aws::http_client())
        .timeout_config(aws::timeouts(CALL_TIMEOUTS))
        .retry_config(aws::retries())
        .load()
        .await;
    match config.region() {
        Some(_) => Ok(config),
        None => Err(Stop::Asked("in which region? set AWS_REGION, or AWS_PROFILE to a profile that has one".to_owned())),
    }
}

fn find_output(outputs: &[Output], key: &str) -> Option<String> {
    outputs.iter().find(|output| output.output_key() == Some(key))?.output_value().map(str::to_owned)
}

fn unfound(name: &str, reason: &str) -> String {
    format!(
        "the stack `{name}` cannot be looked up; are region and credentials (AWS_REGION, AWS_PROFILE) those of its account? {reason}"
    )
}

fn no_output(name: &str, key: &str) -> String {
    format!("the stack `{name}` has no output {key}: give the name of a stack that was deployed from infra/template.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_found_by_its_key() {
        let output = |key: &str, value: &str| Output::builder().output_key(key).output_value(value).build();
        let outputs = [output("WebhookUrl", "https://a"), output("LedgerTableName", "b")];
        assert_eq!(find_output(&outputs, "LedgerTableName"), Some("b".to_owned()));
        assert_eq!(find_output(&outputs, "BodiesBucketName"), None);
    }
}
