"""iam: conditions on TLS and on partition keys, seen with the credentials of a function's role."""

from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from conftest import Mini

import emulator.iam as iam


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


@pytest.mark.parametrize(
    ("request_body", "keys"),
    [
        ({"TableName": "t", "Item": {"pk": {"S": "a"}, "sk": {"S": "b"}}}, ["a"]),
        ({"TableName": "arn:aws:dynamodb:us-east-1:000000000000:table/t", "Key": {"pk": {"N": "1"}}}, ["1"]),
        ({"RequestItems": {"t": {"Keys": [{"pk": {"S": "a"}}, {"pk": {"S": "b"}}]}}}, ["a", "b"]),
        ({"RequestItems": {"t": [{"PutRequest": {"Item": {"pk": {"S": "a"}}}}]}}, ["a"]),
        ({"TransactItems": [{"Update": {"TableName": "t", "Key": {"pk": {"S": "a"}}}}]}, ["a"]),
        ({"TableName": "unknown", "Key": {"pk": {"S": "a"}}}, []),
        ({"TableName": "t", "KeyConditionExpression": "pk = :pk"}, []),
    ],
)
def test_the_partition_keys_of_a_request(
    monkeypatch: pytest.MonkeyPatch, request_body: dict[str, Any], keys: list[str]
) -> None:
    monkeypatch.setattr(iam.dynamodb, "_tables", {"t": {"pk_name": "pk"}})
    assert list(iam.leading_keys(request_body)) == keys


@pytest.mark.parametrize(("asked", "needed"), [("SendMessageBatch", "SendMessage"), ("SendMessage", "SendMessage")])
def test_a_batch_needs_the_right_to_the_single_action(asked: str, needed: str) -> None:
    target = {"x-amz-target": f"AmazonSQS.{asked}", "content-type": "application/x-amz-json-1.0"}
    assert iam.action("sqs", "POST", "/", target, b"{}", {}) == f"sqs:{needed}"
