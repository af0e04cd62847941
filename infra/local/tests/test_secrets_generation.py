"""secrets_generation: what a template asks of a generated secret."""

import json

import pytest
from conftest import Mini

import emulator.secrets_generation as generation


def test_a_generated_secret_goes_where_the_template_says() -> None:
    generate = {
        "SecretStringTemplate": '{"user": "a"}',
        "GenerateStringKey": "current",
        "PasswordLength": "48",
        "ExcludePunctuation": "true",
    }
    made = json.loads(generation.secret_string({"GenerateSecretString": generate}))
    assert made["user"] == "a"
    assert len(made["current"]) == 48
    assert made["current"].isalnum()


def test_a_generated_secret_is_as_the_template_asks(mini: Mini) -> None:
    secret = mini.client("secretsmanager").get_secret_value(SecretId=mini.outputs["GeneratedSecretArn"])["SecretString"]
    assert len(secret) == 40
    assert secret.isalnum()


def test_what_cannot_be_generated_is_refused() -> None:
    with pytest.raises(ValueError, match="PasswordLength"):
        generation.secret_string({"GenerateSecretString": {"PasswordLength": "5000"}})
