"""Three kinds of wrong.

- `RemoteError`: a peer's fault. It has a wire code, becomes a refusal, and never escapes the kernel
  except as the answer to somebody who asked a peer for something.
- `LocalError`: the caller's fault, or this machine's. It raises, and its text says the remedy.
- `assert`: our own bug.

`CODES` is the whole vocabulary of refusals on the wire; `docs` of a code is what it means to the sender.
"""

from __future__ import annotations

from typing import Final

CODES: Final[dict[str, str]] = {
    # before the signature holds: unsigned, rate-limited link frames
    "malformed": "the bytes are not a message of this protocol",
    "too_large": "larger than this node accepts",
    "not_grid": "the first element is not \"grid\"",
    "future_grid": "a later version of the protocol, which this node does not speak",
    "wrong_grid": "a message for another grid",
    "bad_cid": "a CID is not well formed",
    "bad_claims": "the claims are not a valid claims set",
    "no_expiry": "the message carries no expiry",
    "expired": "the message has expired",
    "not_yet_valid": "the message is not valid yet",
    "wrong_audience": "the message is meant for somebody else",
    "bad_signature": "the signature does not hold",
    "busy": "too much at once; try again later",
    # link
    "hello": "the peer did not prove who it is",
    "closed": "the link closed",
    # after the signature: signed refusals
    "not_member": "the sender is not a member of this grid",
    "bad_invitation": "the invitation is unknown, used up or expired",
    "banned": "this node's owner has nothing to do with that key",
    "not_serving": "this node's owner has not said that it runs programs for others",
    "bad_capability": "a capability that does not hold, or does not fit the one before it in its chain",
    "not_my_promise": "another node made the promise, and only that node keeps it",
    "not_holder": "the capability was promised to somebody else",
    "widened": "a delegation that says more than the promise it rests on",
    "revoked": "the promise was taken back",
    "used_up": "the promise was for so many uses, and they are gone",
    "not_permitted": "the capability does not promise this call",
    "broken": "the promise was broken by who made it",
    "no_such_protocol": "this node does not know the protocol",
    "not_found": "nobody has the content",
    "bad_block": "the bytes do not hash to their CID",
    "bad_args": "the arguments do not fit the function",
    "bad_file": "the content is not a file or folder",
    "not_wasm": "not a WebAssembly module",
    "invalid_wasm": "a WebAssembly module that does not validate",
    "bad_import": "the module asks for an import that is not offered",
    "no_such_function": "the module exports no such function",
    "unsupported": "the module uses a feature that is refused",
    "too_complex": "the module is too costly to compile",
    "trap": "the program trapped",
    "out_of_fuel": "the program used up its fuel",
    "out_of_time": "the program used up its time",
    "out_of_memory": "the program asked for more memory than its budget",
    "stack_overflow": "the program recursed too deeply",
    "output_too_large": "the program wrote more than its budget",
    "bad_result": "the program returned a value that cannot be expressed",
    "not_for_you": "a message inside a message that its signer meant for somebody else",
    "too_deep": "messages are nested too deeply, or too many of them",
    "unknown_edit": "an edit builds on one that is not known here",
    "bad_tree": "not a scenario tree",
    "disagreement": "peers that ran the same task signed different results",
    "cancelled": "the call was cancelled",
    "disk_full": "the store is full",
    "internal": "a fault of this node",
}


OF_THE_PROGRAM: Final = frozenset({"trap", "out_of_fuel", "stack_overflow", "bad_args", "bad_result"})
"""Refusals that say something about a task, and must therefore be the same on every machine."""


class RemoteError(Exception):
    """A peer's fault, or a task's: a wire code of `CODES` and one sentence for a person."""

    def __init__(self, code: str, text: str = "") -> None:
        assert code in CODES, code
        super().__init__(f"{text or CODES[code]}")
        self.code = code
        self.text = text or CODES[code]

    @classmethod
    def from_wire(cls, code: str, text: str) -> RemoteError:
        """What a peer said, whatever it said: an unknown code becomes `internal`.

        And "cancelled" becomes "closed": here it means that whoever waits was called off, which is no peer's
        to say; what is under way with others would be given up for it.
        """
        known = "closed" if code == "cancelled" else code if code in CODES else "internal"
        return cls(known, "".join(c for c in text if c.isprintable())[:1024] or CODES.get(code, ""))


class LocalError(Exception):
    """The caller's fault, or this machine's. The text names the input and says the remedy."""

    def __init__(self, text: str, code: str = "local") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
