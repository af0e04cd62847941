"""AWS Secrets Manager: rotation by a Lambda function, and secrets in CloudFormation templates."""

import contextvars
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import ministack.services.cloudformation.provisioners as provisioners
import ministack.services.lambda_svc as lambda_svc
import ministack.services.secretsmanager as secretsmanager

logger = logging.getLogger("emulator.secrets")

ROTATION_STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
SERVICE = "secretsmanager.amazonaws.com"
NO_VALUE = "_no_value_yet"
"""Marks a version that exists with its staging label and has no value yet."""
FOR_TEST = "_for_test"
"""Marks the version on which the rotation configuration is tested, which is no rotation."""

Response = tuple[int, dict[str, Any], bytes]

_original_get = secretsmanager._get_secret_value
_original_put = secretsmanager._put_secret_value
_secret_handlers = provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"]
_original_create_secret = _secret_handlers["create"]
_original_update_secret = _secret_handlers["update"]
_original_delete_secret = _secret_handlers["delete"]


def apply() -> None:
    secretsmanager._rotate_secret = rotate_secret
    secretsmanager._get_secret_value = get_secret_value
    secretsmanager._put_secret_value = put_secret_value
    _secret_handlers.update({"create": create_secret, "update": update_secret, "delete": delete_secret})
    provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::RotationSchedule"] = {
        "create": create_schedule,
        "update": update_schedule,
        "delete": delete_schedule,
    }


