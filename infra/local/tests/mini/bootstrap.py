"""The one program behind every function of mini/template.yaml: speaks Lambda's runtime API, does what it is told.

An HTTP request, a message's body or a direct invocation names an action; see `act`.
"""

import json
import os
import signal
import sys
import time
import urllib.request
from typing import Any

import botocore.session

API = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"


def act(action: str, event: Any) -> Any:
    if action == "environment":
        return dict(os.environ)
    if action == "config":
        with open(os.environ["GATEWAY_CONFIG"]) as config:
            return config.read()
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "sleep":
        time.sleep(60)
    if action == "raise":
        raise ValueError("a secret detail")
    if action == "metric":
        print(
            json.dumps(
                {
                    "_aws": {
                        "Timestamp": int(time.time() * 1000),
                        "CloudWatchMetrics": [
                            {"Namespace": "Mini", "Dimensions": [["Source"], []], "Metrics": [{"Name": "Failures"}]}
                        ],
                    },
                    "Source": "github",
                    "Failures": [1, 1],
                }
            ),
            flush=True,
        )
    return event


def consume(message: dict[str, Any]) -> Any:
    """A message says what the batch response should be, and how long it should stay invisible."""
    order = json.loads(message["body"])
    print(json.dumps({"saw": message["messageId"], "at": time.time(), **order}), flush=True)
    if "visibility" in order:
        client("sqs").change_message_visibility(
            QueueUrl=os.environ["QUEUE_URL"],
            ReceiptHandle=message["receiptHandle"],
            VisibilityTimeout=order["visibility"],
        )
    time.sleep(order.get("sleep", 0))
    if order.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if order.get("fail"):
        return {"batchItemFailures": [{"itemIdentifier": message["messageId"]}]}
    return order.get("response")


def rotate(event: dict[str, Any]) -> None:
    secrets = client("secretsmanager")
    secret, token = event["SecretId"], event["ClientRequestToken"]
    print(json.dumps({"step": event["Step"], "secret": secret}), flush=True)
    if event["Step"] == "createSecret":
        try:
            secrets.get_secret_value(SecretId=secret, VersionId=token, VersionStage="AWSPENDING")
        except secrets.exceptions.ResourceNotFoundException:
            secrets.put_secret_value(
                SecretId=secret, ClientRequestToken=token, SecretString="second", VersionStages=["AWSPENDING"]
            )
    elif event["Step"] == "finishSecret":
        versions = secrets.describe_secret(SecretId=secret)["VersionIdsToStages"]
        current = next(version for version, stages in versions.items() if "AWSCURRENT" in stages)
        secrets.update_secret_version_stage(
            SecretId=secret, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current
        )


def client(service: str) -> Any:
    return botocore.session.get_session().create_client(service)


def handle(event: Any) -> Any:
    if not isinstance(event, dict):
        return event
    if "Step" in event:
        return rotate(event)
    if "Records" in event:
        return consume(event["Records"][0])
    if "requestContext" in event:
        action = event["pathParameters"]["source"]
        return {"statusCode": 200, "body": json.dumps(act(action, event))}
    return act(event.get("action", ""), event)


def post(path: str, body: Any) -> None:
    urllib.request.urlopen(
        urllib.request.Request(f"{API}/{path}", data=json.dumps(body).encode(), method="POST")
    ).close()


def main() -> None:
    while True:
        with urllib.request.urlopen(f"{API}/next") as following:
            request_id = following.headers["Lambda-Runtime-Aws-Request-Id"]
            event = json.load(following)
        try:
            post(f"{request_id}/response", handle(event))
        except Exception as error:
            post(f"{request_id}/error", {"errorType": type(error).__name__, "errorMessage": str(error)})


if __name__ == "__main__":
    sys.exit(main())
