"""Reads the data of a page back, and waits until its figures are drawn."""

import json
import re

import polars as pl


def read_payload(text):
    return json.loads(re.search(r'<script type="application/json" id="payload">(.*?)</script>', text, re.S)[1])


def data_set(payload, name):
    """A data set of the page as a frame."""

    def unpacked(column):
        return column if isinstance(column, list) else [column["texts"][place] for place in column["places"]]

    return pl.DataFrame({key: unpacked(column) for key, column in payload["data"][name].items()}, strict=False)


def plain(text):
    """A page without the links to its glossary, so that sentences can be found in it."""
    return re.sub(r"</?a\b[^>]*>", "", text)


def figure(payload, name):
    return next(found for found in payload["figures"] if found["id"] == name)


def wait_until_drawn(page, times):
    page.wait_for_function("times => Number(document.documentElement.dataset.drawn) >= times", arg=times)
