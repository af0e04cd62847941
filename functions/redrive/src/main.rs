//! The redrive Lambda: composes and runs [`redrive::Redrive`].

// The SDK's futures nest deeper than the default allows.
#![recursion_limit = "256"]

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use redrive::{Plan, Redrive};
use shared::{observe::explain, time::Timestamp};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let redrive = &explain(Redrive::from_environment().await)?;
    run(service_fn(async |request: LambdaEvent<serde_json::Value>| {
        let deadline = Timestamp::from_millis(request.context.deadline);
        let plan = Plan::read(request.payload)?;
        Ok::<_, Error>(redrive.run(&plan, deadline, Timestamp::now).await?)
    }))
    .await
}
