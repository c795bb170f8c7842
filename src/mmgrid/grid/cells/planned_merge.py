"""One merge of `[[merges]]`, planned for one paradigm and one served domain: its recipe with all defaults, and its models.

The recipe names its models by role: `source:NAME`, `base`, `base:WORD` (of a rule), and `own`, the newest checkpoint of
the served domain. It has the keys of a merge of pairs (method, weights, scale, options, seed), `rules`, and where they are
needed `draw` and `token_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.merges import drawn_by
from mmgrid.grid.file.merges import (
    BACKBONE,
    HISTORICAL,
    IN_ONE_GO,
    LAYERS,
    NEUTRAL,
    OTHERS,
    OWN,
    PHASES,
    Merge,
    Rule,
    Settings,
)
from mmgrid.grid.file.spec import TinyBackbone
from mmgrid.paradigms import PARADIGMS
from mmgrid.patterns import listed

if TYPE_CHECKING:
    from mmgrid.grid.cells.general_merges import GeneralMerges

AVERAGE = "linear"  # of a neutral base
LEARNED = "learned"  # the role, and the kind, of the cell in which weights or statistics are learned
SUMS = ("task_arithmetic", "linear")  # the methods whose weights can be learned
_TIMES = (*(f"t{number}" for number in range(len(PHASES))), IN_ONE_GO)  # how names of sources end, the oldest first
_NO_TENSORS: Any = {}  # stands for a base, whose tensors are not read while a grid is planned


def takes_own(merge: Merge) -> bool:
    """Whether some tensors are those of the served domain's own model."""
    return any(settings.take == OWN for settings in merge.all_settings.values())


def newest(names: Iterable[str]) -> str:
    """Of sources of one domain (`garden/t0`, `t1`, `garden`), that of the newest phase; a domain alone is its newest."""

    def age(name: str) -> tuple[int, str]:
        time = name.rpartition("/")[2]
        return _TIMES.index(time) if time in _TIMES else len(_TIMES), name

    return max(names, key=age)


def with_learner(merge: Merge) -> Merge:
    """A learned merge with the method that its learner is for, unless it names one."""
    if merge.learn is None or "method" in merge.model_fields_set:
        return merge
    from mmgrid.learning.settings import KINDS

    learner = str(merge.learn["by"])
    return merge.model_copy(update={"method": learner if learner in KINDS else SUMS[0]})


def bases_of(merge: Merge) -> Iterator[str]:
    """The bases that a merge and its rules name."""
    yield from (one.base for one in (merge, *merge.all_settings.values()) if one.base)


