//! What a killed worker had in hand comes back when its lease and the queue's visibility timeout have ended: six minutes, as the
//! template has it; what a killed redrive had in hand, after its own fifteen. For a run these are made as short as the worker
//! allows, on the deployed stack alone.

use ::tests::stack::Stack;
use aws_sdk_sqs::types::QueueAttributeName;

/// What the worker asks for at least before it begins a delivery, in seconds: the destinations' timeout of 10 s and 28 s for its
/// own calls, and some room for a machine that is busy.
const WORKER_SECONDS: u16 = 42;

/// What is set on a stack, in seconds.
struct Waits {
    worker_timeout: u16,
    redrive_timeout: u16,
    visibility: u16,
}

/// AWS takes no visibility timeout that is shorter than the function's own.
const SHORT: Waits = Waits { worker_timeout: WORKER_SECONDS, redrive_timeout: WORKER_SECONDS, visibility: WORKER_SECONDS };
/// As the template has them.
const USUAL: Waits = Waits { worker_timeout: 60, redrive_timeout: 900, visibility: 360 };

/// For a run.
pub(crate) async fn shorten(stack: &Stack) {
    set(stack, &SHORT).await;
}

/// Back to what the template has.
pub(crate) async fn restore(stack: &Stack) {
    set(stack, &USUAL).await;
}

async fn set(stack: &Stack, waits: &Waits) {
    for (function, seconds) in [("WorkerFunctionName", waits.worker_timeout), ("RedriveFunctionName", waits.redrive_timeout)] {
        let update = stack.lambda.update_function_configuration().function_name(stack.output(function));
        update.timeout(seconds.into()).send().await.expect("the function's timeout can be set");
    }
    let queue = stack.sqs.set_queue_attributes().queue_url(stack.output("DoorbellQueueUrl"));
    let queue = queue.attributes(QueueAttributeName::VisibilityTimeout, waits.visibility.to_string());
    queue.send().await.expect("the queue's visibility timeout can be set");
}
