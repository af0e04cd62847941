//! What Lambda does with the functions, over the model of AWS and on a virtual clock: it hands batches of messages to workers, and starts
//! the dispatcher every minute.

use std::time::Duration;

use shared::config::Gateway;
use tokio::time::{sleep, timeout};
use worker::{Exchange, Invocation, Worker};

use crate::{
    model::{Aws, DOORBELL_QUEUE, Message, batch_of},
    simulation::clock,
};

/// Lambda's bound on the worker, as the template sets it.
pub const WORKER_TIMEOUT: Duration = Duration::from_secs(60);
/// The same of the dispatcher.
pub const DISPATCHER_TIMEOUT: Duration = Duration::from_secs(55);
/// How often the schedule starts the dispatcher.
const EVERY_MINUTE: Duration = Duration::from_secs(60);

/// One invocation of a worker: what it does not name as failed is deleted.
///
/// # Panics
/// When it does not answer.
pub async fn invoke<E: Exchange>(aws: &Aws, worker: &Worker<E>, request_id: &str, messages: &[Message]) {
    let invocation = Invocation { request_id, deadline: clock::now().plus(WORKER_TIMEOUT), now: clock::now };
    let answer = worker.work(batch_of(messages), invocation).await.expect("a batch is answered");
    let kept: Vec<_> = answer.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect();
    for message in messages.iter().filter(|message| !kept.contains(&message.id.as_str())) {
        aws.delete(DOORBELL_QUEUE, message.receipt_handle.as_deref().unwrap_or_default());
    }
}

/// Starts the dispatcher for so many workers at every full minute from now on, for so long.
///
/// # Panics
/// When it fails.
pub async fn dispatch_for(aws: &Aws, gateway: &Gateway, workers: u32, time: Duration) {
    let until = clock::now().plus(time);
    let schedule = async {
        loop {
            let age = clock::now().since(clock::BEGINNING).as_millis() as u64;
            sleep(Duration::from_millis(60_000 - age % 60_000)).await;
            dispatch(aws, gateway, workers).await;
        }
    };
    // What is still under way is stopped.
    let _: Result<(), _> = timeout(until.since(clock::now()), schedule).await;
}

/// One invocation of the dispatcher.
///
/// # Panics
/// When it fails.
pub async fn dispatch(aws: &Aws, gateway: &Gateway, workers: u32) -> dispatcher::Report {
    let name = format!("dispatcher-{}", clock::now().millis());
    let dispatcher = aws.dispatcher(&name, gateway.clone(), workers);
    let deadline = clock::now().plus(DISPATCHER_TIMEOUT.min(EVERY_MINUTE));
    dispatcher.run(&name, deadline, clock::now).await.expect("it runs")
}