@dataclass
class PlannedMerge:
    """One merge as it serves a domain.

    Attributes:
        recipe: its values, for a fingerprint.
        upstream: role → the cell of a model.
        names: word in the grid file → name of the source in the recipe.
        domains: name of the source → its domain.
    """

    merges: GeneralMerges
    paradigm: str
    merge: Merge
    domain: str
    recipe: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, Cell] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, merges: GeneralMerges, paradigm: str, merge: Merge, domain: str, draw: int = 0) -> PlannedMerge:
        """Plan a merge. draw: of its random masks.

        Raises:
            GridError: a model does not exist, or method and settings do not fit; the message names merge and key.
        """
        merge = with_learner(merge)
        planned = cls(merges, paradigm, merge, domain)
        planned._add_sources()
        own, random = planned._settings("", merge, base=merge.base, scale=merge.scale)
        planned.recipe |= own | {"seed": drawn_by(merges.sources.seed, draw)}
        rules = []
        for place, settings in merge.all_settings.items():
            found, also = planned._rule(place, settings)
            rules.append(planned._where(place, settings) | found)
            random = random or also
        if merge.draws > 1 and not random:
            raise planned._wrong(
                "draws", f"{merge.draws} draws would be alike, since nothing here is random; remove it"
            )
        planned.recipe["rules"] = rules
        planned.recipe |= {"draw": draw} if draw else {}
        planned.recipe |= planned._token_rows(domain)
        if merge.learn is not None:
            planned._learn()
        if takes_own(merge) or domain not in planned.domains.values():
            planned.upstream[OWN] = planned._checkpoint("evaluate_on", f"{domain}/{merges.chains.phases[-1]}")
        return planned

    @property
    def whose(self) -> tuple[str, ...]:
        """The served domain, if the merge differs by the domain that it serves: a part of the names of its cells."""
        return (self.domain,) if self._models_differ or self._rows_differ else ()

    @property
    def _models_differ(self) -> bool:
        for_all = len((self.paradigm, self.merge.name, *self.merges.sources.suffix))
        of_one = any(base.kind == "merge" and len(base.key) > for_all for base in self._bases)
        return of_one or self.merges.per_domain(self.merge)

    @property
    def _rows_differ(self) -> bool:
        """Whether the served domains take their rows for codes by other names."""
        first, *others = [self._token_rows(domain) for domain in self.merges.served(self.merge)]
        return any(rows != first for rows in others)

    @property
    def _bases(self) -> list[Cell]:
        """The models from which task vectors start."""
        return [cell for role, cell in self.upstream.items() if role.partition(":")[0] == "base"]

    def _learn(self) -> None:
        """Let the weights or statistics be learned, in a cell of their own, from the domains of the sources."""
        from mmgrid.learning.errors import LearningError
        from mmgrid.learning.settings import KINDS, LearningSettings

        merge, sources = self.merge, self.merges.sources
        values = {"seed": sources.seed, **(merge.learn or {})}
        learner = str(values.pop("by"))
        try:
            settings = LearningSettings.of(learner, values)
        except LearningError as error:
            raise self._wrong("learn", str(error)) from None
        for key, default in (("weights", {}), ("draws", 1), ("all_settings", {}), ("scale", 1.0)):
            if getattr(merge, key) != default:
                told = "rules, towers and layers" if key == "all_settings" else key
                raise self._wrong("learn", f"{told}: a learned merge has its own; leave them out")
        if learner not in KINDS and merge.method not in SUMS:
            raise self._wrong("learn", f"{learner} learns the weights of {' or '.join(SUMS)}, not of {merge.method}")
        told = {"by": learner, "domains": dict(self.domains), **settings.model_dump(mode="json")}
        self.recipe["learn"] = told
        corpora = {f"corpus:{domain}": sources.corpora[domain] for domain in sorted(set(self.domains.values()))}
        whose = (self.domain,) if self._models_differ else ()
        left = (
            {"token_rows"} if self._rows_differ else set[str]()
        )  # nothing is learned about them: once for all domains
        recipe = {key: value for key, value in self.recipe.items() if key not in left}
        key = (self.paradigm, merge.name, *whose, *sources.suffix)
        self.upstream[LEARNED] = Cell(LEARNED, key, recipe, {**self.upstream, **corpora})

    # ---- models by their names -------------------------------------------------------------------------------------

    def _add_sources(self) -> None:
        given: dict[Cell, str] = {}
        for word in self.merge.sources or self.merges.domains:
            cell = self._checkpoint("sources", word)
            if cell in given:
                raise self._wrong("sources", f"{given[cell]} and {word} are the same checkpoint")
            given[cell] = word
            # Phases are called t0, t1, t2: chains over time run in the order of the names.
            of, slash, phase = word.rpartition("/")
            name = f"{of}{slash}t{PHASES.index(phase)}" if phase in PHASES else word
            self.names[word] = name
            self.domains[name] = self.domain if word in PHASES else word.partition("/")[0]
            self.upstream[f"source:{name}"] = cell

    def _checkpoint(self, key: str, word: str) -> Cell:
        """The checkpoint that a word means for the served domain."""
        of, _, phase = word.partition("/")
        if not phase:
            of, phase = (self.domain, of) if of in PHASES else (of, self.merges.chains.phases[-1])
        chain = self.merges.chains.checkpoints[self.paradigm].get(of, {})
        if phase not in chain:
            has = ", ".join(chain) or "none"
            raise self._wrong(key, f"{self.paradigm} has no checkpoint of {of} at {phase}; it has {has}")
        return chain[phase]

    def _base(self, key: str, word: str) -> Cell:
        """The model that a base means for the served domain."""
        merges, old = self.merges, self.merges.chains.phases[-2]
        if word == BACKBONE:
            if self.paradigm not in merges.chains.bases:
                remedy = f"it needs [backbone] and [paradigms.{self.paradigm}]"
                if not PARADIGMS[self.paradigm].from_backbone:
                    remedy = f"write {HISTORICAL}, or a checkpoint, such as {PHASES[0]}"
                raise self._wrong(key, f"{self.paradigm} has no base Θ⁽⁰⁾; {remedy}")
            return merges.chains.bases[self.paradigm]
        if word == HISTORICAL:
            return self._checkpoint(key, f"{self.domain}/{old}")
        if word == NEUTRAL:
            return self._average(
                {one: self._checkpoint(key, f"{one}/{old}") for one in sorted(set(self.domains.values()))}
            )
        if word not in merges.named:
            return self._checkpoint(key, word)
        start = merges.start_of(self.merge, key, word)
        if self.paradigm not in merges.paradigms(start):
            raise self._wrong(key, f"{word} is no merge of {self.paradigm}; add it to the paradigms of {word}")
        return merges.kept(self.paradigm, start, self.domain)

    def _average(self, checkpoints: Mapping[str, Cell]) -> Cell:
        """The mean of checkpoints, eq. 8."""
        from mmgrid.merging import get_method

        sources = self.merges.sources
        recipe = {
            "method": AVERAGE,
            "weights": dict.fromkeys(checkpoints, 1.0),
            "scale": 1.0,
            "options": get_method(AVERAGE).resolve({}),
            "seed": sources.seed,
        }
        key = (self.paradigm, f"{NEUTRAL}={'+'.join(checkpoints)}", *sources.suffix)
        return Cell("merge", key, recipe, {f"source:{domain}": cell for domain, cell in checkpoints.items()})

    # ---- settings ----------------------------------------------------------------------------------------------------

    def _rule(self, place: str, settings: Settings) -> tuple[dict[str, Any], bool]:
        """The settings of a rule, and whether its masks are random; what it leaves out is the merge's."""
        from mmgrid.merging import METHODS

        if settings.take == OWN:
            return {"own": True}, False
        method = settings.method or self.merge.method
        takes_base = method not in METHODS or METHODS[method].base != "none"
        base = settings.base or (self.merge.base if takes_base else None)
        inherited = 1.0 if not takes_base else self.merge.scale  # without a base there is no delta to scale
        options = settings.options if settings.options is not None else {} if settings.method else self.merge.options
        full = Settings(method=method, options=options, weights={**self.merge.weights, **(settings.weights or {})})
        return self._settings(place, full, base=base, scale=inherited if settings.scale is None else settings.scale)

    def _settings(
        self, place: str, settings: Merge | Settings, *, base: str | None, scale: Any
    ) -> tuple[dict[str, Any], bool]:
        """Method, options, weights and scale with all defaults, the role of the base; and whether masks are random."""
        from mmgrid.merging import MergeError, get_method
        from mmgrid.merging.plan.program import apply_method

        try:
            method = get_method(str(settings.method))
            word = base or (BACKBONE if method.base == "required" else None)
            applied = apply_method(
                method,
                self.domains,
                _NO_TENSORS if word else None,
                self._weights(place, settings.weights or {}),
                scale,
                self._named_options(method.per_source, settings.options or {}),
            )
        except MergeError as error:
            raise self._wrong(place, str(error)) from None
        found = {
            "method": method.name,
            "weights": dict(zip(sorted(self.domains), applied.weights, strict=True)),
            "scale": applied.scale,
            "options": dict(applied.options),
        }
        if word:
            cell = self._base(f"{place}.base".lstrip("."), word)
            role = "base" if not place or self.upstream.get("base") == cell else f"base:{word}"
            self.upstream[role] = cell
            found |= {"base": role} if place else {}
        return found, any(stage.random for of_source in applied.stages for stage in of_source)

    def _weights(self, place: str, given: Mapping[str, float]) -> dict[str, float]:
        unknown = sorted(given.keys() - {*self.names, OWN, OTHERS})
        if unknown:
            known = ", ".join(self.names)
            key = f"{place}.weights".lstrip(".")
            raise self._wrong(key, f"there is no source {', '.join(unknown)}; write {known}, {OWN} or {OTHERS}")
        found = {}
        for word, name in self.names.items():
            kind = OWN if self.domains[name] == self.domain else OTHERS
            if word in given or kind in given:
                found[name] = given[word] if word in given else given[kind]
        return found

    def _named_options(self, per_source: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, with the names of sources in place of the words of the grid file."""
        found = dict(options)
        for option in per_source:
            value = found.get(option)
            if isinstance(value, Mapping):
                found[option] = {self.names.get(word, word): own for word, own in value.items()}
        return found

    def _where(self, place: str, settings: Settings) -> dict[str, Any]:
        """The tensors that settings are for: patterns of their names, their layers, or both."""
        if isinstance(settings, Rule):
            return {"tensors": [*listed(settings.tensors)]}
        kind, _, name = place.partition(".")
        towers = PARADIGMS[self.paradigm].towers
        if kind == "towers":
            return {"tensors": list(towers[name])}
        found = LAYERS.fullmatch(name)
        assert found is not None  # the file is checked
        first, last, tower = found["first"], found["last"] or found["first"], found["tower"] or ""
        number = self._layers(tower)
        if first and number is not None and int(last) >= number:
            whole = f"the tower {tower}" if tower else "the model"
            raise self._wrong(place, f"{whole} has no layer {last}; it has 0 to {number - 1}")
        where: dict[str, Any] = {"layers": [int(first), int(last)] if first else "outside"}
        return where | ({"tensors": list(towers[tower])} if tower else {})

    def _layers(self, tower: str) -> int | None:
        """The number of layers of a tower or of the whole model, if the grid file tells it."""
        spec = self.merges.chains.spec
        if any(one.paradigm == self.paradigm for one in spec.checkpoints):
            return None  # models from elsewhere may have other layers
        of_backbone = spec.backbone.layers if isinstance(spec.backbone, TinyBackbone) else None
        return PARADIGMS[self.paradigm].layers(spec.recipe(self.paradigm), tower, of_backbone)

    def _token_rows(self, domain: str) -> dict[str, Any]:
        """Whose rows for codes the merge has as it serves a domain, if not those of the source that is called like it.

        Checkpoints of one domain have the same codes, so their rows are merged like all others.
        """
        if not PARADIGMS[self.paradigm].own_token_rows:
            return {}
        of_base = {cell.key[1] if cell.kind == "checkpoint" else "" for cell in self._bases}
        if {*self.domains.values(), *of_base} == {domain}:
            return {"token_rows": "merge"}
        if domain in self.domains:
            return {}
        return {"token_rows": newest(name for name, of in self.domains.items() if of == domain)}

    def _wrong(self, key: str, problem: str) -> Exception:
        return self.merges.wrong(self.merge, key, problem)
