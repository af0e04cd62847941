"""stack.py: what it tells people, what it starts and stops, what it makes of a template."""

import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest
from conftest import MINI, Mini

import artifacts
import deployment
import processes
import stack


def test_a_second_up_finds_nothing_to_do_and_is_quick(mini: Mini, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert mini.command("up", "--direct") == 0
    assert time.monotonic() - began < 1.5
    assert "nothing has changed" in capsys.readouterr().out


def test_a_changed_configuration_is_deployed_to_the_running_stack(mini: Mini, tmp_path: Path) -> None:
    changed = tmp_path / "gateway.toml"
    changed.write_text((MINI / "gateway.toml").read_text() + "# changed\n")
    processes_before = json.loads((mini.state / "state.json").read_text())["processes"]
    assert mini.command("deploy", "--config", str(changed)) == 0
    assert mini.request("config")[1].endswith("# changed\n")
    assert json.loads((mini.state / "state.json").read_text())["processes"] == processes_before
    assert mini.command("deploy") == 0
    assert not mini.request("config")[1].endswith("# changed\n")


def test_outputs_are_written_with_urls_of_this_machine(mini: Mini) -> None:
    stored = json.loads((mini.state / "outputs.json").read_text())
    pattern = rf"http://127\.0\.0\.1:{mini.port}/_aws/execute-api/\w+/\$default/v1/webhooks"
    assert re.fullmatch(pattern, stored["WebhookUrl"])
    assert stored["StackName"] == "mini"


def test_status_and_logs_tell_about_the_stack(mini: Mini, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--name", "mini", "--state", str(mini.state.parent)]
    assert stack.main(["status", *named]) == 0
    assert stack.main(["logs", *named, "emulator"]) == 0
    shown = capsys.readouterr().out
    assert f"port {mini.port}" in shown
    assert "emulator.log" in shown


def test_a_taken_port_is_named_with_what_to_do(
    binaries: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = ["--state", str(tmp_path), "--template", str(MINI / "template.yaml"), "--binaries", str(binaries)]
        assert stack.main(["up", "--direct", "--port", str(port), *options]) == 1
    shown = capsys.readouterr().err
    assert f"Port {port} (for the emulator) is taken" in shown
    assert f"--port {port + 100}" in shown


def test_missing_binaries_are_named_with_how_to_build_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--state", str(tmp_path), "--template", str(MINI / "template.yaml"), "--binaries", str(tmp_path)]
    assert stack.main(["up", *options]) == 1
    shown = capsys.readouterr().err
    assert "Not built yet: destination, mini, wire" in shown
    assert artifacts.BUILD_COMMAND in shown


def test_a_failed_deployment_shows_its_reasons(mini: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = (
        (MINI / "template.yaml").read_text().replace("Namespace: Mini", "Namespace: Mini\n      Metrics: [{ Id: a }]")
    )
    template = tmp_path / "template.yaml"
    template.write_text(broken)
    assert mini.command("deploy", "--template", str(template)) == 1
    shown = capsys.readouterr().err
    assert "ended in UPDATE_ROLLBACK" in shown
    assert "Alarm (AWS::CloudWatch::Alarm): UPDATE_FAILED: " in shown
    assert "The end of" in shown and "emulator.log" in shown
    assert mini.command("deploy") == 0


def test_down_without_a_stack_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert stack.main(["down", "--name", "none", "--state", str(tmp_path)]) == 0
    assert "was not running" in capsys.readouterr().out


def test_a_process_that_got_the_pid_of_ours_is_not_stopped() -> None:
    someone_else = processes.Process(os.getppid(), "another start time", 1, "")
    assert not processes.stop(someone_else)
    assert processes.start_time(os.getppid()) is not None


def test_down_stops_the_emulator_and_its_functions(binaries: Path, tmp_path: Path) -> None:
    from conftest import free_base_port

    environment = stack.inherited() | {"PORT": "x"}
    script = tmp_path / "serve"
    script.write_text(
        "#!/bin/sh\nsleep 300 & echo $! > " + str(tmp_path / "child") + "\n"
        f'exec {shutil.which("python3")} -m http.server --bind 127.0.0.1 "$1"\n'
    )
    script.chmod(0o755)
    port = free_base_port()
    service = processes.Service("server", port, "/", [str(script), str(port)], environment, "x")
    started = processes.start(service, tmp_path / "log")
    child = int((tmp_path / "child").read_text())
    assert processes.start_time(child) is not None
    assert processes.stop(started)
    assert not processes.is_running(started)
    assert processes.wait_until(lambda: processes.start_time(child) is None, 5)


def test_tags_become_the_long_form_and_dates_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        "AWSTemplateFormatVersion: 2010-09-09\n"
        "Resources:\n"
        "  A: !Sub ${B}/x\n"
        "  B: !GetAtt C.D.E\n"
        "  C: !If [Has, [!Ref F], !Ref AWS::NoValue]\n"
        "  D: {Condition: !Condition G}\n"
    )
    assert artifacts.load_template(path) == {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": {
            "A": {"Fn::Sub": "${B}/x"},
            "B": {"Fn::GetAtt": ["C", "D.E"]},
            "C": {"Fn::If": ["Has", [{"Ref": "F"}], {"Ref": "AWS::NoValue"}]},
            "D": {"Condition": {"Condition": "G"}},
        },
    }


def test_the_configuration_gets_the_stacks_own_destination(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        'a = "http://127.0.0.1:4568/ci"\nb = "http://127.0.0.1:45689/"\nc = "https://127.0.0.1:4568/c"\n'
    )
    expected = b'a = "http://127.0.0.1:4668/ci"\nb = "http://127.0.0.1:45689/"\nc = "https://127.0.0.1:4668/c"\n'
    assert artifacts.local_config(tmp_path / "gateway.toml", 4668) == expected
    assert artifacts.local_config(tmp_path, 4668) == expected


def test_secrets_that_the_configuration_names_and_the_template_does_not_make_are_made_once(
    mini: Mini, tmp_path: Path
) -> None:
    changed = tmp_path / "gateway.toml"
    sources = '[sources.a]\nsecret = "github"\nhandshake_secret = "word"\n[sources.b]\nsecret = "b-enrolled"\n'
    changed.write_text((MINI / "gateway.toml").read_text() + sources)
    secretsmanager = mini.client("secretsmanager")

    def secret(name: str) -> str:
        return str(secretsmanager.get_secret_value(SecretId=f"mini/{name}")["SecretString"])

    of_the_template = secret("source/github")
    assert mini.command("deploy", "--config", str(changed)) == 0
    assert secret("source/github") == of_the_template
    assert re.fullmatch("[0-9a-f]{64}", made := secret("source/word"))
    assert json.loads(secret("source/b-enrolled"))["keys"] == []
    changed.write_text(changed.read_text() + "# changed\n")
    assert mini.command("deploy", "--config", str(changed)) == 0
    assert secret("source/word") == made
    assert mini.command("deploy") == 0


def test_a_configuration_that_is_no_toml_is_named_before_anything_is_deployed(
    mini: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.toml").write_text("[sources")
    assert mini.command("deploy", "--config", str(tmp_path)) == 1
    assert "is not TOML" in capsys.readouterr().err
    assert artifacts.secrets_of(b"sources = 1\n[destinations]\na = 1\n") == {}


def test_a_secret_is_made_for_whoever_names_it() -> None:
    made = artifacts.secrets_of(
        b'[sources.a]\nsecret = "both"\nhandshake_secret = "word"\n[destinations.a]\nsecret = "both"\n'
        b'[destinations.b]\nauth = { type = "basic", secret = "user" }\n[destinations.c]\nsecret = "c-oauth"\n'
    )
    assert made.keys() == {
        "source/both",
        "source/word",
        "destination/both",
        "destination/user",
        "destination/c-oauth",
    }
    assert made["source/both"] != made["destination/both"]
    assert made["destination/user"].startswith("posthouse:")
    assert "refreshToken" in made["destination/c-oauth"]


def test_the_same_files_make_the_same_archive() -> None:
    assert artifacts.zip_files({"a": (b"1", 0o755)}) == artifacts.zip_files({"a": (b"1", 0o755)})


def test_urls_of_an_http_api_are_reached_at_the_emulator() -> None:
    local = "http://127.0.0.1:4566/_aws/execute-api/a1b2/$default"
    assert (
        deployment.local_url("https://a1b2.execute-api.us-east-1.amazonaws.com/v1/webhooks", 4566)
        == f"{local}/v1/webhooks"
    )
    assert deployment.local_url("http://a1b2.execute-api.127.0.0.1:4566", 4566) == local
    assert deployment.local_url("https://example.com/x", 4566) == "https://example.com/x"
