"""secrets_rotation: the four steps, versions without a value, who may invoke, what a template gets."""

import json
import uuid

import pytest
from botocore.exceptions import ClientError
from conftest import Mini, eventually


def steps_of(mini: Mini, secret_arn: str) -> list[str]:
    """The steps that the rotation function was given for this secret, as it logged them."""
    group = f"/aws/lambda/{mini.outputs['RotationName']}"
    lines = [json.loads(line) for line in mini.log_lines(group)]
    return [line["step"] for line in lines if line.get("secret") == secret_arn]


def test_ref_of_a_secret_is_its_arn(mini: Mini) -> None:
    assert mini.outputs["SecretArn"].startswith(
        "arn:aws:secretsmanager:us-east-1:000000000000:secret:mini/source/github-"
    )


def test_a_schedule_that_does_not_rotate_at_once_runs_the_test_step(mini: Mini) -> None:
    assert eventually(lambda: steps_of(mini, mini.outputs["SecretArn"]))[0] == "testSecret"


def test_rotate_secret_runs_the_four_steps(mini: Mini) -> None:
    secrets = mini.client("secretsmanager")
    arn = mini.outputs["SecretArn"]
    eventually(lambda: steps_of(mini, arn))
    token = str(uuid.uuid4())
    before = secrets.get_secret_value(SecretId=arn)["SecretString"]
    secrets.rotate_secret(SecretId=arn, ClientRequestToken=token)
    eventually(lambda: secrets.get_secret_value(SecretId=arn)["VersionId"] == token)
    assert (before, secrets.get_secret_value(SecretId=arn)["SecretString"]) == ("first", "second")
    assert secrets.get_secret_value(SecretId=arn, VersionStage="AWSPREVIOUS")["SecretString"] == "first"
    assert steps_of(mini, arn)[-4:] == ["createSecret", "setSecret", "testSecret", "finishSecret"]
    again = secrets.rotate_secret(SecretId=arn)["VersionId"]
    assert list(secrets.describe_secret(SecretId=arn)["VersionIdsToStages"][again]) != []
    eventually(lambda: secrets.get_secret_value(SecretId=arn)["VersionId"] == again)


def test_a_version_cannot_get_another_value(mini: Mini) -> None:
    secrets = mini.client("secretsmanager")
    token = str(uuid.uuid4())
    secrets.create_secret(Name=f"versions-{token}", SecretString="a", ClientRequestToken=token)
    version = secrets.put_secret_value(SecretId=f"versions-{token}", SecretString="b")["VersionId"]
    again = {"SecretId": f"versions-{token}", "ClientRequestToken": version}
    assert secrets.put_secret_value(**again, SecretString="b")["VersionId"] == version
    with pytest.raises(secrets.exceptions.ResourceExistsException):
        secrets.put_secret_value(**again, SecretString="c")


def test_rotation_needs_a_function_that_secrets_manager_may_invoke(mini: Mini) -> None:
    secrets = mini.client("secretsmanager")
    name = f"refused-{uuid.uuid4()}"
    secrets.create_secret(Name=name, SecretString="a")
    with pytest.raises(ClientError, match="No Lambda rotation function"):
        secrets.rotate_secret(SecretId=name)
    function = mini.client("lambda").get_function_configuration(FunctionName=mini.outputs["WebName"])
    with pytest.raises(ClientError, match="cannot invoke the specified Lambda function"):
        secrets.rotate_secret(SecretId=name, RotationLambdaARN=function["FunctionArn"])


def test_an_unfinished_rotation_is_attempted_again_and_its_version_has_no_value(mini: Mini) -> None:
    secrets = mini.client("secretsmanager")
    function_arn = mini.client("lambda").get_function_configuration(FunctionName=mini.outputs["RotationName"])[
        "FunctionArn"
    ]
    # The rotation function's role may not touch this secret, so its first step fails.
    arn = secrets.create_secret(Name=f"foreign-{uuid.uuid4()}", SecretString="a")["ARN"]
    token = str(uuid.uuid4())
    secrets.rotate_secret(SecretId=arn, RotationLambdaARN=function_arn, ClientRequestToken=token)
    eventually(lambda: len(steps_of(mini, arn)) == 1)
    with pytest.raises(secrets.exceptions.ResourceNotFoundException):
        secrets.get_secret_value(SecretId=arn, VersionStage="AWSPENDING")
    with pytest.raises(ClientError, match="A previous rotation isn't complete"):
        secrets.rotate_secret(SecretId=arn)
    eventually(lambda: steps_of(mini, arn) == ["createSecret", "createSecret"])
    assert list(secrets.describe_secret(SecretId=arn)["VersionIdsToStages"][token]) == ["AWSPENDING"]
