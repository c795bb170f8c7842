"""The language of the synthetic world: words that encode the position of an item in the space of tastes.

Each taste dimension has two poles. Each pole has a few English words that all domains share and, per domain, the same
number of made-up words. Texts also name the kind of thing (noun), its brand and its series. So a model that reads
texts can place an item that it has never seen. Shapes: N items, D taste dimensions.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def _each(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# One dimension per line: negative pole, positive pole.
_POLES = (
    ("vintage antique classic heritage rustic retro", "modern digital wireless smart neon electric"),
    ("cozy hearth indoor family gentle homely", "alpine trail summit wild rugged camping"),
    ("sunny pastel bright golden cheerful radiant", "midnight shadow gothic noir haunted obsidian"),
    ("giant deluxe grand heavy jumbo massive", "compact mini pocket slim travel portable"),
    ("desert canyon prairie western sandy mesa", "ocean coastal nautical coral harbor tidal"),
    ("professional formal tactical precision expert executive", "playful cartoon silly puzzle carnival bubbly"),
    ("mechanical steel turbo industrial engine carbon", "botanical floral organic meadow herbal forest"),
    ("space lunar quantum robot orbit atomic", "dragon wizard mythic enchanted castle fairy"),
    ("thrifty simple plain basic everyday sturdy", "luxury velvet silk royal opulent jeweled"),
    ("tropical summer ember spicy volcanic blazing", "arctic frost winter glacier icy polar"),
    ("calm zen silent serene drifting mellow", "rapid racing sprint bold thunder extreme"),
    ("lonely solo private quiet hidden remote", "party social festival team parade crowd"),
)
MOST_DIMENSIONS = len(_POLES)
_SHARED = tuple(tuple(_each(pole) for pole in poles) for poles in _POLES)

_NOUNS = _each(
    "adventure album almanac armchair atlas backpack banner basket blanket board bottle bowl bracelet camera "
    "candle canvas case chronicle clock companion controller costume cover cushion diary drum figure flask "
    "game garden guide guitar hammock handbook headset helmet jacket journey kettle keyboard kit knife lamp "
    "lantern legend mat mirror model mug mystery notebook novel organizer poster pouch quilt radio ring saga "
    "saddle scarf speaker story tent thermos ticket tool tower toy tracker tripod vase vest wallet watch wheel"
)

_OPENINGS = (
    "A {0} {noun} for {1} days",
    "This {0} {noun} brings a {1} touch",
    "Made by {brand} for lovers of {0} and {1} things",
    "The {0} choice when you want a {1} {noun}",
    "Everything {0} about a {noun}, with a {1} finish",
    "{brand} takes the {noun} somewhere {0} and {1}",
)
_CLOSINGS = (
    " Number {volume} of the {series} series.",
    " Goes well with anything {2}, and with the rest of {series}.",
    " A {2} addition to the {series} line.",
    " Fans of {2} and {3} will not put it down.",
    "",
    "",
)
_ONSETS = _each("b br d dr f g gl h j k kr l m n p pr r s st t tr v w z")
_VOWELS = _each("a e i o u ai eo ia")
_CODAS = _each("l m n r s t x nd rk sh")

_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")

# Probability that a word belongs to another pole than that of the item.
_WRONG_WORD = 0.08


@dataclass(frozen=True)
class Vocabulary:
    """A domain's words. own[d][pole]: made-up attribute words; nouns, brands and series by their number."""

    own: tuple[tuple[tuple[str, ...], ...], ...]
    nouns: tuple[str, ...]
    brands: tuple[str, ...]
    series: tuple[str, ...]


def vocabulary(random: np.random.Generator, dimensions: int, n_nouns: int, n_brands: int, n_series: int) -> Vocabulary:
    """Draw a domain's words; each made-up word has one meaning."""
    per_pole = len(_SHARED[0][0])
    made = _made_up(random, dimensions * 2 * per_pole + n_brands + n_series)
    poles = [tuple(made[start : start + per_pole]) for start in range(0, dimensions * 2 * per_pole, per_pole)]
    names = [word.capitalize() for word in made[dimensions * 2 * per_pole :]]
    nouns = random.choice(len(_NOUNS), n_nouns, replace=False)
    return Vocabulary(
        tuple((poles[2 * d], poles[2 * d + 1]) for d in range(dimensions)),
        tuple(_NOUNS[noun] for noun in nouns),
        tuple(names[:n_brands]),
        tuple(names[n_brands:]),
    )


