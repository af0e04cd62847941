"""What the local stack's `lambda`, `eventbridge`, `sqs` and `sns` destinations reach.

In AWS these are other people's resources, which the template only allows the worker to call. So they are none of the
template here either: they stand beside the stack, and the stack's parameters name them.

What arrives can be looked at: the function passes each event on to the scriptable destination and does as that tells
it, the topic and the event bus pass theirs on to queues.
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import artifacts

REGION = "us-east-1"
ACCOUNT = "000000000000"
FUNCTION_SOURCE = Path(__file__).with_name("target_function.py")
NAME = "local-target"
FIFO = f"{NAME}.fifo"
TOPIC_QUEUE = f"{NAME}-topic"
BUS_QUEUE = f"{NAME}-bus"
FORBIDDEN_QUEUE = f"{NAME}-forbidden"
"""Nothing allows the worker to send there."""


ELSEWHERE = f"arn:aws:events:{REGION}:111122223333:event-bus/elsewhere"
"""The event bus of another account, which takes nothing of ours."""


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


PARAMETERS = {
    "LambdaTargets": arn("lambda", f"function:{NAME}"),
    "EventBridgeTargets": ",".join([arn("events", f"event-bus/{NAME}"), ELSEWHERE]),
    "SqsTargets": ",".join(arn("sqs", name) for name in (NAME, FIFO)),
    "SnsTargets": ",".join(arn("sns", name) for name in (NAME, FIFO)),
}
"""What the template's parameters have to say, so that the worker may call them."""

Client = Any


def create(client: Callable[[str], Client], destination: str) -> None:
    """Creates what is not there; what is there stays as it is, but for the function's code. `destination` is a URL."""
    create_function(client("lambda"), create_role(client("iam")), f"{destination}/{NAME}")
    create_queues(client("sqs"))
    create_topics(client("sns"))
    create_bus(client("events"))


def create_role(iam: Client) -> str:
    """The function's own role, which allows nothing: it calls nobody in AWS."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": trust})
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=policy)
    return f"arn:aws:iam::{ACCOUNT}:role/{NAME}"


def create_function(functions: Client, role: str, url: str) -> None:
    program = f"#!{sys.executable}\n{FUNCTION_SOURCE.read_text()}".encode()
    code = artifacts.zip_files({"bootstrap": (program, 0o755)})
    try:
        functions.create_function(
            FunctionName=NAME,
            Runtime="provided.al2023",
            Handler="bootstrap",
            Role=role,
            Code={"ZipFile": code},
            Environment={"Variables": {"DESTINATION_URL": url}},
            Timeout=10,
        )
    except functions.exceptions.ResourceConflictException:
        functions.update_function_code(FunctionName=NAME, ZipFile=code)


def create_queues(sqs: Client) -> None:
    for name in (NAME, FIFO, FORBIDDEN_QUEUE):
        sqs.create_queue(QueueName=name, Attributes=kind_of(name))
    for name, service in ((TOPIC_QUEUE, "sns"), (f"{TOPIC_QUEUE}.fifo", "sns"), (BUS_QUEUE, "events")):
        sender = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}}
        statement = {**sender, "Action": "sqs:SendMessage", "Resource": arn("sqs", name)}
        policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
        sqs.create_queue(QueueName=name, Attributes={**kind_of(name), "Policy": policy})


def kind_of(name: str) -> dict[str, str]:
    return {"FifoQueue": "true"} if name.endswith(".fifo") else {}


def create_topics(sns: Client) -> None:
    fifo = {"FifoTopic": "true"}
    for name, attributes, queue in ((NAME, {}, TOPIC_QUEUE), (FIFO, fifo, f"{TOPIC_QUEUE}.fifo")):
        topic = sns.create_topic(Name=name, Attributes=attributes)["TopicArn"]
        # Without it the queue would get SNS's own envelope around the message.
        raw = {"RawMessageDelivery": "true"}
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn("sqs", queue), Attributes=raw)


def create_bus(events: Client) -> None:
    with suppress(events.exceptions.ResourceAlreadyExistsException):
        events.create_event_bus(Name=NAME)
    pattern = json.dumps({"source": [{"prefix": "posthouse."}]})
    events.put_rule(Name=NAME, EventBusName=NAME, EventPattern=pattern)
    events.put_targets(Rule=NAME, EventBusName=NAME, Targets=[{"Id": NAME, "Arn": arn("sqs", BUS_QUEUE)}])
