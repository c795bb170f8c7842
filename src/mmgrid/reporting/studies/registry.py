"""Finds the view of a study: the one that the study names, else the generic one."""

import pkgutil

from mmgrid.reporting.studies.generic import generic_view
from mmgrid.reporting.studies.view import View
from mmgrid.studies.registry import STUDIES


def view(name: str) -> View:
    """How the study with this name is shown.

    Raises:
        ValueError: the study names a view that cannot be imported, or is not a `View`.
    """
    study = STUDIES[name]
    if not study.view:
        return generic_view(study)
    try:
        found = pkgutil.resolve_name(study.view)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"study {name!r}: its view {study.view!r} cannot be imported: {error}") from error
    if not isinstance(found, View):
        raise ValueError(f"study {name!r}: {study.view!r} is not a mmgrid.reporting.studies.view.View")
    return found
