"""Amazon SQS: StartMessageMoveTask, ListMessageMoveTasks and CancelMessageMoveTask."""

import contextvars
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import ministack.core.iam_actions as iam_actions
import ministack.services.sqs as sqs

logger = logging.getLogger("emulator.sqs")

MOVES_PER_SECOND_MAX = 500

_tasks: dict[str, list[dict[str, Any]]] = {}
_tasks_lock = threading.Lock()
_original_extract_resource_arn = iam_actions.extract_resource_arn


def apply() -> None:
    sqs._HANDLERS["StartMessageMoveTask"] = start
    sqs._HANDLERS["ListMessageMoveTasks"] = list_tasks
    sqs._HANDLERS["CancelMessageMoveTask"] = cancel
    iam_actions.extract_resource_arn = resource_arn_of_request


def start(request: dict[str, Any], _queue_url: str) -> dict[str, Any]:
    """Starts to move the messages of a dead-letter queue to their source queues, or to the queue that is named.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
    """
    source_arn = request.get("SourceArn", "")
    source = sqs._queue_by_arn(source_arn)
    if source is None:
        raise sqs._Err(
            "ResourceNotFoundException",
            "The resource that you specified for the SourceArn parameter doesn't exist.",
            404,
        )
    if not queues_with_dead_letters_in(source_arn):
        raise unsupported("Source queue must be configured as a Dead Letter Queue.")
    task = {
        "TaskHandle": uuid.uuid4().hex,
        "Status": "RUNNING",
        "SourceArn": source_arn,
        "ApproximateNumberOfMessagesMoved": 0,
        "ApproximateNumberOfMessagesToMove": len(source["messages"]),
        "StartedTimestamp": int(time.time() * 1000),
    }
    task.update({key: request[key] for key in ("DestinationArn", "MaxNumberOfMessagesPerSecond") if request.get(key)})
    with _tasks_lock:
        if any(other["Status"] in ("RUNNING", "CANCELLING") for other in _tasks.get(source_arn, [])):
            raise unsupported(
                "There is already a task running. "
                "Only one active task is allowed for a source queue arn at a given time."
            )
        _tasks.setdefault(source_arn, []).insert(0, task)
    # The account and region of the request are context variables; the thread that moves must see the same.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(move_all, task, source), daemon=True).start()
    return {"TaskHandle": task["TaskHandle"]}


def list_tasks(request: dict[str, Any], _queue_url: str) -> dict[str, Any]:
    """The latest tasks of a queue, newest first; only a running task shows its handle.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ListMessageMoveTasks.html
    """
    with _tasks_lock:
        latest = _tasks.get(request.get("SourceArn", ""), [])[: int(request.get("MaxResults") or 1)]
        return {
            "Results": [
                {key: value for key, value in task.items() if key != "TaskHandle" or task["Status"] == "RUNNING"}
                for task in latest
            ]
        }


def cancel(request: dict[str, Any], _queue_url: str) -> dict[str, Any]:
    """Stops a running task; what it moved already stays moved.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CancelMessageMoveTask.html
    """
    with _tasks_lock:
        for tasks in _tasks.values():
            for task in tasks:
                if task["TaskHandle"] == request.get("TaskHandle") and task["Status"] == "RUNNING":
                    task["Status"] = "CANCELLING"
                    return {"ApproximateNumberOfMessagesMoved": task["ApproximateNumberOfMessagesMoved"]}
    raise sqs._Err("ResourceNotFoundException", "Task does not exist", 404)


def resource_arn_of_request(service: str, method: str, path: str, *rest: Any, **named: Any) -> str:
    """A move task is authorised on its source queue, which its request names by `SourceArn` and not by `QueueUrl`.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
    """
    arn = _original_extract_resource_arn(service, method, path, *rest, **named)
    if service != "sqs" or arn != "*":
        return arn
    body = next(
        (value for value in (*rest, *named.values()) if isinstance(value, bytes) and b'"SourceArn"' in value), None
    )
    try:
        return json.loads(body)["SourceArn"] if body else arn
    except (ValueError, KeyError):
        return arn  # not a JSON request: ministack's own answer stands


def move_all(task: dict[str, Any], source: dict[str, Any]) -> None:
    """Moves what is visible, one message at a time, until done or cancelled."""
    pause_seconds = 1 / int(task.get("MaxNumberOfMessagesPerSecond") or MOVES_PER_SECOND_MAX)
    for message in list(source["messages"]):
        if task["Status"] == "CANCELLING":
            task["Status"] = "CANCELLED"
            return
        with sqs._queues_lock:
            if message["visible_at"] > time.time() or not any(held is message for held in source["messages"]):
                continue
            destination = destination_of(task, message)
            if destination is None:
                task.update({"Status": "FAILED", "FailureReason": "CouldNotDetermineMessageSource"})
                return
            source["messages"] = [held for held in source["messages"] if held is not message]
            destination["messages"].append(as_new(message))
            task["ApproximateNumberOfMessagesMoved"] += 1
        sqs.esm_wake.set()
        time.sleep(pause_seconds)
    task["Status"] = "COMPLETED"


def destination_of(task: dict[str, Any], message: dict[str, Any]) -> dict[str, Any] | None:
    """The named destination, else the queue from which the message came to the dead-letter queue."""
    if task.get("DestinationArn"):
        return sqs._queue_by_arn(task["DestinationArn"])
    origin = message.get("sys", {}).get("DeadLetterQueueSourceArn")
    return queues_with_dead_letters_in(task["SourceArn"]).get(origin)


def queues_with_dead_letters_in(dead_letter_arn: str) -> dict[str, dict[str, Any]]:
    """The queues, by ARN, whose redrive policy names this queue."""

    def names_it(queue: dict[str, Any]) -> bool:
        policy = json.loads(queue["attributes"].get("RedrivePolicy") or "{}")
        return policy.get("deadLetterTargetArn") == dead_letter_arn

    return {queue["attributes"]["QueueArn"]: queue for _, queue in list(sqs._queues.items()) if names_it(queue)}


def as_new(message: dict[str, Any]) -> dict[str, Any]:
    """Redriven messages are new messages: a new message id and a new enqueue time, with the same body and attributes.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
    """
    now = time.time()
    system = {key: value for key, value in message.get("sys", {}).items() if key != "DeadLetterQueueSourceArn"}
    if "SentTimestamp" in system:
        system["SentTimestamp"] = str(int(now * 1000))
    renewed = {
        **message,
        "id": str(uuid.uuid4()),
        "receive_count": 0,
        "first_receive_at": None,
        "receipt_handle": None,
        "sent_at": now,
        "visible_at": now,
        "sys": system,
    }
    renewed.pop("enqueued_at", None)
    return renewed


def unsupported(message: str) -> Exception:
    error: Callable[..., Exception] = sqs._Err
    return error("AWS.SimpleQueueService.UnsupportedOperation", message, 400)
