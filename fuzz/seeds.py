"""Seeds of the corpora: the published vectors and the presets, written as each target reads them. `make fuzz` calls it."""

import base64
import hashlib
import json
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
ROOT = FUZZ.parent

# The letters by which `header_list` chooses its schemes.
LISTS = "fabcde"


def write(target: str, seed: bytes) -> None:
    folder = FUZZ / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def event(vector: dict) -> dict:
    """A vector as API Gateway hands it over."""
    headers: dict[str, str] = {}
    for name, value in vector["headers"]:
        name = name.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    url, _, query = vector["url"].partition("?")
    host, _, path = url.removeprefix("https://").partition("/")
    return {
        "version": "2.0",
        "rawPath": f"/{path}",
        "rawQueryString": query,
        "headers": headers,
        "pathParameters": {"source": vector["scheme"]},
        "requestContext": {
            "http": {"method": vector["method"]},
            "domainName": host,
            "timeEpoch": vector["now"] * 1000,
        },
        "body": vector["body_b64"],
        "isBase64Encoded": True,
    }


def of_vector(vector: dict) -> None:
    body = base64.b64decode(vector["body_b64"])
    write("json", b"/id\n" + body)
    for target in ("api_gateway_event", "receiver"):
        write(target, json.dumps(event(vector)).encode())
    for name, value in vector["headers"]:
        if "signature" in name.lower():
            for letter in LISTS:
                write("header_list", f"{letter}{value}".encode())
        if "time" in name.lower():
            write("timestamp", f"{value}\n{vector['now'] * 1000}".encode())
        parts = value.removeprefix("Bearer ").split(".")
        if len(parts) == 3 and value.startswith(("ey", "Bearer ey")):
            token = ".".join(parts)
            write("jwt", f"{token}\n".encode() + body)
            write("jwt", f"{parts[0]}.{parts[1]}.$\n".encode() + body)
    query = vector["url"].partition("?")[2].encode()
    for letter in b"ab":
        for pairs in (body, query):
            if pairs and b"\n" not in pairs:
                write("form", bytes([letter]) + pairs + b"\n" + pairs)


def of_preset(text: str) -> None:
    write("scheme_toml", text.encode())
    for line in text.splitlines():
        key, _, value = line.partition(" = ")
        if key in ("signed", "body") and value.startswith('"'):
            write("template", json.loads(value).encode() + b"\nbody")


def main() -> None:
    for line in (ROOT / "tests/vectors/signatures.jsonl").read_text().splitlines():
        of_vector(json.loads(line))
    for preset in sorted((ROOT / "shared/presets").glob("*.toml")):
        of_preset(preset.read_text())
    write("scheme_toml", (ROOT / "infra/gateway/gateway.toml").read_bytes())
    for sample in (ROOT / "events/lambda").glob("receiver-*.json"):
        for target in ("api_gateway_event", "receiver"):
            write(target, sample.read_bytes())
    batch = json.loads((ROOT / "events/lambda/worker-batch.json").read_text())
    write("worker", "\0".join(record["body"] for record in batch["Records"]).encode())
    # What stands for the right signature and the right time, once for each list.
    for letter, value in zip(LISTS, ("t=@,v1=$", "v1,$", "h1=$", "id|$", "sha256=$", "$"), strict=True):
        write("header_list", f"{letter}{value}".encode())
    claims = {"exp": 1700000300, "sha256": base64.b64encode(hashlib.sha256(b"body").digest()).decode()}
    for algorithm in ("HS256", "HS384", "HS512"):
        parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": algorithm}, claims))
        write("jwt", f"{'.'.join(parts)}.$\nbody".encode())
    for moment in ("1700000000", "1700000000000", "2023-11-14T22:13:20Z", "2023-11-14T23:13:20.123+01:00", "18446744073709551615",
                   "-9223372036854775808", "9999-12-31T23:59:59Z"):
        write("timestamp", f"{moment}\n1700000000000".encode())
    for template in ("[id:{header:x-id};]ts:{timestamp}", "{body|sha256|hex}", "{body|lower}", "{header:x-a x-b|header-values}",
                     "{{\"a\":[[{id}]]}}", "{json:/a/*/b|crc32}"):
        write("template", template.encode() + b"\nx-a x-b BODY")


if __name__ == "__main__":
    main()
