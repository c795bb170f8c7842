"""All installed studies by name, in the order of listings; nothing here imports torch."""

from typing import Annotated, Any, Union, get_args

from pydantic import Field

from mmgrid.plugins import Plugins
from mmgrid.studies.contract import Study, StudySpec


def _check(name: str, study: Study) -> None:
    if not isinstance(study, Study):
        raise TypeError(f"expected an instance of Study, not a {type(study).__name__}")
    if study.name != name:
        raise ValueError(f"the study is called {study.name!r}, but its entry point {name!r}; give both the same name")
    kind = study.spec.model_fields.get("kind")
    if kind is None or get_args(kind.annotation) != (name,):
        raise ValueError(f'its spec needs the field kind: Literal["{name}"]')


STUDIES: Plugins[Study] = Plugins(
    "mmgrid.studies",
    "study",
    _check,
    first=("baselines", "vectors", "cross_domain", "base_model", "temporal", "temporal_parts", "recency", "advise"),
)


def _specs() -> list[type[StudySpec]]:
    """The specs of all studies that can be loaded; a broken one is left out, so that grids without it still work."""
    return [study.spec for study in STUDIES.working().values()]


StudySpecs: Any = Annotated[Union[tuple(_specs())], Field(discriminator="kind")]  # noqa: UP007 - made at run time
"""An entry of `[[studies]]` in a grid file: the spec of any installed study, selected by `kind`."""
