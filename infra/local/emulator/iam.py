"""AWS IAM: what the conditions of policies see of a request."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import ministack.app as app
import ministack.core.iam_actions as iam_actions
import ministack.services.dynamodb as dynamodb

logger = logging.getLogger("emulator.iam")

_original_pin_origin = app.pin_request_origin
_original_dynamodb_context = iam_actions.dynamodb_service_context
_original_action = iam_actions.extract_iam_action

SQS_BATCH_ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}


def apply() -> None:
    app.pin_request_origin = pin_origin_as_tls
    iam_actions.dynamodb_service_context = dynamodb_context
    iam_actions.extract_iam_action = action


def pin_origin_as_tls(source_ip: str, _secure_transport: bool) -> None:
    """Every request counts as sent over TLS, as the SDKs send theirs to AWS; here they come over plain loopback.

    Without this, a bucket policy that refuses plain HTTP refuses everybody.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-securetransport
    """
    _original_pin_origin(source_ip, True)


def action(*request: Any) -> str | None:
    """The batch operations of SQS are allowed by the action of the single one; there are no actions of their names.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    """
    name = _original_action(*request)
    return SQS_BATCH_ACTIONS.get(name, name) if name else name


def dynamodb_context(body: bytes) -> dict[str, Any]:
    """Adds `dynamodb:LeadingKeys`, the partition keys that a request names, which ministack does not know.

    For the operations that name items by key, and for queries, of a table or of an index.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
    """
    context: dict[str, Any] = _original_dynamodb_context(body)
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        return context  # DynamoDB refuses it before anything is authorised
    keys = sorted(set(leading_keys(request))) if isinstance(request, dict) else []
    if keys:
        context["dynamodb:LeadingKeys"] = keys
    return context


def leading_keys(request: dict[str, Any]) -> Iterator[str]:
    """The partition keys in a request."""
    for table, item in named_items(request):
        definition = table_of(table)
        value = item.get(definition["pk_name"]) if definition and isinstance(item, dict) else None
        if isinstance(value, dict):
            yield from (str(plain) for plain in value.values())
    definition = table_of(request.get("TableName"))
    if definition and ("KeyConditionExpression" in request or "KeyConditions" in request):
        key = queried_key(definition, request)
        if key is not None:
            yield key


def table_of(name: Any) -> dict[str, Any] | None:
    """The table of this name or ARN."""
    return dynamodb._tables.get(str(name).rpartition("/")[2])


def queried_key(table: dict[str, Any], request: dict[str, Any]) -> str | None:
    """The partition key that a query asks for: of an index, the index's. None for a query that DynamoDB refuses."""
    attribute, _, _ = dynamodb._resolve_index_keys(table, request.get("IndexName"))
    try:
        if request.get("KeyConditions"):
            value = dynamodb._extract_pk_from_key_conditions(request["KeyConditions"], attribute)
        else:
            value = dynamodb._extract_pk_from_condition(
                request.get("KeyConditionExpression"),
                request.get("ExpressionAttributeValues") or {},
                request.get("ExpressionAttributeNames") or {},
                attribute,
            )
    except (AttributeError, TypeError):
        return None  # members of the wrong type
    return None if value is None else str(value)


def named_items(request: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Each item or key in a request, with its table."""
    for member in ("Item", "Key"):
        if member in request:
            yield request.get("TableName"), request[member]
    for entry in request.get("TransactItems") or []:
        for action in entry.values():
            yield from named_items(action)
    for table, entry in (request.get("RequestItems") or {}).items():
        if isinstance(entry, dict):  # BatchGetItem
            yield from ((table, key) for key in entry.get("Keys") or [])
        elif isinstance(entry, list):  # BatchWriteItem
            for write in entry:
                for action in write.values():
                    yield from named_items({"TableName": table, **action})
