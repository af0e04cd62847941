"""sqs_move_tasks: a redrive of a dead-letter queue by SQS itself."""

import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import Mini, eventually


class Queues:
    """A queue and its dead-letter queue, made for one test."""

    def __init__(self, sqs: Any) -> None:
        self.sqs = sqs
        name = uuid.uuid4().hex
        self.dead_url, self.dead_arn = self.create(f"{name}-dead", {})
        policy = json.dumps({"deadLetterTargetArn": self.dead_arn, "maxReceiveCount": 1})
        self.url, self.arn = self.create(name, {"RedrivePolicy": policy, "VisibilityTimeout": "0"})

    def create(self, name: str, attributes: dict[str, str]) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def kill(self, *bodies: str) -> None:
        """Sends messages and receives them until SQS gives up on them."""
        for body in bodies:
            self.sqs.send_message(
                QueueUrl=self.url,
                MessageBody=body,
                MessageAttributes={"reason": {"DataType": "String", "StringValue": "test"}},
            )

        def all_dead() -> bool:
            self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10)
            return self.count(self.dead_url) == len(bodies)

        eventually(all_dead)

    def count(self, url: str) -> int:
        name = "ApproximateNumberOfMessages"
        return int(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


@pytest.fixture
def queues(mini: Mini) -> Queues:
    return Queues(mini.client("sqs"))


def test_dead_letters_go_back_to_the_queue_they_came_from(queues: Queues) -> None:
    queues.kill("a", "b")
    queues.sqs.start_message_move_task(SourceArn=queues.dead_arn)
    eventually(lambda: queues.count(queues.url) == 2)
    assert queues.count(queues.dead_url) == 0
    task = eventually(
        lambda: [
            task
            for task in queues.sqs.list_message_move_tasks(SourceArn=queues.dead_arn)["Results"]
            if task["Status"] == "COMPLETED"
        ]
    )[0]
    assert task["ApproximateNumberOfMessagesMoved"] == 2
    assert "TaskHandle" not in task
    message = queues.sqs.receive_message(QueueUrl=queues.url, MessageAttributeNames=["All"], AttributeNames=["All"])
    assert message["Messages"][0]["MessageAttributes"]["reason"]["StringValue"] == "test"
    assert message["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "1"


def test_dead_letters_go_to_the_queue_that_is_named(queues: Queues) -> None:
    queues.kill("a")
    other_url, other_arn = queues.create(uuid.uuid4().hex, {})
    queues.sqs.start_message_move_task(SourceArn=queues.dead_arn, DestinationArn=other_arn)
    eventually(lambda: queues.count(other_url) == 1)


def test_one_task_at_a_time_and_it_can_be_cancelled(queues: Queues) -> None:
    queues.kill(*map(str, range(8)))
    handle = queues.sqs.start_message_move_task(SourceArn=queues.dead_arn, MaxNumberOfMessagesPerSecond=1)["TaskHandle"]
    with pytest.raises(ClientError, match="There is already a task running"):
        queues.sqs.start_message_move_task(SourceArn=queues.dead_arn)
    queues.sqs.cancel_message_move_task(TaskHandle=handle)
    results = eventually(
        lambda: [
            task
            for task in queues.sqs.list_message_move_tasks(SourceArn=queues.dead_arn)["Results"]
            if task["Status"] == "CANCELLED"
        ]
    )
    assert results[0]["ApproximateNumberOfMessagesMoved"] < 8
    assert queues.count(queues.dead_url) > 0


def test_what_is_no_dead_letter_queue_is_refused(queues: Queues) -> None:
    with pytest.raises(ClientError, match="must be configured as a Dead Letter Queue"):
        queues.sqs.start_message_move_task(SourceArn=queues.arn)
    with pytest.raises(ClientError, match="doesn't exist"):
        queues.sqs.start_message_move_task(SourceArn=queues.arn + "-not-there")
    with pytest.raises(ClientError, match="Task does not exist"):
        queues.sqs.cancel_message_move_task(TaskHandle="unknown")


def test_a_move_task_is_authorised_on_its_source_queue() -> None:
    import emulator.sqs_move_tasks as sqs_move_tasks

    body = b'{"SourceArn": "arn:aws:sqs:us-east-1:000000000000:dead"}'
    arn = sqs_move_tasks.resource_arn_of_request("sqs", "POST", "/", {}, body, {}, "us-east-1", "000000000000")
    assert arn == "arn:aws:sqs:us-east-1:000000000000:dead"
