"""lambda_runtime and lambda_logs: what a function sees, what becomes of one that dies, what it logs."""

import json
from pathlib import Path

from conftest import MINI, Mini, eventually

import emulator.lambda_runtime as lambda_runtime


def test_a_function_sees_its_variables_and_nothing_of_the_emulators(mini: Mini) -> None:
    _, seen = mini.request("environment")
    assert seen["GREETING"] == "hello"
    assert seen["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert seen["AWS_LAMBDA_LOG_LEVEL"] == "DEBUG"
    assert seen["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{mini.port}"
    assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA"), "the credentials of the function's role"
    assert not {"AUTH", "GATEWAY_PORT", "HOME", "PYTHONPATH", "TMPDIR"} & set(seen)


def test_a_layer_is_read_through_a_variable_that_names_opt(mini: Mini) -> None:
    _, config = mini.request("config")
    assert config == (MINI / "gateway.toml").read_text().replace(":4568", f":{mini.port + 2}")


def test_a_later_layer_wins(tmp_path: Path, monkeypatch) -> None:
    import artifacts

    archives = {
        "first": artifacts.zip_files({"a": (b"1", 0o644), "b": (b"1", 0o644)}),
        "second": artifacts.zip_files({"b": (b"2", 0o644)}),
    }
    monkeypatch.setattr(lambda_runtime.lambda_svc, "_resolve_layer_zip", archives.get)
    monkeypatch.setattr(lambda_runtime.tempfile, "tempdir", str(tmp_path))
    merged = lambda_runtime.layers_directory(["first", "second"])
    assert ((merged / "a").read_text(), (merged / "b").read_text()) == ("1", "2")
    assert lambda_runtime.layers_directory(["first", "second"]) == merged


def test_a_killed_function_is_a_5xx_without_details_and_recovers(mini: Mini) -> None:
    assert mini.request("die") == (502, {"message": "Internal server error"})
    assert mini.request("echo")[0] == 200


def test_a_failed_function_is_a_5xx_without_details(mini: Mini) -> None:
    assert mini.request("raise") == (502, {"message": "Internal server error"})


def test_a_function_is_killed_at_its_timeout_and_recovers(mini: Mini) -> None:
    answer = mini.client("lambda").invoke(FunctionName=mini.outputs["WebName"], Payload=b'{"action": "sleep"}')
    assert json.load(answer["Payload"]) == {
        "errorMessage": "Task timed out after 3.00 seconds",
        "errorType": "Sandbox.Timedout",
    }
    assert mini.request("echo")[0] == 200


def test_the_log_of_a_json_function_is_json_with_one_report_for_each_invocation(mini: Mini) -> None:
    group = f"/aws/lambda/{mini.outputs['WebName']}"
    mini.request("echo")
    lines = eventually(lambda: mini.log_lines(group))
    reports = [json.loads(line) for line in lines]
    assert {report["type"] for report in reports if "type" in report} == {"platform.report"}
