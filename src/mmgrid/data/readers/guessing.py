"""Guesses what the columns of a table hold, from their names."""

import re

# For each role, the names that tables of the wild give it, the surest first; compared without case, - and _.
_NAMES = {
    "user": "userid uid user reviewerid customerid visitorid accountid memberid sessionid customer visitor username userpseudoid session",
    "item": "itemid iid item parentasin asin productid articleid businessid movieid isbn sku contentid newsid trackid product "
    "article movie content track",
    "time": "timestamp time ts datetime eventtime createdat unixreviewtime timestampms clicktime date tdat day",
    "title": "title itemtitle producttitle movietitle booktitle name itemname productname prodname headline",
    "description": "description itemdescription productdescription detaildesc text abstract summary",
    "rating": "rating stars score overall",
    "domain": "domain shop store market marketplace site",
}


def guess_column(present: list[str], role: str) -> str | None:
    """The column that most likely has this role (a field of `Columns`); None if no name suggests it."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(present)}
    if role == "id":
        return guess_column(present, "item") or plain.get("id")
    return next((plain[name] for name in _NAMES.get(role, "").split() if name in plain), None)
