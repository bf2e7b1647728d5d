"""Secrets in words: keys, tokens, passwords, accounts and credentials in addresses are taken out.

By their shape, so this is the last of several defences and never the only one. Words that a model's
provider says are cleaned further, in `models.reading.failures`.
"""

import re

_SECRETS = [
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]+"), r"\1 ***"),
    (re.compile(r"\b(?:sk|gsk|xai|hf|ghp|gho|xox[a-z]|pplx|nvapi)[-_][\w*.-]{4,}"), "***"),
    (re.compile(r"\b(?:AIza|AKIA|ASIA|ya29\.)[\w-]{10,}"), "***"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+)*"), "***"),
    (
        re.compile(
            r"(?i)\b((?:x-)?(?:api|access|auth|secret|private|subscription)[-_ ]?"
            r"(?:key|token|secret)|token|secret|password|passwd|authorization|credential)(\\?[\"']?\s*[:=]\s*\\?[\"']?)"
            r"[^\s\"',;&}\\]+"
        ),
        r"\1\2***",
    ),
    (re.compile(r"://[^\s/@]+@"), "://***@"),
    (re.compile(r"(?i)([?&](?:key|sig|signature)=)[^\s\"'&]+"), r"\1***"),
    (re.compile(r"\b(?:org|proj|acct)[-_](?=[A-Za-z]*\d)[A-Za-z0-9]{8,}\b"), "<account>"),
]  # fmt: skip


def redacted(text: str) -> str:
    """The text without what looks like a secret. Takes time proportional to its length."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
