"""Turns the SAM template, the function binaries and the gateway configuration into what CloudFormation takes.

The template is parsed, not edited as text: a YAML tag such as `!Sub` becomes the long form that means the same
(`{"Fn::Sub": …}`), and the result is sent as JSON. That keeps everything the template says, whatever its layout.
"""

import hashlib
import io
import json
import re
import secrets
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from processes import StackError

BUILD_COMMAND = "make build-local"
FUNCTION = "AWS::Serverless::Function"
LAYER = "AWS::Serverless::LayerVersion"
CONFIG_NAME = "gateway.toml"
DESTINATION_IN_CONFIG = re.compile(r"(?<=://127\.0\.0\.1:)4568(?=[/\"'])")
"""How the local configuration writes the destination's port: that of the default stack."""
ENROLLED_SUFFIX = "-enrolled"
OAUTH_SUFFIX = "-oauth"
SECRET_KEYS = ("secret", "handshake_secret")
ZIP_TIME = (2024, 1, 1, 0, 0, 0)

Template = dict[str, Any]


class _TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's tags. Dates stay text: `Version: 2012-10-17` of a policy is not a date."""


_TemplateLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _construct_tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        raise StackError(f"Not a YAML node that a template can have: !{suffix}")
    if suffix in ("Ref", "Condition"):
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _construct_tag)


def load_template(path: Path) -> Template:
    """Reads a template; tags become their long form."""
    try:
        template = yaml.load(path.read_text(), Loader=_TemplateLoader)
    except FileNotFoundError:
        raise StackError(f"There is no template {path}.") from None
    except yaml.YAMLError as problem:
        raise StackError(f"{path} is not valid YAML: {problem}") from None
    if not isinstance(template, dict) or not template.get("Resources"):
        raise StackError(f"{path} has no Resources.")
    return template


def resources_of(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    return {name: resource for name, resource in template["Resources"].items() if resource.get("Type") == kind}


def binaries_of(template: Template) -> dict[str, str]:
    """The binary of each function, by logical id, from `Metadata.BuildProperties.Binary`."""
    binaries = {}
    for name, function in resources_of(template, FUNCTION).items():
        binary = function.get("Metadata", {}).get("BuildProperties", {}).get("Binary")
        if not binary:
            raise StackError(f"The function {name} does not say its binary in Metadata.BuildProperties.Binary.")
        binaries[name] = binary
    return binaries


def require_binaries(names: list[str], directory: Path) -> None:
    missing = sorted({name for name in names if not (directory / name).is_file()})
    if missing:
        raise StackError(
            f"Not built yet: {', '.join(missing)} (looked in {directory}).\nBuild them with: {BUILD_COMMAND}"
        )


def local_config(path: Path, destination_port: int) -> bytes:
    """The gateway configuration, with this stack's destination where the file names the default stack's."""
    if path.is_dir():
        path = path / CONFIG_NAME
    if not path.is_file():
        raise StackError(f"There is no gateway configuration {path}.")
    return DESTINATION_IN_CONFIG.sub(str(destination_port), path.read_text()).encode()


def beside_config(path: Path) -> dict[str, bytes]:
    """What else is in the folder of the configuration, as contracts, by its path from there.

    Nothing beside a file of another name, which may lie anywhere.
    """
    folder = path.parent if path.name == CONFIG_NAME else path
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / CONFIG_NAME]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def secrets_of(config: bytes) -> dict[str, str]:
    """What each secret that the gateway configuration names starts as where the template does not make it.

    By its name under the stack's: `source/…` for what a source names, `destination/…` for what a destination names.
    Random text, so that its source is never open. One that the receiver itself writes, when a provider's handshake
    brings it, is empty, with enrolment closed; one that the worker writes has a refresh token.
    """
    try:
        settings = tomllib.loads(config.decode())
    except tomllib.TOMLDecodeError as problem:
        raise StackError(f"The gateway configuration is not TOML: {problem}") from None
    starts = {}
    for section, prefix in (("sources", "source/"), ("destinations", "destination/")):
        table = settings.get(section)
        # Whatever else may be wrong with it, the functions say.
        entries = [entry for entry in table.values() if isinstance(entry, dict)] if isinstance(table, dict) else []
        proofs = [entry["auth"] for entry in entries if isinstance(entry.get("auth"), dict)]
        named = {str(entry[key]) for entry in entries + proofs for key in SECRET_KEYS if key in entry}
        basic = {str(proof.get("secret")) for proof in proofs if proof.get("type") == "basic"}
        starts.update({prefix + name: initial_secret(name, is_basic=name in basic) for name in sorted(named)})
    return starts


def initial_secret(name: str, *, is_basic: bool) -> str:
    if name.endswith(ENROLLED_SUFFIX):
        return json.dumps({"keys": [], "enrolUntil": "2000-01-01T00:00:00Z"})
    if name.endswith(OAUTH_SUFFIX):
        return json.dumps({"clientSecret": secrets.token_hex(32), "refreshToken": secrets.token_hex(32)})
    return f"posthouse:{secrets.token_hex(32)}" if is_basic else secrets.token_hex(32)


def package(
    template: Template,
    binaries: Path,
    config: bytes | None,
    upload: Callable[[bytes], str],
    beside: dict[str, bytes] | None = None,
) -> Template:
    """The template with every function's code, and the configuration and what is beside it as the layer, uploaded."""
    packaged: Template = json.loads(json.dumps(template))
    for name, binary in binaries_of(packaged).items():
        archive = zip_files({"bootstrap": ((binaries / binary).read_bytes(), 0o755)})
        packaged["Resources"][name].setdefault("Properties", {})["CodeUri"] = upload(archive)
    layers = resources_of(packaged, LAYER)
    if layers and config is None:
        raise StackError(f"The template has the layer {', '.join(layers)}: give its configuration with --config.")
    files = {name: (content, 0o644) for name, content in {**(beside or {}), CONFIG_NAME: config or b""}.items()}
    for layer in layers.values():
        layer.setdefault("Properties", {})["ContentUri"] = upload(zip_files(files))
    return packaged


def zip_files(files: dict[str, tuple[bytes, int]]) -> bytes:
    """An archive of these files with these modes: the same input always makes the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (content, mode) in sorted(files.items()):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, compresslevel=1)
    return buffer.getvalue()


def file_digest(path: Path, known: dict[str, list[Any]]) -> str:
    """The SHA-256 of a file. `known` remembers it for as long as the file's size and time of change stay the same."""
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns]
    entry = known.get(str(path))
    if entry and entry[:2] == stamp:
        return str(entry[2])
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    known[str(path)] = [*stamp, digest]
    return digest


def fingerprint(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
