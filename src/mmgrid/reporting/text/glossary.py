"""The words of the report, with their meanings: shown on hover and on focus, and listed at the end of the page.

`docs/glossary.md` has the same words; a test compares the two.
"""

import functools
import re
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Term:
    """A word, its meaning (Markdown of code in backticks), and the spellings that are explained where they occur."""

    word: str
    meaning: str
    spellings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Of its element in the page: its place in the glossary."""
        return f"term-{GLOSSARY.index(self)}"


GLOSSARY = (
    Term("domain", "a shop or a product category, with its own users, items and interactions"),
    Term(
        "phase", "a stretch of time: `pretrain`, `phase1`, `phase2`, `test`. Models learn from the first three in turn"
    ),
    Term(
        "t0, t1, t2",
        'the ends of `pretrain`, `phase1` and `phase2`. "The model of t1" has learned everything before t1',
        ("t0", "t1", "t2"),
    ),
    Term(
        "paradigm",
        "how a language model recommends: by texts (`text`), by semantic IDs (`semid`), or by vectors (`semb`)",
    ),
    Term("checkpoint", "the weights of one paradigm, domain and phase, as a folder"),
    Term("contextual grid", "all checkpoints: paradigm × domain × phase, from one base model"),
    Term("cell", "anything that a grid builds: a prepared domain, a checkpoint, an evaluation, a study's tables"),
    Term(
        "fingerprint",
        "a digest of everything that determines a cell's content; a cell is built again when it changes",
        ("fingerprint",),
    ),
    Term("store", "the folder with all cells, by default `runs`"),
    Term("backbone, Θ⁽⁰⁾", "the language model that all checkpoints start from", ("backbone", "Θ⁽⁰⁾")),
    Term("base", "the model that is subtracted to get a task vector: Θ⁽⁰⁾, or another one"),
    Term(
        "task vector, τ", "a checkpoint minus its base: what training has changed", ("task vectors", "task vector", "τ")
    ),
    Term("merge", "one model made of several, by arithmetic on their weights"),
    Term("weight (way of merging)", "the average of the two models", ("by weight",)),
    Term(
        "subspace (way of merging)",
        "DARE, then TIES: task vectors are thinned out, and only parameters whose signs agree are added",
        ("by subspace", "subspace"),
    ),
    Term(
        "kept",
        "the share of its own model's quality that a domain still has with a merge or family; what all keep is the smallest "
        "share of their domains",
    ),
    Term(
        "family",
        "one shared model and a small part for each domain, from which the domain's own checkpoint comes back",
        ("families", "family"),
    ),
    Term(
        "part",
        "what a family stores for one domain: own tensors, a mask, a LoRA adapter, or a compressed difference",
    ),
    Term("joint training", "one model that is trained on the users of several domains"),
    Term("variant", "a model of the newest phase that is trained in another way than the grid's own"),
    Term("rehearsal", "examples of earlier phases in the batches of a later one, against forgetting"),
    Term("pseudo-user", "a made history of items, from which merges are learned without anybody's clicks"),
    Term("α", "in a merge of two domains, the share of the first one (eq. 7)", ("α",)),
    Term(
        "λ",
        "how far a model moves from the checkpoint of t1 towards that of t2: 0 is t1, 1 is t2, more than 1 goes beyond (eq. 9)",
        ("λ",),
    ),
    Term("λ*", "the best λ, found with test users", ("λ*", "best λ")),
    Term("λ̂", "the λ that is predicted from the data alone (eq. 11)", ("λ̂",)),
    Term("λ̃", "the same for non-active users alone, read off a line through other domains", ("λ̃",)),
    Term(
        "active user",
        "a test user with an interaction in the phase before; the others are non-active",
        ("non-active users", "active users"),
    ),
    Term(
        "gap",
        "the age of an item when a user interacts with it: the time since the item's first interaction",
        ("interaction time gap", "mean gap"),
    ),
    Term("held-out item", "the item that a test user really took next, and that a model has to rank"),
    Term(
        "Recall@k, NDCG@k",
        "the share of users whose item is among the first k; the same with more weight for higher places",
        ("NDCG@10", "NDCG@20", "Recall@10", "Recall@20", "NDCG@5", "Recall@5"),
    ),
    Term(
        "interval",
        "95 % bootstrap interval over users: where the value would lie with other users of the same kind",
        ("95 % bootstrap interval", "95 % bootstrap intervals", "95 % interval", "95 % intervals", "intervals"),
    ),
    Term(
        "Holm",
        "a correction of p-values for the number of comparisons in a table",
        ("Holm’s correction", "Holm's correction", "Holm"),
    ),
    Term("undecided", "the interval contains zero, so the data do not tell", ("undecided",)),
    Term(
        "semantic ID",
        "a short code of an item, such as `a_7 b_3 c_12 d_0`, made from its text; similar items share its beginning",
        ("semantic IDs", "semantic ID"),
    ),
    Term("trie", "the tree of all codes; it keeps the model from naming items that do not exist"),
    Term("recipe", "the values that determine a merge or a training"),
    Term("model card", "the `README.md` in a model's folder"),
)


@functools.cache
def _spelled() -> tuple[dict[str, Term], re.Pattern[str]]:
    """Spelling → term, and a pattern for any spelling as a whole word, the longest first."""
    terms = {str(escape(spelling)): term for term in GLOSSARY for spelling in term.spellings}
    longest_first = "|".join(re.escape(spelling) for spelling in sorted(terms, key=len, reverse=True))
    # A combining hat or tilde, or a star, makes another word of a letter.
    return terms, re.compile(rf"(?<![\w&#;-])(?:{longest_first})(?![\w\u0302\u0303*-])")


def term_in(text: str) -> Term | None:
    """The first term that a text names."""
    terms, pattern = _spelled()
    found = pattern.search(str(escape(text)))
    return terms[found[0]] if found else None


def explained(text: str) -> Markup:
    """The text as HTML, escaped, where the first mention of each term is a link to its meaning."""
    terms, pattern = _spelled()
    seen = set()

    def linked(found: re.Match[str]) -> str:
        term = terms[found[0]]
        if term in seen:
            return found[0]
        seen.add(term)
        return f'<a class="term" href="#{term.id}" aria-describedby="{term.id}">{found[0]}</a>'

    return Markup(pattern.sub(linked, str(escape(text))))


def meaning_html(term: Term) -> Markup:
    """The meaning as HTML, with code in backticks as such."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(term.meaning))))


def explanation(label: str, hint: str) -> str:
    """What a heading shows on hover and focus: its own hint, and the meaning of the term in its label."""
    term = term_in(label)
    parts = [hint, f"{term.word}: {term.meaning}".replace("`", "") if term else ""]
    return ". ".join(part for part in parts if part)
