"""The checksum of `family.json`: of all that says what lies where.

The paths of the shared model and of the base are left out, so that whoever moves these may mend them by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def checksum_of(value: Mapping[str, Any]) -> str:
    """The SHA-256 (hex) of a family in its JSON form.

    Raises:
        ValueError: a text in it is no Unicode, such as half of a surrogate pair.
    """
    places = {key: (value.get(key) or {}).get("files") for key in ("shared", "base")}
    told = {"domains": value["domains"], **places}
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
