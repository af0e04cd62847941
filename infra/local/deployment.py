"""Deploys a packaged template to the local stack through CloudFormation change sets, and reads its outputs."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from artifacts import Template
from processes import HOST, StackError, progress

REGION = "us-east-1"
ARTIFACTS_BUCKET = "artifacts"
DEPLOY_SECONDS_MAX = 180
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
UNUSABLE_STATUSES = ("ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS")
"""A stack that was never made: CloudFormation takes no update for it, only its deletion."""
SUCCESS_STATUSES = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
API_URL = re.compile(r"^https?://([a-z0-9]+)\.execute-api\.[^/]+(/.*)?$")

Client = Any


def client(service: str, port: int) -> Client:
    """A client of the local stack; `test` is its account's administrator."""
    return botocore.session.get_session().create_client(
        service,
        region_name=REGION,
        endpoint_url=f"http://{HOST}:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )


def uploader(port: int) -> Callable[[bytes], str]:
    """A function that puts an artifact under the name of its content and answers its S3 URI."""
    s3 = client("s3", port)
    s3.create_bucket(Bucket=ARTIFACTS_BUCKET)

    def upload(content: bytes) -> str:
        key = hashlib.sha256(content).hexdigest()
        s3.put_object(Bucket=ARTIFACTS_BUCKET, Key=key, Body=content)
        return f"s3://{ARTIFACTS_BUCKET}/{key}"

    return upload


def deploy(port: int, name: str, template: Template, parameters: dict[str, str]) -> dict[str, str]:
    """Creates or updates the stack and returns its outputs; raises with the reasons when that fails."""
    cloudformation = client("cloudformation", port)
    # By URL, as `sam deploy` does: a template in the request itself may have 51,200 bytes at most.
    location = uploader(port)(json.dumps(template).encode())
    url = f"http://{HOST}:{port}/{location.removeprefix('s3://')}"
    began = datetime.now(UTC)
    with progress(f"deploying {name}"):
        changes = create_change_set(cloudformation, name, url, parameters)
        if changes:
            cloudformation.execute_change_set(StackName=name, ChangeSetName=changes)
            status = wait_for_stack(cloudformation, name)
            if status not in SUCCESS_STATUSES:
                raise StackError(f"Deploying {name} ended in {status}:\n{failures(cloudformation, name, began)}")
    return outputs(cloudformation, name, port)


def create_secrets(port: int, name: str, values: dict[str, str]) -> None:
    """Creates those secrets under the stack's name that are not there; what is there stays as it is."""
    secretsmanager = client("secretsmanager", port)
    for secret, value in values.items():
        try:
            secretsmanager.create_secret(Name=f"{name}/{secret}", SecretString=value)
        except secretsmanager.exceptions.ResourceExistsException:
            continue


def create_change_set(cloudformation: Client, name: str, url: str, parameters: dict[str, str]) -> str | None:
    """Creates the change set and waits for it; None when nothing would change."""
    status = stack_status(cloudformation, name)
    if status in UNUSABLE_STATUSES:
        cloudformation.delete_stack(StackName=name)
        wait_for_stack(cloudformation, name)
        status = None
    change_set = f"local-{time.time_ns()}"
    try:
        cloudformation.create_change_set(
            StackName=name,
            ChangeSetName=change_set,
            ChangeSetType="UPDATE" if status else "CREATE",
            TemplateURL=url,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=CAPABILITIES,
        )
    except ClientError as refused:
        raise StackError(f"CloudFormation refuses the template: {refused.response['Error']['Message']}") from None
    deadline = time.monotonic() + DEPLOY_SECONDS_MAX
    while time.monotonic() < deadline:
        described = cloudformation.describe_change_set(StackName=name, ChangeSetName=change_set)
        if described["Status"] == "CREATE_COMPLETE":
            return change_set
        if described["Status"] == "FAILED":
            reason = described.get("StatusReason", "no reason given")
            if "didn't contain changes" in reason or "No updates are to be performed" in reason:
                return None
            raise StackError(f"The change set of {name} failed: {reason}")
        time.sleep(0.1)
    raise StackError(f"The change set of {name} was not ready within {DEPLOY_SECONDS_MAX} s.")


def stack_status(cloudformation: Client, name: str) -> str | None:
    """The stack's status, or None when there is no such stack."""
    try:
        return str(cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise


def wait_for_stack(cloudformation: Client, name: str) -> str | None:
    deadline = time.monotonic() + DEPLOY_SECONDS_MAX
    while time.monotonic() < deadline:
        status = stack_status(cloudformation, name)
        if status is None or not status.endswith("_IN_PROGRESS"):
            return None if status == "DELETE_COMPLETE" else status
        time.sleep(0.1)
    raise StackError(f"{name} was still in progress after {DEPLOY_SECONDS_MAX} s.")


def failures(cloudformation: Client, name: str, since: datetime) -> str:
    """The stack's events that failed, oldest first, each with its reason."""
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    lines = [
        f"  {event['LogicalResourceId']} ({event['ResourceType']}): {event['ResourceStatus']}: "
        f"{event.get('ResourceStatusReason', 'no reason given')}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("FAILED") and event["Timestamp"].replace(microsecond=999999) >= since
    ]
    return "\n".join(lines) or "  (no event of it failed)"


def outputs(cloudformation: Client, name: str, port: int) -> dict[str, str]:
    """The stack's outputs, with URLs of its HTTP API as they are reached on this machine."""
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    return {output["OutputKey"]: local_url(output["OutputValue"], port) for output in stack.get("Outputs", [])}


def local_url(value: str, port: int) -> str:
    """`https://<api>.execute-api.<domain>/<path>` is served at a path of the emulator."""
    match = API_URL.match(value)
    if not match:
        return value
    return f"http://{HOST}:{port}/_aws/execute-api/{match[1]}/$default{match[2] or ''}"