def rotate_secret(request: dict[str, Any]) -> Response:
    """RotateSecret: stages a version as AWSPENDING and runs the four steps of the rotation function on it.

    A rotation that is not complete is attempted again instead of starting another one.
    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_RotateSecret.html and
    https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
    """
    _, secret = secretsmanager._resolve(request.get("SecretId"))
    if not secret:
        return error("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
    if secret.get("DeletedDate"):
        return error(
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
        )
    function_arn = request.get("RotationLambdaARN") or secret.get("RotationLambdaARN")
    if not function_arn:
        return error("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.")
    if not may_invoke(function_arn):
        return error(
            "AccessDeniedException",
            "Secrets Manager cannot invoke the specified Lambda function. "
            f"Ensure that the function policy grants access to the principal {SERVICE}.",
        )
    secret["RotationLambdaARN"] = function_arn
    secret["RotationEnabled"] = True
    secret["RotationRules"] = request.get("RotationRules") or secret.get("RotationRules")
    token = request.get("ClientRequestToken") or str(uuid.uuid4())
    if request.get("RotateImmediately", True):
        unfinished = unfinished_version(secret)
        if unfinished and unfinished != token:
            start_rotation(secret, function_arn, unfinished)
            return error(
                "InvalidRequestException",
                "A previous rotation isn't complete. That rotation will be reattempted.",
            )
        stage_pending(secret, token)
        start_rotation(secret, function_arn, token)
    else:
        in_background(test_configuration, secret, function_arn)
    return secretsmanager.json_response({"ARN": secret["ARN"], "Name": secret["Name"], "VersionId": token})


def unfinished_version(secret: dict[str, Any]) -> str | None:
    """The version that a rotation left behind as AWSPENDING without making it AWSCURRENT."""
    for version_id, version in list(secret["Versions"].items()):
        if "AWSPENDING" in version["Stages"] and "AWSCURRENT" not in version["Stages"] and not version.get(FOR_TEST):
            return str(version_id)
    return None


def stage_pending(secret: dict[str, Any], token: str) -> None:
    """Makes the version of this rotation the AWSPENDING one. The rotation before may have left the label behind."""
    for version in secret["Versions"].values():
        version["Stages"] = [label for label in version["Stages"] if label != "AWSPENDING"]
    secret["Versions"].setdefault(token, version_without_value())["Stages"] = ["AWSPENDING"]


def version_without_value() -> dict[str, Any]:
    return {
        "SecretString": None,
        "SecretBinary": None,
        "CreatedDate": int(time.time()),
        "Stages": ["AWSPENDING"],
        NO_VALUE: True,
    }


def may_invoke(function_arn: str) -> bool:
    """Whether the function's resource policy lets Secrets Manager invoke it, which rotation requires.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotating-secrets-required-permissions-function.html
    """
    found = lambda_svc.function_policy_for_arn(function_arn)
    statements = found[0].get("Statement", []) if found else []
    return any(
        statement.get("Effect") == "Allow"
        and statement.get("Action") in ("lambda:InvokeFunction", "lambda:*")
        and (statement.get("Principal") or {}).get("Service") == SERVICE
        for statement in statements
    )


def start_rotation(secret: dict[str, Any], function_arn: str, token: str) -> None:
    def rotate() -> None:
        if run_steps(secret, function_arn, token, ROTATION_STEPS):
            secret["LastRotatedDate"] = int(time.time())
            logger.info("rotated %s to version %s", secret["Name"], token)

    in_background(rotate)


def in_background(work: Callable[..., None], *arguments: Any) -> None:
    # The account and region of the request are context variables; the thread that invokes must see the same.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work, *arguments), daemon=True).start()


def run_steps(secret: dict[str, Any], function_arn: str, token: str, steps: tuple[str, ...]) -> bool:
    """Invokes the function once for each step and stops at the first that fails. Says whether none did.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
    """
    function, _, _ = lambda_svc._get_func_record_for_ref(function_arn)
    if function is None:
        logger.error("rotation of %s: no function %s", secret["Name"], function_arn)
        return False
    for step in steps:
        event = {
            "Step": step,
            "SecretId": secret["ARN"],
            "ClientRequestToken": token,
            "RotationToken": str(uuid.uuid4()),
        }
        result = lambda_svc._execute_function(function, event)
        if result.get("error") or result.get("throttle"):
            logger.error("rotation of %s failed in %s: %s", secret["Name"], step, json.dumps(result.get("body")))
            return False
    return True


def test_configuration(secret: dict[str, Any], function_arn: str) -> None:
    """Without an immediate rotation the testSecret step alone runs, on a version that is there for that only.

    "Secrets Manager tests the rotation configuration by running the testSecret step of the Lambda rotation function.
    This test creates an AWSPENDING version of the secret and then removes it." (API_RotateSecret, RotateImmediately.)
    What that version holds is not documented; here it is the current value.
    """
    _, current = secretsmanager._find_stage_version(secret, "AWSCURRENT")
    token = str(uuid.uuid4())
    secret["Versions"][token] = {**(current or version_without_value()), "Stages": ["AWSPENDING"], FOR_TEST: True}
    try:
        run_steps(secret, function_arn, token, ("testSecret",))
    finally:
        secret["Versions"].pop(token, None)


def get_secret_value(request: dict[str, Any]) -> Response:
    """A version that has its label and no value yet cannot be found.

    createSecret relies on it: it asks for the AWSPENDING version and makes one only when there is none.
    https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
    """
    _, secret = secretsmanager._resolve(request.get("SecretId"))
    if secret:
        version_id = request.get("VersionId")
        if not version_id:
            version_id, _ = secretsmanager._find_stage_version(secret, request.get("VersionStage") or "AWSCURRENT")
        if secret["Versions"].get(version_id, {}).get(NO_VALUE):
            return error(
                "ResourceNotFoundException",
                f"Secrets Manager can't find the specified secret value for VersionId: {version_id}",
            )
    return _original_get(request)


def put_secret_value(request: dict[str, Any]) -> Response:
    """PutSecretValue with the token of a rotation gives that version its value; another value for it is refused.

    "If a version with this value already exists and the version of the SecretString and SecretBinary values are
    different from those in the request, then the request fails because you can't modify a secret version."
    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html
    """
    _, secret = secretsmanager._resolve(request.get("SecretId"))
    version = (secret or {}).get("Versions", {}).get(request.get("ClientRequestToken") or "")
    if not version:
        return _original_put(request)
    values = (request.get("SecretString"), request.get("SecretBinary"))
    if version.pop(NO_VALUE, None):
        version["SecretString"], version["SecretBinary"] = values
    elif (version["SecretString"], version["SecretBinary"]) != values:
        return error(
            "ResourceExistsException",
            "You can't modify a version that already exists: this ClientRequestToken was used with another value.",
        )
    return secretsmanager.json_response(
        {
            "ARN": secret["ARN"],
            "Name": secret["Name"],
            "VersionId": request["ClientRequestToken"],
            "VersionStages": list(version["Stages"]),
        }
    )


def create_secret(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
    """`Ref` of a secret is its ARN; ministack answers its name.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-secretsmanager-secret.html
    """
    _, attributes = _original_create_secret(logical_id, properties, stack)
    return attributes["Arn"], attributes


def update_secret(
    physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str | None = None
) -> tuple[str, dict[str, Any]]:
    """As `create_secret`: ministack works by name, the stack by ARN."""
    _, attributes = _original_update_secret(secret_name(physical_id), old, new, stack, logical_id)
    return attributes["Arn"], attributes


def delete_secret(physical_id: str, properties: dict[str, Any]) -> None:
    """As `create_secret`: ministack works by name, the stack by ARN."""
    _original_delete_secret(secret_name(physical_id), properties)


def secret_name(physical_id: str) -> str:
    _, secret = secretsmanager._resolve(physical_id)
    return secret["Name"] if secret else physical_id


def create_schedule(_logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
    """AWS::SecretsManager::RotationSchedule turns rotation on, and rotates at once unless it is told not to.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-secretsmanager-rotationschedule.html
    """
    status, _, body = rotate_secret(
        {
            "SecretId": properties["SecretId"],
            "RotationLambdaARN": properties.get("RotationLambdaARN"),
            "RotationRules": properties.get("RotationRules"),
            "RotateImmediately": str(properties.get("RotateImmediatelyOnUpdate", True)).lower() != "false",
        }
    )
    if status >= 400:
        raise ValueError(f"AWS::SecretsManager::RotationSchedule failed: {body!r}")
    return json.loads(body)["ARN"], {}


def update_schedule(
    _physical_id: str, _old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str | None = None
) -> tuple[str, dict[str, Any]]:
    """A changed schedule is applied as a new one is."""
    return create_schedule(logical_id or "", new, stack)


def delete_schedule(physical_id: str, _properties: dict[str, Any]) -> None:
    """Without its schedule a secret is not rotated any more, as CancelRotateSecret leaves it."""
    _, secret = secretsmanager._resolve(physical_id)
    if secret:
        secret["RotationEnabled"] = False


def error(code: str, message: str) -> Response:
    return secretsmanager.error_response_json(code, message, 400)
