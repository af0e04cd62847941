//! The receiver Lambda: composes and runs [`receiver::Receiver`].

// The SDK's futures nest deeper than the default allows.
#![recursion_limit = "256"]

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use receiver::Receiver;
use serde_json::value::RawValue;
use shared::{
    observe::{Metrics, explain},
    time::Timestamp,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let metrics = explain(Metrics::init())?;
    let receiver = &explain(Receiver::from_environment().await)?;
    run(service_fn(async |invocation: LambdaEvent<Box<RawValue>>| {
        let request_id = &invocation.context.request_id;
        let response = receiver.receive(&invocation.payload, request_id, Timestamp::now()).await;
        metrics.flush();
        Ok::<_, Error>(response)
    }))
    .await
}
