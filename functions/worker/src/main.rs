//! The worker Lambda: composes and runs [`worker::Worker`].

// The SDK's futures nest deeper than the default allows.
#![recursion_limit = "256"]

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use shared::{
    observe::{Metrics, explain},
    time::Timestamp,
};
use worker::{Invocation, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let metrics = explain(Metrics::init())?;
    let worker = &explain(Worker::from_environment().await)?;
    run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let request_id = &event.context.request_id;
        let deadline = Timestamp::from_millis(event.context.deadline);
        let response = worker.work(event.payload, Invocation { request_id, deadline, now: Timestamp::now }).await;
        metrics.flush();
        response
    }))
    .await
}
