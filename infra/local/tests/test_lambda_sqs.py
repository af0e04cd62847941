"""lambda_sqs: what becomes of messages after a batch, how they wait, how many are worked on at once."""

import json
import uuid
from typing import Any

import pytest
from conftest import Mini, eventually

import emulator.lambda_sqs as lambda_sqs

# Lies between the visibility of 1 s that a message asks for and the 4 s of the queue in mini/template.yaml.
BETWEEN_SET_AND_UNSET_SECONDS = 2.8


class Consumer:
    def __init__(self, mini: Mini) -> None:
        self.mini = mini
        self.sqs = mini.client("sqs")
        self.group = f"/aws/lambda/{mini.outputs['ConsumerName']}"

    def send(self, **order: Any) -> str:
        tag = uuid.uuid4().hex
        body = json.dumps({"tag": tag, **order})
        self.sqs.send_message(QueueUrl=self.mini.outputs["QueueUrl"], MessageBody=body)
        return tag

    def times(self, tag: str) -> list[float]:
        """When the function received the message with this tag."""
        lines = [json.loads(line) for line in self.mini.log_lines(self.group) if tag in line]
        return sorted(line["at"] for line in lines)

    def received(self, tag: str, times: int) -> list[float]:
        """When it received it, once it has done so that often."""
        return eventually(lambda: seen if len(seen := self.times(tag)) >= times else None)

    def dead(self) -> list[str]:
        answer = self.sqs.receive_message(
            QueueUrl=self.mini.outputs["DeadLettersUrl"], MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [json.loads(message["Body"])["tag"] for message in answer.get("Messages", [])]


@pytest.fixture(scope="module")
def consumer(mini: Mini) -> Consumer:
    mini.client("logs").create_log_group(logGroupName=f"/aws/lambda/{mini.outputs['ConsumerName']}")
    consumer = Consumer(mini)
    # As many environments as work side by side, started before the first test measures a time.
    for tag in [consumer.send(sleep=1) for _ in range(4)]:
        consumer.received(tag, 1)
    return consumer


@pytest.mark.parametrize(
    ("response", "failed"),
    [
        (None, set()),
        ("", set()),
        ({}, set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batch_item_failures": [{"item_identifier": "a"}]}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "a"}]}, {"a"}),
        ('{"batchItemFailures": [{"itemIdentifier": "b"}]}', {"b"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, {"a", "b"}),
        ({"batchItemFailures": [{"item_identifier": "a"}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "unknown"}]}, {"a", "b"}),
        ("not JSON", {"a", "b"}),
    ],
)
def test_which_messages_a_response_reports_as_failed(response: Any, failed: set[str]) -> None:
    assert lambda_sqs.failed_messages(response, {"a", "b"}) == failed


@pytest.fixture(scope="module")
def sent(consumer: Consumer) -> dict[str, str]:
    """All messages at once, so that they wait side by side."""
    return {
        "set": consumer.send(fail=True, visibility=1),
        "unset": consumer.send(fail=True),
        "killed": consumer.send(die=True, visibility=1),
        "empty": consumer.send(response={"batchItemFailures": [{"itemIdentifier": ""}]}, visibility=1),
        "done": consumer.send(visibility=1),
    }


def test_a_failed_message_keeps_the_visibility_that_the_function_set(consumer: Consumer, sent: dict[str, str]) -> None:
    first, second = consumer.received(sent["set"], 2)[:2]
    assert second - first < BETWEEN_SET_AND_UNSET_SECONDS


def test_a_failed_message_waits_for_the_queues_visibility_timeout(consumer: Consumer, sent: dict[str, str]) -> None:
    first, second = consumer.received(sent["unset"], 2)[:2]
    assert second - first > BETWEEN_SET_AND_UNSET_SECONDS


def test_an_empty_identifier_fails_the_batch(consumer: Consumer, sent: dict[str, str]) -> None:
    consumer.received(sent["empty"], 2)


def test_a_message_that_kills_the_function_ends_as_a_dead_letter(consumer: Consumer, sent: dict[str, str]) -> None:
    eventually(lambda: {sent["killed"], sent["set"]} <= set(consumer.dead()))


def test_a_processed_message_is_deleted(consumer: Consumer, sent: dict[str, str]) -> None:
    consumer.received(sent["set"], 3)
    assert len(consumer.times(sent["done"])) == 1


def test_batches_are_worked_on_at_the_same_time(consumer: Consumer) -> None:
    starts = [consumer.received(tag, 1)[0] for tag in [consumer.send(sleep=1.5) for _ in range(4)]]
    assert max(starts) - min(starts) < 1.5
