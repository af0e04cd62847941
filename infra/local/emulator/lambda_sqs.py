"""AWS Lambda: SQS event source mappings, and what they do with a batch once the function has returned."""

import json
import logging
import time
from typing import Any

import ministack.services.cloudformation.provisioners as provisioners
import ministack.services.lambda_svc as lambda_svc
import ministack.services.sqs as sqs

logger = logging.getLogger("emulator.lambda_sqs")


_mapping_handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
_original_create = _mapping_handlers["create"]
_original_update = _mapping_handlers["update"]


def apply() -> None:
    lambda_svc._run_sqs_batch = run_batch
    _mapping_handlers["create"] = create_mapping
    _mapping_handlers["update"] = update_mapping


def create_mapping(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
    """Numbers that come from a `Ref` to a parameter are text, which CloudFormation converts to the property's type.

    ministack's poller compares MaximumConcurrency as it is and stops polling every queue at the first text.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-lambda-eventsourcemapping.html
    """
    return _original_create(logical_id, with_numbers(properties), stack)


def update_mapping(
    physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str
) -> tuple[str, dict[str, Any]]:
    """As `create_mapping`."""
    return _original_update(physical_id, with_numbers(old), with_numbers(new), stack)


def with_numbers(properties: dict[str, Any]) -> dict[str, Any]:
    converted = dict(properties)
    for name in ("BatchSize", "MaximumBatchingWindowInSeconds"):
        if name in converted:
            converted[name] = int(converted[name])
    scaling = converted.get("ScalingConfig") or {}
    if "MaximumConcurrency" in scaling:
        converted["ScalingConfig"] = {**scaling, "MaximumConcurrency": int(scaling["MaximumConcurrency"])}
    return converted


def run_batch(
    mapping: dict[str, Any],
    function: dict[str, Any],
    event: dict[str, Any],
    batch: list[dict[str, Any]],
    queue_url: str,
    queue_name: str,
) -> None:
    """Invokes the function and deletes exactly the messages that it processed.

    A message that is not deleted keeps its visibility: what the function set by ChangeMessageVisibility while it ran,
    else what is left of the queue's visibility timeout ("After your queue's visibility timeout runs out, the message
    will again reappear in the queue"). https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    # Receipt handles belong to one receive. Once another receive has happened (a visibility timeout shorter than the
    # invocation), deleting by the new handle would delete a message that someone else is working on.
    handles = {message["id"]: message["receipt_handle"] for message in batch}
    result = lambda_svc._execute_function(function, event)
    if result.get("error") or result.get("throttle"):
        mapping["LastProcessingResult"] = "FAILED"
        logger.warning("%s failed a batch from %s: %s", mapping["FunctionName"], queue_name, result.get("body"))
        lambda_svc._esm_backoff_until[mapping["UUID"]] = time.time() + lambda_svc._ESM_BACKOFF_SECONDS
        return
    lambda_svc._esm_backoff_until.pop(mapping["UUID"], None)
    failed: set[str] = set()
    if "ReportBatchItemFailures" in (mapping.get("FunctionResponseTypes") or []):
        failed = failed_messages(result.get("body"), set(handles))
    processed = {handle for message_id, handle in handles.items() if message_id not in failed}
    sqs._delete_messages_for_esm(queue_url, processed)
    mapping["LastProcessingResult"] = "OK"
    logger.info(
        "%s: %d processed, %d failed, from %s", mapping["FunctionName"], len(processed), len(failed), queue_name
    )


def failed_messages(response: Any, batch_ids: set[str]) -> set[str]:
    """Which messages of a batch the function's response reports as failed.

    Complete success: an empty or null `batchItemFailures`, an empty or null response. Complete failure: a response that
    is not JSON, and an `itemIdentifier` that is empty, null or under another key. See "Success and failure conditions"
    in https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html . AWS does not document an
    identifier that is not in the batch; it fails the whole batch here, because that is the answer that loses nothing.
    """
    if response is None or response == "" or response == {}:
        return set()
    if isinstance(response, str):
        try:
            response = json.loads(response)
        except json.JSONDecodeError:
            return batch_ids
    if not isinstance(response, dict):
        return set()
    reported: set[Any] = {
        item.get("itemIdentifier") if isinstance(item, dict) else None
        for item in response.get("batchItemFailures") or []
    }
    return reported if reported <= batch_ids else batch_ids
