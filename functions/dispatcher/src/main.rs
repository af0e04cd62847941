//! The dispatcher Lambda: composes and runs [`dispatcher::Dispatcher`].

// The SDK's futures nest deeper than the default allows.
#![recursion_limit = "256"]

use dispatcher::Dispatcher;
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
    let dispatcher = &explain(Dispatcher::from_environment().await)?;
    run(service_fn(async |schedule: LambdaEvent<Value>| {
        let deadline = Timestamp::from_millis(schedule.context.deadline);
        let report = dispatcher.run(&schedule.context.request_id, deadline, Timestamp::now).await;
        metrics.flush();
        Ok::<_, Error>(report?)
    }))
    .await
}
