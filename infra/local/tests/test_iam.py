"""iam: conditions on TLS and on partition keys, seen with the credentials of a function's role."""

from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from conftest import Mini
from ministack.core import iam_evaluator

import emulator.iam as iam

TABLE = {
    "pk_name": "pk",
    "sk_name": "sk",
    "GlobalSecondaryIndexes": [
        {"IndexName": "by_other", "KeySchema": [{"AttributeName": "other", "KeyType": "HASH"}]},
    ],
}


def query(expression: str, **named: Any) -> dict[str, Any]:
    values = {":a": {"S": "a"}, ":b": {"S": "b"}}
    return {"TableName": "t", "KeyConditionExpression": expression, "ExpressionAttributeValues": values, **named}


def legacy_query(attribute: str, **named: Any) -> dict[str, Any]:
    condition = {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]}
    return {"TableName": "t", "KeyConditions": {attribute: condition}, **named}


def as_web_function(mini: Mini, service: str) -> Any:
    _, variables = mini.request("environment")
    return botocore.session.get_session().create_client(
        service,
        region_name=variables["AWS_REGION"],
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=variables["AWS_SESSION_TOKEN"],
    )


def test_a_bucket_that_refuses_plain_http_takes_what_the_role_allows(mini: Mini) -> None:
    s3 = as_web_function(mini, "s3")
    s3.put_object(Bucket=mini.outputs["BucketName"], Key="a", Body=b"a")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.get_object(Bucket=mini.outputs["BucketName"], Key="a")


def test_a_role_may_be_held_to_its_partition_keys(mini: Mini) -> None:
    dynamodb = as_web_function(mini, "dynamodb")
    dynamodb.put_item(TableName=mini.outputs["TableName"], Item={"pk": {"S": "mine"}})
    with pytest.raises(ClientError, match="AccessDenied"):
        dynamodb.put_item(TableName=mini.outputs["TableName"], Item={"pk": {"S": "yours"}})


def test_a_query_may_be_denied_by_its_partition_key(mini: Mini) -> None:
    dynamodb, table = as_web_function(mini, "dynamodb"), mini.outputs["TableName"]

    def ask(attribute: str, value: str, **named: Any) -> None:
        dynamodb.query(
            TableName=table,
            KeyConditionExpression="#key = :key",
            ExpressionAttributeNames={"#key": attribute},
            ExpressionAttributeValues={":key": {"S": value}},
            **named,
        )

    # A Deny is stronger than the Allow beside it, and its patterns are met whole.
    for allowed in ("mine", "hiddenagain", "a-hidden", "hidden"[:-1]):
        ask("pk", allowed)
        ask("other", allowed, IndexName="by_other")
        dynamodb.get_item(TableName=table, Key={"pk": {"S": allowed}})
    for denied in ("hidden", "hidden#1"):
        with pytest.raises(ClientError, match="AccessDenied"):
            ask("pk", denied)
        with pytest.raises(ClientError, match="AccessDenied"):
            ask("other", denied, IndexName="by_other")
        with pytest.raises(ClientError, match="AccessDenied"):
            dynamodb.get_item(TableName=table, Key={"pk": {"S": denied}})


def test_a_request_that_names_no_partition_key_may_be_denied(mini: Mini) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        as_web_function(mini, "dynamodb").scan(TableName=mini.outputs["TableName"])


@pytest.mark.parametrize(
    ("operator", "value", "expected", "is_met"),
    [
        ("ForAllValues:StringEquals", None, ["mine"], True),
        ("ForAnyValue:StringLike", None, ["*"], False),
        ("Null", None, ["true"], True),
        ("Null", None, ["false"], False),
        ("Null", ["mine"], ["true"], False),
        ("Null", ["mine"], ["false"], True),
        ("ForAnyValue:StringLike", ["mine", "hidden#1"], ["hidden#*"], True),
        ("ForAnyValue:StringLike", ["mine", "hiddenagain"], ["hidden", "hidden#*"], False),
    ],
)
def test_conditions_on_keys_that_may_be_absent(
    operator: str, value: list[str] | None, expected: list[str], is_met: bool
) -> None:
    assert iam_evaluator._evaluate_single_condition(operator, value, expected) is is_met


@pytest.mark.parametrize(
    ("request_body", "keys"),
    [
        ({"TableName": "t", "Item": {"pk": {"S": "a"}, "sk": {"S": "b"}}}, ["a"]),
        ({"TableName": "arn:aws:dynamodb:us-east-1:000000000000:table/t", "Key": {"pk": {"N": "1"}}}, ["1"]),
        ({"RequestItems": {"t": {"Keys": [{"pk": {"S": "a"}}, {"pk": {"S": "b"}}]}}}, ["a", "b"]),
        ({"RequestItems": {"t": [{"PutRequest": {"Item": {"pk": {"S": "a"}}}}]}}, ["a"]),
        ({"TransactItems": [{"Update": {"TableName": "t", "Key": {"pk": {"S": "a"}}}}]}, ["a"]),
        ({"TableName": "unknown", "Key": {"pk": {"S": "a"}}}, []),
        (query("pk = :a AND sk = :b"), ["a"]),
        (query("#k = :a", ExpressionAttributeNames={"#k": "pk"}), ["a"]),
        (query(":a = pk"), ["a"]),
        (query("other = :b", IndexName="by_other"), ["b"]),
        (query("sk = :b"), []),
        ({"TableName": "t", "KeyConditionExpression": "pk = :pk"}, []),
        ({"TableName": "t", "KeyConditionExpression": 1}, []),
        (legacy_query("pk"), ["a"]),
        (legacy_query("other", IndexName="by_other"), ["a"]),
        ({"TableName": "t"}, []),
    ],
)
def test_the_partition_keys_of_a_request(
    monkeypatch: pytest.MonkeyPatch, request_body: dict[str, Any], keys: list[str]
) -> None:
    monkeypatch.setattr(iam.dynamodb, "_tables", {"t": TABLE})
    assert list(iam.leading_keys(request_body)) == keys


@pytest.mark.parametrize(("asked", "needed"), [("SendMessageBatch", "SendMessage"), ("SendMessage", "SendMessage")])
def test_a_batch_needs_the_right_to_the_single_action(asked: str, needed: str) -> None:
    target = {"x-amz-target": f"AmazonSQS.{asked}", "content-type": "application/x-amz-json-1.0"}
    assert iam.action("sqs", "POST", "/", target, b"{}", {}) == f"sqs:{needed}"
