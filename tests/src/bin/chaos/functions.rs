//! Starting a function by hand, as an operator does.

use ::tests::stack::Stack;
use serde_json::Value;

/// What the function answers, if it does not fail: whatever it could not do, it does when it is started the next time.
pub(crate) async fn start(stack: &Stack, name_output: &str, request: &Value) -> Option<Value> {
    let payload = aws_smithy_types::Blob::new(request.to_string());
    let answer = stack.lambda.invoke().function_name(stack.output(name_output)).payload(payload).send().await.ok()?;
    if answer.function_error.is_some() {
        return None;
    }
    serde_json::from_slice(answer.payload?.as_ref()).ok()
}
