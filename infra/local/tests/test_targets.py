"""targets: what stands beside the local stack for destinations in AWS, and what becomes of what arrives there."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from conftest import Mini, eventually

import targets


class Answering(BaseHTTPRequestHandler):
    """A destination that answers with the status that the event names."""

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(event["status"])
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def beside(mini: Mini):
    server = HTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    # The second time everything is there.
    for _ in range(2):
        targets.create(mini.client, f"http://127.0.0.1:{server.server_port}")
    yield mini
    server.shutdown()


def received(mini: Mini, queue: str) -> dict:
    sqs = mini.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    receive = lambda: sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages")  # noqa: E731
    (message,) = eventually(receive)
    return message


@pytest.mark.parametrize(
    ("status", "error_type"), [(200, None), (422, "ValidationError"), (500, "RuntimeError"), (410, "Runtime.ExitError")]
)
def test_the_function_does_as_the_destination_says(beside: Mini, status: int, error_type: str | None) -> None:
    payload = json.dumps({"status": status}).encode()
    answer = beside.client("lambda").invoke(FunctionName=targets.NAME, Payload=payload)
    returned = json.load(answer["Payload"])
    assert returned.get("errorType") == error_type
    assert ("FunctionError" in answer) == (error_type is not None)


def test_what_the_topic_gets_is_in_its_queue_as_it_was_published(beside: Mini) -> None:
    attribute = {"DataType": "String", "StringValue": "text/plain"}
    beside.client("sns").publish(
        TopicArn=targets.arn("sns", targets.NAME), Message="as it was", MessageAttributes={"content-type": attribute}
    )
    message = received(beside, targets.TOPIC_QUEUE)
    assert message["Body"] == "as it was"
    assert message["MessageAttributes"]["content-type"]["StringValue"] == "text/plain"


def test_what_is_put_on_the_bus_is_in_its_queue(beside: Mini) -> None:
    entry = {"EventBusName": targets.NAME, "Source": "posthouse.a", "DetailType": "b", "Detail": '{"c": 1}'}
    assert beside.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0
    event = json.loads(received(beside, targets.BUS_QUEUE)["Body"])
    assert (event["source"], event["detail-type"], event["detail"]) == ("posthouse.a", "b", {"c": 1})