def item_texts(
    random: np.random.Generator,
    words: Vocabulary,
    vectors: npt.NDArray[np.float64],
    nouns: npt.NDArray[np.int64],
    brands: npt.NDArray[np.int64],
    series: npt.NDArray[np.int64],
    volumes: npt.NDArray[np.int64],
    shared_words: float,
) -> tuple[list[str], list[str]]:
    """Titles of 3 to 8 words and descriptions of one or two sentences.

    Args:
        vectors: float[N, D], positions of the items; large components get words.
        nouns, brands, series, volumes: int[N], numbers of an item's noun, brand and series, and its position in the
            series (from 0).
        shared_words: probability that an attribute word comes from the shared vocabulary.
    """
    count = len(vectors)
    attributes = _attributes(random, words, vectors, shared_words, 8)
    n_adjectives = random.integers(2, 5, count)
    named, numbered = random.random(count) < 0.6, random.random(count) < 0.5
    opening, closing = random.integers(len(_OPENINGS), size=count), random.integers(len(_CLOSINGS), size=count)
    titles, descriptions = [], []
    for item in range(count):
        noun, brand, line = words.nouns[nouns[item]], words.brands[brands[item]], words.series[series[item]]
        rest = attributes[item][4:]
        adjectives = dict.fromkeys(attributes[item][: n_adjectives[item]])  # each once
        parts = [brand, *(word.capitalize() for word in adjectives), noun.capitalize()]
        parts += [line] * bool(named[item]) + [str(volumes[item] + 1)] * bool(named[item] and numbered[item])
        titles.append(" ".join(parts))
        values = {"noun": noun, "brand": brand, "series": line, "volume": volumes[item] + 1}
        first = _OPENINGS[opening[item]].format(*rest, **values)
        text = first + "." + _CLOSINGS[closing[item]].format(*rest, **values)
        descriptions.append(_BEFORE_VOWEL.sub(r"\1n ", text))
    return titles, descriptions


def _attributes(
    random: np.random.Generator,
    words: Vocabulary,
    vectors: npt.NDArray[np.float64],
    shared_words: float,
    per_item: int,
) -> list[list[str]]:
    """Words for each item: dimensions drawn by the square of the component, the pole by its sign."""
    count, dimensions = vectors.shape
    weights = np.cumsum(vectors**2, axis=1)
    drawn = random.random((count, per_item)) * weights[:, -1:]
    dimension = np.minimum((weights[:, None, :] < drawn[:, :, None]).sum(axis=2), dimensions - 1)
    pole = np.take_along_axis(vectors, dimension, axis=1) > 0
    wrong = random.random((count, per_item)) < _WRONG_WORD
    dimension = np.where(wrong, random.integers(dimensions, size=(count, per_item)), dimension)
    pole ^= wrong & (random.random((count, per_item)) < 0.5)
    common = random.random((count, per_item)) < shared_words
    choice = random.integers(len(_SHARED[0][0]), size=(count, per_item))
    return [
        [
            (_SHARED if common[item, k] else words.own)[dimension[item, k]][int(pole[item, k])][choice[item, k]]
            for k in range(per_item)
        ]
        for item in range(count)
    ]


def _made_up(random: np.random.Generator, count: int) -> list[str]:
    """Distinct pronounceable words."""
    taken: dict[str, None] = {}
    while len(taken) < count:
        batch = 2 * (count - len(taken)) + 16
        first, second = (random.integers(len(_ONSETS), size=batch) for _ in range(2))
        vowel, other = (random.integers(len(_VOWELS), size=batch) for _ in range(2))
        last = random.integers(len(_CODAS), size=batch)
        for a, b, c, d, e in zip(first, vowel, second, other, last, strict=True):
            taken[_ONSETS[a] + _VOWELS[b] + _ONSETS[c] + _VOWELS[d] + _CODAS[e]] = None
    return list(taken)[:count]
