//! The auditor Lambda: composes and runs [`auditor::Auditor`].

// The SDK's futures nest deeper than the default allows.
#![recursion_limit = "256"]

use auditor::Auditor;
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use serde_json::Value;
use shared::{
    observe::{Metrics, explain},
    time::Timestamp,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let metrics = explain(Metrics::init())?;
    let auditor = &explain(Auditor::from_environment().await)?;
    run(service_fn(async |schedule: LambdaEvent<Value>| {
        let account = auditor.audit(Timestamp::from_millis(schedule.context.deadline), Timestamp::now).await;
        metrics.flush();
        Ok::<_, Error>(account?)
    }))
    .await
}
