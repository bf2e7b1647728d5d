"""The secret of a receiver, and the signature that proves who sent a webhook (Standard Webhooks).

Nothing is sent here.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from pullcord.engine.notices import Notice

PREFIX = "whsec_"
_LEAST, _MOST = 24, 64
"""Bytes of a secret."""


def read_secret(text: str) -> bytes:
    """The key in a secret. Raises ValueError, without the secret in its words."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or not _LEAST <= len(key) <= _MOST:
        raise ValueError(
            f"must be {PREFIX} and the base64 of {_LEAST} to {_MOST} bytes, such as"
            f' "{PREFIX}$(openssl rand -base64 32)"; several, with blanks between them, while'
            " receivers change from one to another"
        )
    return key


def message_id(notice: Notice) -> str:
    """The same at every try, and another one for every end and every pause."""
    said = (*notice.scope, notice.run_id, str(notice.question), repr(notice.note_time))
    whole = hashlib.sha256("\0".join(said).encode("utf-8", "surrogatepass"))
    return f"msg_{whole.hexdigest()[:32]}"


def signature(keys: Iterable[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The value of the header webhook-signature."""
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    made = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return " ".join(f"v1,{one}" for one in made)
