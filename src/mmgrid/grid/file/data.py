"""`[data]`: where the interactions and items come from, how they are read, and how they are prepared."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from mmgrid.data import READERS
from mmgrid.data.catalogue import Catalogue
from mmgrid.data.readers import TableOptions
from mmgrid.frozen import Frozen
from mmgrid.grid.file.expected import ExpectedDomain
from mmgrid.grid.file.names import folder_name, not_in_grid
from mmgrid.paradigms import Compat


class SyntheticValues(Frozen):
    """Numbers of a synthetic domain (see `mmgrid.data.synthetic.WorldDomain`); a number that is left out has its default."""

    users: int | None = None
    items: int | None = None
    mean_interactions: float | None = None
    item_life_days: float | None = None
    drift: float | None = None
    wander: float | None = None
    gifts: float | None = None
    growth: float | None = None
    popularity: float | None = None
    taste_dimensions: int | None = None
    taste_strength: float | None = None
    sequence_strength: float | None = None
    shared_words: float | None = None
    items_of: str | None = None


class SyntheticSpec(SyntheticValues):
    """The numbers of the synthetic world: for all domains, and for single domains."""

    domains: dict[str, SyntheticValues] = Field(default_factory=dict)

    def values(self, domain: str) -> dict[str, Any]:
        own = self.domains.get(domain, SyntheticValues())
        return self.model_dump(exclude={"domains"}, exclude_none=True) | own.model_dump(exclude_none=True)


class DataSpec(TableOptions):
    """Where the interactions and items come from, how they are read, and how they are prepared."""

    format: str
    root: str | None = Field(default=None, description="folder of the raw files; not for `synthetic`")
    domains: tuple[str, ...] = Field(min_length=1)
    min_interactions: int = Field(default=5, ge=1)
    max_items: int | None = Field(
        default=None, ge=1, description="the items with most interactions, for small machines"
    )
    max_users: int | None = Field(default=None, ge=1, description="a deterministic sample of users, for small machines")
    catalogue: Catalogue = "closed"
    compat: Compat | None = Field(default=None, description="for the preparation only; default: that of the grid")
    synthetic: SyntheticSpec | None = Field(
        default=None, description="numbers of the synthetic world; only for `synthetic`"
    )
    expected: dict[str, ExpectedDomain] = Field(
        default_factory=dict, description="domain → its size, for plans before its data are there"
    )

    @field_validator("domains")
    @classmethod
    def _names_of_folders(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            folder_name(domain)
        repeated = sorted({domain for domain in domains if domains.count(domain) > 1})
        if repeated:
            raise ValueError(f"named twice: {', '.join(repeated)}")
        return domains

    @model_validator(mode="after")
    def _format_and_root_fit(self) -> "DataSpec":
        formats = (*READERS, "synthetic")
        if self.format not in formats:
            raise ValueError(f"format {self.format!r} is unknown; known are {', '.join(formats)}")
        if self.format == "synthetic" and self.root is not None:
            raise ValueError("root: the synthetic world has no raw files; remove this key")
        if self.format != "synthetic" and self.root is None:
            raise ValueError(f"root: is missing; format {self.format!r} needs the folder of the raw files")
        if self.format != "synthetic" and self.synthetic is not None:
            raise ValueError(f"synthetic: these values are for format 'synthetic', not {self.format!r}")
        if unknown := sorted(set(self.expected) - set(self.domains)):
            raise ValueError(f"expected: {not_in_grid(unknown, self.domains)}")
        takes = READERS[self.format].takes if self.format != "synthetic" else frozenset[str]()
        for key, field in TableOptions.model_fields.items():
            if key not in takes and getattr(self, key) != field.default:
                raise ValueError(f"{key}: format {self.format!r} does not take this key; remove it")
        pattern = self.interactions
        if pattern and "{domain}" not in pattern and self.columns.domain is None and len(self.domains) > 1:
            raise ValueError(
                f"interactions: {pattern!r} holds all domains; name the column that tells them apart: columns = {{ domain "
                '= "…" }, or write {domain} into the path'
            )
        return self

    @property
    def table_options(self) -> TableOptions:
        """How the raw tables are read."""
        return TableOptions(**{key: getattr(self, key) for key in TableOptions.model_fields})
