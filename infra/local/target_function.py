"""The Lambda function that the local stack's `lambda` destination invokes.

It passes each event on to the scriptable destination and does as that answers, so that tests can say what it does. It
speaks Lambda's runtime API itself: the emulator's own runtime for Python tells nobody the type of an error.
"""

import json
import os
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

API = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"


class ValidationError(Exception):
    """How it says that an event will never work."""


def handle(event: bytes) -> None:
    """Both messages quote the event, as those of careless functions do."""
    try:
        post(os.environ["DESTINATION_URL"], event)
    except HTTPError as refused:
        if refused.code == 422:
            raise ValidationError(f"not valid: {event!r}") from None
        if refused.code == 410:
            os._exit(1)
        raise RuntimeError(f"the destination answered {refused.code}: {event!r}") from None


def post(url: str, body: bytes) -> None:
    with urlopen(Request(url, body, {"Content-Type": "application/json"})):
        pass


def failure(error: Exception) -> dict[str, Any]:
    return {"errorType": type(error).__name__, "errorMessage": str(error)}


while True:
    with urlopen(f"{API}/next") as invocation:
        request_id = invocation.headers["Lambda-Runtime-Aws-Request-Id"]
        payload = invocation.read()
    try:
        handle(payload)
        post(f"{API}/{request_id}/response", b'{"ok": true}')
    except Exception as error:
        post(f"{API}/{request_id}/error", json.dumps(failure(error)).encode())
