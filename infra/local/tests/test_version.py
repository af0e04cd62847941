"""The emulator patches the internals of one version, so it runs with that version only."""

import os
import subprocess
import sys
from pathlib import Path

import emulator
from emulator.__main__ import refusal

LOCAL = Path(__file__).parent.parent


def test_only_the_pinned_version_is_accepted() -> None:
    assert refusal(emulator.MINISTACK_VERSION) is None
    assert "1.5.34 is installed" in (refusal("1.5.34") or "")
    assert "not installed" in (refusal(None) or "")


def test_the_requirements_pin_the_version_that_the_patches_know() -> None:
    assert f"ministack=={emulator.MINISTACK_VERSION}" in (LOCAL / "requirements.txt").read_text().splitlines()


def test_the_launcher_ends_with_another_version(tmp_path: Path) -> None:
    metadata = tmp_path / "ministack-9.9.9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ministack\nVersion: 9.9.9\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{LOCAL}"}
    ended = subprocess.run(
        [sys.executable, "-m", "emulator"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "needs ministack 1.5.33 exactly" in ended.stderr
    assert "9.9.9 is installed" in ended.stderr
