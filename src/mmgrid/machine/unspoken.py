"""Takes from a text what must not be told: tokens and passwords, before it is printed, logged or recorded.

They come into messages in addresses (`https://user:token@host`), in answers of servers, and as values of environment
variables that a grid file names.
"""

import os
import re

# Of an address; a path that was made of one has a single slash, and then only a user with a password is told apart.
_USER = re.compile(r"(?<=://)[^/@\s]*@|(?<=\w:/)[^/@:\s]*:[^/@\s]*@")
_QUERY = re.compile(
    r"([?&][\w-]*(?:token|key|secret|signature|password|credential|sig)[\w-]*=)[^&\s'\"]+", re.IGNORECASE
)
_TOKEN = re.compile(r"\b(hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_]{20,}")
_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PRIVATE_KEY|ACCESS_KEY|API_?KEY|CREDENTIALS?)(?:_|$)",
    re.IGNORECASE,
)
_LEAST_CHARACTERS = 8  # shorter values, such as `true`, are no secrets, and are parts of other words


def unspoken(value: object) -> str:
    """`value` as text, without tokens and passwords.

    Users and passwords of addresses become `…`, tokens in them and those of known forms as well. The value of an
    environment variable whose name tells that it is secret, such as HF_TOKEN, becomes `${HF_TOKEN}`.
    """
    text = str(value)
    for name, secret in os.environ.items():
        is_path = secret.startswith(("/", "~", "."))  # GOOGLE_APPLICATION_CREDENTIALS is where they are
        if len(secret) >= _LEAST_CHARACTERS and not is_path and secret in text and _NAME.search(name):
            text = text.replace(secret, f"${{{name}}}")
    text = _USER.sub("…@", text)
    text = _QUERY.sub(r"\1…", text)
    return _TOKEN.sub(r"\1…", text)
