"""python-cwt as a process: one JSON request a line on stdin, one JSON answer a line on stdout.

Runs in .venv-cwt, because cwt and our own cbor2 exclude each other; it knows nothing of this project. Bytes
are hexadecimal, claims and headers CBOR. A detached or untagged COSE_Sign1 is made and read by taking its
four elements apart here: cwt writes only tagged and attached ones.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import cbor2
from cwt import COSE, CWT, COSEKey

Request = dict[str, Any]


def key_of(request: Request) -> Any:
    return COSEKey.from_jwk(request["key"])


def sign(request: Request) -> bytes:
    """key, payload, header, tagged, detached → COSE_Sign1."""
    made = COSE.new().encode_and_sign(
        bytes.fromhex(request["payload"]),
        key_of(request),
        protected=cbor2.loads(bytes.fromhex(request["header"])),
        out="cbor2/CBORTag",
    )
    assert isinstance(made, cbor2.CBORTag) and made.tag == 18
    protected, unprotected, payload, signature = made.value
    parts = [protected, unprotected, None if request["detached"] else payload, signature]
    return cbor2.dumps(cbor2.CBORTag(18, parts) if request["tagged"] else parts)


def verify(request: Request) -> bytes:
    """key, data, payload (None when attached) → the payload."""
    item = cbor2.loads(bytes.fromhex(request["data"]))
    tagged = item if isinstance(item, cbor2.CBORTag) else cbor2.CBORTag(18, item)
    payload = request["payload"]
    detached = None if payload is None else bytes.fromhex(payload)
    return bytes(COSE.new().decode(tagged, key_of(request), detached_payload=detached))


def encode_cwt(request: Request) -> bytes:
    """key, claims, tagged → CWT."""
    claims = cbor2.loads(bytes.fromhex(request["claims"]))
    return bytes(CWT.new().encode(claims, key_of(request), tagged=request["tagged"]))


def decode_cwt(request: Request) -> bytes:
    """key, data → claims. The examples expired long ago: any time is good. A kid is not insisted on."""
    reader = CWT.new(leeway=1 << 40)
    reader.cose.verify_kid = False
    return cbor2.dumps(reader.decode(bytes.fromhex(request["data"]), key_of(request)))


def main() -> None:
    """Answer until stdin ends: {"ok": hex} or {"error": text}."""
    verbs = {"sign": sign, "verify": verify, "encode_cwt": encode_cwt, "decode_cwt": decode_cwt}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": verbs[request["do"]](request).hex()}
        except Exception as error:  # noqa: BLE001 - whatever a referee finds wrong is its answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
