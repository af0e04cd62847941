//! The rotation Lambda: composes and runs [`rotation::Rotation`].

// The SDK's futures nest deeper than the default allows.
#![recursion_limit = "256"]

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use rotation::{Request, Rotation, SECRET_BYTES};
use shared::{observe::explain, time::Timestamp};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let rotation = &explain(Rotation::from_environment().await)?;
    run(service_fn(async |request: LambdaEvent<Request>| {
        let mut random = [0; SECRET_BYTES];
        getrandom::fill(&mut random)?;
        Ok::<_, Error>(rotation.run(&request.payload, Timestamp::now(), random).await?)
    }))
    .await
}
