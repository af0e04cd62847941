"""AWS Secrets Manager: secrets that a template has generated."""

import json
from typing import Any

import ministack.services.cloudformation.provisioners as provisioners
import ministack.services.secretsmanager as secretsmanager

PLACE = ("SecretStringTemplate", "GenerateStringKey")
"""Where the password goes, and not what it is made of."""

_original_secret_string = provisioners._sm_secret_string


def apply() -> None:
    provisioners._sm_secret_string = secret_string


def secret_string(properties: dict[str, Any]) -> str:
    """GenerateSecretString takes what GetRandomPassword takes, as ExcludePunctuation; ministack reads the length alone.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-secretsmanager-secret-generatesecretstring.html
    """
    generate = properties.get("GenerateSecretString")
    if not generate or properties.get("SecretString"):
        return _original_secret_string(properties)
    options = {key: typed(value) for key, value in generate.items() if key not in PLACE}
    status, _, body = secretsmanager._get_random_password(options)
    answer = json.loads(body)
    if status != 200:
        raise ValueError(f"AWS::SecretsManager::Secret cannot be generated: {answer.get('message', answer)}")
    if "SecretStringTemplate" not in generate:
        return answer["RandomPassword"]
    return json.dumps(
        {**json.loads(generate["SecretStringTemplate"]), generate["GenerateStringKey"]: answer["RandomPassword"]}
    )


def typed(value: Any) -> Any:
    """A template's numbers and booleans may arrive as text."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return int(value) if isinstance(value, str) and value.isdigit() else value
