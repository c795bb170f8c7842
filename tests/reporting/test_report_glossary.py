"""The words of the report are explained where they stand, and the glossary of the documentation says the same."""

from pathlib import Path

from mmgrid.reporting.text.glossary import GLOSSARY, explained, explanation, term_in

PAGE = Path(__file__).parents[2] / "docs/glossary.md"


def test_the_documentation_has_the_same_words_with_the_same_meanings():
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    found = [tuple(part.strip() for part in line.strip("|").split("|")) for line in lines[2:]]
    assert found == [(term.word, term.meaning) for term in GLOSSARY]


def test_every_spelling_leads_to_its_own_term():
    for term in GLOSSARY:
        for spelling in term.spellings:
            assert term_in(f"x {spelling} y") is term, spelling


def test_the_words_that_nobody_can_guess_are_explained():
    for word in ("λ", "α", "t2", "Holm", "subspace", "λ*", "λ̂", "NDCG@20", "undecided"):
        assert term_in(f"about {word}.") is not None, word


def test_only_the_first_mention_is_a_link_and_longer_words_are_left_alone():
    html = explained("λ* and λ̂, then λ and λ again; xt2 and subspaces are other words")
    assert html.count("<a ") == 3
    assert html.count('class="term"') == 3


def test_text_from_outside_stays_text():
    assert "<script>" not in explained("<script>λ</script>")
    assert explained("a & b < c") == "a &amp; b &lt; c"


def test_a_heading_shows_its_hint_and_the_meaning_of_its_term():
    assert explanation("Users", "test users") == "test users"
    assert explanation("p, Holm", "after correction").startswith("after correction. Holm: a correction of p-values")
    assert explanation("Domain", "") == ""
