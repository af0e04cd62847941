"""`python -m emulator`: checks the version, applies every patch, serves.

Reads the environment variables that ministack reads: GATEWAY_PORT, BIND_HOST, AUTH, AWS_ENDPOINT_URL and so on.
"""

import gc
import sys
from importlib.metadata import PackageNotFoundError, version

from emulator import MINISTACK_VERSION

ALLOCATIONS_PER_COLLECTION = 100_000
"""All that a stack keeps is in memory and stays there. With Python's own 700 the collector goes through it again and
again: a fifth of all the time, once a thousand webhooks are there."""


def installed_version() -> str | None:
    """The version of ministack that an import would find, without importing it."""
    try:
        return version("ministack")
    except PackageNotFoundError:
        return None


def refusal(installed: str | None) -> str | None:
    """Why the emulator must not start with this version of ministack, or None when it may."""
    if installed == MINISTACK_VERSION:
        return None
    found = f"ministack {installed} is installed" if installed else "ministack is not installed"
    return (
        f"The emulator needs ministack {MINISTACK_VERSION} exactly, because it patches that version's internals; "
        f"{found}. Run: pip install -r infra/local/requirements.txt"
    )


def apply_patches() -> None:
    """Applies the patches of every service. Imports stay in here: they must not run before the version is checked."""
    from emulator import (
        cloudwatch_metrics,
        http_api,
        http_api_stage,
        iam,
        lambda_logs,
        lambda_runtime,
        lambda_sqs,
        secrets_generation,
        secrets_rotation,
        sqs_move_tasks,
    )

    for service in (
        lambda_runtime,
        lambda_logs,
        lambda_sqs,
        http_api,
        http_api_stage,
        iam,
        sqs_move_tasks,
        secrets_generation,
        secrets_rotation,
        cloudwatch_metrics,
    ):
        service.apply()


def main() -> None:
    reason = refusal(installed_version())
    if reason is not None:
        sys.exit(reason)
    gc.set_threshold(ALLOCATIONS_PER_COLLECTION)
    apply_patches()
    from ministack import app

    app.main()


if __name__ == "__main__":
    main()
