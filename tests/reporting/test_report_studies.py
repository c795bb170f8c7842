"""The studies' paragraphs and tables count correctly, and claim nothing that the numbers leave open."""

import functools
import io

import polars as pl
import pytest
from made_studies import made_studies

from mmgrid.reporting.inputs import ReportTables, checked
from mmgrid.reporting.studies.claims_table import claims_table
from mmgrid.reporting.studies.findings import all_findings, verdicts_headline, verdicts_summary
from mmgrid.reporting.studies.registry import view
from mmgrid.reporting.tables.export import to_csv, to_latex
from mmgrid.reporting.tables.significance import count_differences, is_significant, significance_text
from mmgrid.studies.registry import STUDIES


def rows(study, table, *values, **common):
    """A table of a study from dictionaries; columns that they leave out have a usual value, or are null."""
    schema = STUDIES[study].tables[table]
    usual = {"paradigm": "semb", "seed": 0, "metric": "ndcg@20", "group": "all", "n_users": 100} | common
    return pl.DataFrame([{k: v for k, v in (usual | row).items() if k in schema} for row in values], schema=schema)


def frames(study, **tables):
    return {name: tables.get(name, schema.to_frame()) for name, schema in STUDIES[study].tables.items()}


def text(study, **tables):
    return " / ".join(paragraph.text for paragraph in view(study).paragraphs(frames(study, **tables)))


def bounds_and_p(low, high, p):
    return {"low": low, "high": high, "p": p, "p_adjusted": p}


def test_significant_needs_p_after_holm_and_an_interval_without_zero():
    found = pl.DataFrame(
        {
            "low": [0.1, 0.1, -0.1, None, 0.1, 0.0],
            "high": [0.3, 0.3, 0.3, None, 0.3, 0.3],
            "p_adjusted": [0.01, 0.2, 0.01, 0.01, None, 0.01],
        },
        schema=dict.fromkeys(("low", "high", "p_adjusted"), pl.Float64),
    )
    assert found.select(is_significant()).to_series().to_list() == [True, False, False, True, None, False]


@pytest.mark.parametrize(
    ("values", "p", "expected"),
    [
        ([1.0, 2.0], [0.01, 0.01], "significant after Holm’s correction: 2 of 2 increases"),
        ([1.0, -2.0], [0.01, 0.9], "significant after Holm’s correction: 1 of 1 increase and 0 of 1 decrease"),
        ([1.0, -2.0], [0.5, 0.9], "none of these differences is significant after Holm’s correction"),
        ([1.0, -2.0], [None, None], "without p-values it is open which of these differences are more than chance"),
        ([1.0, 2.0], [0.01, None], "significant after Holm’s correction: 1 of 2 increases; 1 row has no p-value"),
    ],
)
def test_significance_in_words(values, p, expected):
    found = pl.DataFrame(
        {"value": values, "low": [v - 0.1 for v in values], "high": [v + 0.1 for v in values], "p_adjusted": p},
        schema=dict.fromkeys(("value", "low", "high", "p_adjusted"), pl.Float64),
    )
    assert significance_text(count_differences(found, "value")) == expected


def test_baselines_count_differences_and_name_the_ends():
    comparisons = rows(
        "baselines",
        "comparisons",
        {"domain": "a", "reference": "sasrec", "difference": -0.2} | bounds_and_p(-0.5, 0.1, 0.6),
        {"domain": "a", "reference": "popularity", "difference": 1.0} | bounds_and_p(0.8, 1.2, 0.001),
        {"domain": "b", "reference": "popularity", "difference": 0.5} | bounds_and_p(0.2, 0.8, 0.01),
        {"domain": "b", "reference": "popularity", "difference": 9.0, "metric": "recall@20"}
        | bounds_and_p(8, 10, 0.01),
    )
    assert text("baselines", comparisons=comparisons) == (
        "Against popularity, 2 of 2 differences in NDCG@20 are positive and 0 negative; significant after Holm’s "
        "correction: 2 of 2 increases. Against sasrec, 0 of 1 difference in NDCG@20 is positive and 1 negative; none "
        "of these differences is significant after Holm’s correction. The smallest difference is −0.20 points [−0.50, +0.10] (a, against sasrec), the largest +1.00 "
        "points [+0.80, +1.20] (a, against popularity)."
    )
    assert text("baselines") == "No paradigm is compared with a reference yet."


def test_vectors_are_described_by_paradigm():
    whole = {"part": "whole", "tower": "", "layer": ""}
    norms = rows(
        "vectors",
        "norms",
        whole | {"domain": "a", "phase": "pretrain", "l1_mean": 1e-4},
        whole | {"domain": "a", "phase": "phase2", "l1_mean": 2e-4},
        whole | {"domain": "b", "phase": "pretrain", "l1_mean": 3e-4},
        whole | {"domain": "b", "phase": "phase2", "l1_mean": 4e-4},
        whole | {"domain": "b", "phase": "phase2", "l1_mean": 9.0, "part": "tower", "tower": "item"},
        whole | {"domain": "b", "phase": "phase2", "l1_mean": 0.5, "paradigm": "semid"},
    )
    pairs = rows(
        "vectors",
        "pairs",
        whole | {"first": "a", "second": "b", "phase": "phase2", "cosine": 0.12, "conflicts": 0.4},
        whole | {"first": "a", "second": "b", "phase": "pretrain", "cosine": 0.9, "conflicts": 0.1},
    )
    assert text("vectors", norms=norms, pairs=pairs) == (
        "semid: the mean |τ| of phase2 is 0.500 (b). / "
        "semb: the mean |τ| of phase2 ranges from 2.00 × 10⁻⁴ (a) to 4.00 × 10⁻⁴ (b); at the end of "
        "pretrain it was 50 to 75 % of that; the cosine between the phase2 vectors of two domains is 0.12, and their signs "
        "conflict in 40 % of the weights."
    )


def test_merges_are_counted_for_each_group_and_way():
    merges = rows(
        "cross_domain",
        "merges",
        {"way": "weight", "domain": "a", "partner": "b", "change": -30.0} | bounds_and_p(-40.0, -20.0, 0.001),
        {"way": "weight", "domain": "b", "partner": "a", "change": 2.0} | bounds_and_p(-4.0, 8.0, 0.5),
        {"way": "subspace", "domain": "a", "partner": "b", "change": -1.0} | bounds_and_p(-4.0, 2.0, 0.5),
        {"way": "weight", "domain": "a", "partner": "b", "change": -5.0, "group": "active"},
    )
    found = view("cross_domain").paragraphs(frames("cross_domain", merges=merges))
    assert [sentence.group for sentence in found] == ["all", "active"]
    assert found[0].text == (
        "NDCG@20 over all users. Merging by weight leaves 1 of 2 values below the domain’s own model and 1 above it; "
        "significant after Holm’s correction: 0 of 1 increase and 1 of 1 decrease. Merging by subspace leaves 1 of 1 "
        "value below the domain’s own model and 0 above it; none of these differences is significant after Holm’s "
        "correction. The lowest change "
        "is −30.0 % [−40.0, −20.0] (a merged with b by weight), the highest +2.0 % [−4.0, +8.0] (b merged with a by "
        "weight)."
    )
    assert "without p-values it is open" in found[1].text


def test_bases_are_compared_with_the_backbone():
    gain = {"gain_low": 5.0, "gain_high": 15.0, "p_adjusted": 0.01}
    best = rows(
        "base_model",
        "best",
        {"base": "backbone", "kept": 60.0, "low": 55.0, "high": 65.0},
        {"base": "historical: a", "kept": 58.0, "gain": -2.0, "gain_low": -5.0, "gain_high": 1.0, "p_adjusted": 0.4},
        {"base": "neutral", "kept": 70.0, "low": 65.0, "high": 75.0, "gain": 10.0} | gain,
        first="a",
        second="b",
    )
    assert text("base_model", best=best) == (
        "With the neutral base, 1 of 1 merge kept more NDCG@20 for both domains than with the backbone and 0 less; "
        "significant after Holm’s correction: 1 of 1 increase. With a historical checkpoint as base, 0 of 1 merge kept "
        "more NDCG@20 for both domains than with the backbone and 1 less; none of these differences is significant after "
        "Holm’s correction. At an α chosen on other users, the domain that keeps less keeps between 58.0 % (a and b, base "
        "historical: a) and 70.0 % [65.0, 75.0] (a and b, base neutral)."
    )


def best_scale(domain, best, low, high, **other):
    return {"domain": domain, "best": best, "best_low": low, "best_high": high, "at_edge": False} | other


def test_the_best_scale_comes_with_its_interval_its_edge_and_its_gain():
    gain = {"gain": 0.2, "gain_low": 0.1, "gain_high": 0.3, "p_adjusted": 0.01}
    best = rows(
        "temporal",
        "best",
        best_scale("a", 0.7, 0.5, 0.9, **gain),
        best_scale("b", 2.0, 0.8, 2.0, at_edge=True, gain=-0.1, gain_low=-0.3, gain_high=0.1, p_adjusted=0.4),
        best_scale("a", 1.0, None, None, group="non_active"),
    )
    found = view("temporal").paragraphs(frames("temporal", best=best))
    assert found[0].text == (
        "By NDCG@20 over all users, λ* ranges from 0.700 (a) to 2.000 (b); its interval excludes λ = 1 in 1 of 2 "
        "curves. For b, λ* lies at the edge of the range of λ, so that the best may lie outside. A λ chosen on other "
        "users is better than λ = 1 in 1 of 2 curves and worse in 1; significant after Holm’s correction: 1 of 1 "
        "increase and 0 of 1 decrease. The largest gain is +0.20 points [+0.10, +0.30] (a)."
    )
    assert found[1].group == "non_active"
    assert found[1].text == (
        "By NDCG@20 over non-active users, λ* is 1.000; without intervals it is open whether it differs from 1."
    )


def test_recency_names_the_oldest_and_the_youngest():
    finding = {
        "finding": "recency",
        "claim": "Older, smaller.",
        "statistic": "Pearson’s r",
        "value": -0.9,
        "low": -1.0,
        "high": -0.2,
        "p": 0.0004,
        "n": 2,
        "verdict": "reproduced",
    }
    recency = rows(
        "recency",
        "recency",
        {"domain": "a", "best": 0.7, "best_low": 0.5, "best_high": 0.9, "gap_days": 600.0},
        {"domain": "b", "best": 1.1, "gap_days": 300.0},
        {"domain": "c", "gap_days": 100.0},
    )
    findings = rows("recency", "findings", finding)
    assert text("recency", recency=recency, findings=findings) == (
        "semb: of 2 domains, λ* of non-active users is 0.700 [0.500, 0.900] (a, 600 days) where the items are oldest "
        "and 1.100 (b, 300 days) where they are youngest. A line through 2 domains is no evidence of a trend. "
        "Pearson’s r is −0.90 [−1.00, −0.20], p < 0.001, n = 2: "
        "reproduced."
    )
    assert text("recency", recency=recency.head(1)) == (
        "semb: λ* of non-active users is 0.700 [0.500, 0.900] (a, 600 days); one domain shows no trend."
    )
    assert "not known for any domain yet" in text("recency")


def test_predictions_come_with_their_errors_and_gains():
    predictions = rows(
        "advise",
        "predictions",
        {"domain": "a", "best": 0.7, "predicted": 0.8, "scale": 0.9},
        {"domain": "b", "best": 1.2, "predicted": 0.9, "scale": 0.95},
        {"domain": "c", "best": None, "predicted": 1.0, "scale": 1.0},
    )
    comparison = rows(
        "advise",
        "comparison",
        {"domain": "a", "difference": 0.10} | bounds_and_p(0.05, 0.15, 0.01),
        {"domain": "b", "difference": -0.02} | bounds_and_p(-0.1, 0.06, 0.7),
    )
    assert text("advise", predictions=predictions, comparison=comparison) == (
        "λ̂ ranges from 0.900 (a) to 1.000 (c); the error of λ̃, predicted without the domain itself, ranges from 0.100 "
        "(a) to 0.300 (b). Over all test users, NDCG@20 at λ̂ is higher than at λ = 1 in 1 of 2 comparisons and lower "
        "in 1; significant after Holm’s correction: 1 of 1 increase and 0 of 1 decrease. The differences range from "
        "−0.02 points [−0.10, +0.06] (b) to +0.10 points [+0.05, +0.15] (a)."
    )
    assert text("advise", predictions=predictions).endswith("It is not evaluated against λ = 1 yet.")


def test_findings_are_counted_by_verdict():
    studies = made_studies()
    found = all_findings(checked_studies(studies))
    assert found["study"].to_list() == ["Merging across domains", "Item recency"]
    assert verdicts_summary(found) == (
        "Of 2 tests of 2 claims, 1 is reproduced, 0 are not reproduced and 1 is undecided. Undecided means open, not "
        "refuted. The p-values are not corrected for 2 tests."
    )
    assert to_csv(claims_table(found)).splitlines()[0].startswith("study,finding,claim,paradigm")


def test_a_claim_has_one_line_with_the_paradigms_beside_each_other():
    found = all_findings(checked_studies(made_studies(paradigms=("text", "semb"), seeds=(0, 1))))
    table = claims_table(found)
    assert [column.label for column in table.columns] == ["Claim", "Test", "text", "semb"]
    recency = table.frame.row(1, named=True)
    assert table.frame.height == 2
    assert (recency["finding"], recency["verdict 0"], recency["verdict 1"]) == ("recency", "reproduced", "reproduced")
    assert recency["numbers 1"].splitlines()[:2] == ["seed 0: −0.55 [−0.95, −0.20]", "p = 0.040, n = 3"]
    assert len(to_csv(table).splitlines()) == 1 + found.height  # the CSV keeps one row per test
    assert "undecided" in to_latex(table)


def test_verdicts_that_differ_between_seeds_are_counted():
    found = all_findings(checked_studies(made_studies(seeds=(0, 1))))
    mixed = found.with_columns(
        verdict=pl.when((pl.col("seed") == 1) & (pl.col("finding") == "recency"))
        .then(pl.lit("undecided"))
        .otherwise("verdict")
    )
    assert claims_table(mixed).frame["verdict 0"].to_list() == ["undecided", "1 reproduced, 1 undecided"]


def test_the_ways_of_testing_one_claim_follow_each_other():
    one, other = (all_findings(checked_studies(made_studies())).with_columns(finding=pl.lit(way)) for way in "xy")
    table = claims_table(pl.concat([one, other]).with_columns(claim=pl.lit("The same.")))
    assert [(row.cells[1].text, row.starts_block, row.cells[0].repeated) for row in table.rows()] == [
        ("x", True, False),
        ("y", False, True),
    ]


def test_the_first_screen_names_the_verdicts_of_one_paradigm():
    found = all_findings(checked_studies(made_studies(paradigms=("text", "semb"))))
    headline = verdicts_headline(found, "semb")
    assert headline is not None
    assert headline.text == (
        "Of 2 tests for semb: 1 reproduced (recency); 0 not reproduced; 1 undecided (finding 1). "
        "Over all paradigms: 2 reproduced, 0 not reproduced and 2 undecided."
    )
    assert verdicts_headline(found.clear(), "semb") is None


def test_the_first_screen_says_what_a_merge_costs():
    about = {"single": 2.0, "merged": 1.0}
    merges = rows(
        "cross_domain",
        "merges",
        about | {"way": "weight", "domain": "a", "partner": "b", "change": -50.0} | bounds_and_p(-60, -40, 0.001),
        about | {"way": "weight", "domain": "b", "partner": "a", "change": 2.0} | bounds_and_p(-4, 8, 0.6),
        about | {"way": "subspace", "domain": "a", "partner": "b", "change": -10.0} | bounds_and_p(-20, 0, None),
        {"paradigm": "text", "way": "weight", "domain": "a", "partner": "b", "change": 9.0},
    )
    found = view("cross_domain").headline(frames("cross_domain", merges=merges), "semb")
    assert found is not None
    assert found.text == (
        "Merging semb by weight with the model of another domain changes NDCG@20 by −50.0 % [−60.0, −40.0] (a with b) "
        "to +2.0 % [−4.0, +8.0], median −24.0 %; 1 of 2 is significantly worse and 1 of 2 is undecided. "
        "By subspace: −10.0 % [−20.0, 0.0] (a with b); without p-values it is undecided which changes are more than "
        "chance."
    )
    assert view("cross_domain").headline(frames("cross_domain", merges=merges), "semid") is None


def test_the_first_screen_says_where_the_best_scale_is_and_what_it_is_worth():
    def at(domain, best, gain, p):
        own = {"domain": domain, "best": best, "best_low": best - 0.1, "best_high": best + 0.1, "gain": gain}
        return own | {"gain_low": gain - 0.2, "gain_high": gain + 0.2, "p_adjusted": p}

    best = rows("temporal", "best", at("a", 0.5, 1.0, 0.01), at("b", 1.0, 0.1, 0.4))
    found = view("temporal").headline(frames("temporal", best=best), "semb")
    assert found is not None
    assert found.text == (
        "The best λ of semb is 0.50 [0.40, 0.60] in a and 1.00 [0.90, 1.10] in b, where 0 is the model of t1 and 1 "
        "that of t2. Against λ = 1, a λ chosen on other users is better in a by +1.00 points [+0.80, +1.20]; in b it "
        "is undecided."
    )
    open_ = view("temporal").headline(frames("temporal", best=best.filter(domain="b")), "semb")
    assert open_ is not None
    assert open_.text.endswith("Whether a λ chosen on other users beats λ = 1 is undecided.")


@functools.cache
def seeded(seeds):
    return checked_studies(made_studies(paradigms=("semb", "semid"), seeds=seeds))


def checked_studies(studies, **other):
    empty = pl.DataFrame()
    return checked(ReportTables("x", "", {}, empty, empty, empty, empty, studies=studies, **other)).studies


def test_errors_name_the_study_its_table_and_the_column():
    made = made_studies()
    with pytest.raises(ValueError, match="study 'temporal', table 'best': no column gain"):
        checked_studies({"temporal": {"best": made["temporal"]["best"].drop("gain")}})
    with pytest.raises(ValueError, match="study 'temporal': no such table 'bset'; it has curve, best"):
        checked_studies({"temporal": {"bset": made["temporal"]["best"]}})
    with pytest.raises(ValueError, match="study 'tempoal': no such study; there are baselines"):
        checked_studies({"tempoal": {}})


def test_numbers_that_are_not_finite_become_null():
    best = made_studies()["temporal"]["best"].with_columns(gain=pl.lit(float("nan")))
    assert checked_studies({"temporal": {"best": best}})["temporal"]["best"]["gain"].null_count() == best.height


def test_studies_come_in_the_order_of_the_registry_with_all_their_tables():
    found = checked_studies({"advise": {}, "baselines": {}})
    assert list(found) == ["baselines", "advise"]
    assert list(found["advise"]) == ["predictions", "comparison", "findings"]
    assert all(frame.is_empty() for frame in found["advise"].values())


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_tables_keep_every_digit_and_name_the_seed(study, seeds):
    made = seeded(seeds)[study]
    found = view(study).tables(made)
    assert found
    for table in found:
        assert ("Seed" in [column.label for column in table.columns]) == (len(seeds) > 1)
        read = pl.read_csv(io.StringIO(to_csv(table)), infer_schema_length=None)
        assert read.height == table.export.height
        assert set(read["seed"].unique()) == set(seeds)
        assert r"\toprule" in to_latex(table)
        assert len(table.rows()) == table.frame.height


def test_the_csv_has_the_four_metrics_and_the_page_one():
    made = checked_studies(made_studies())["cross_domain"]
    table, *_ = view("cross_domain").tables(made)
    read = pl.read_csv(io.StringIO(to_csv(table)))
    assert set(read["metric"]) == {"ndcg@10", "ndcg@20", "recall@10", "recall@20"}
    assert set(table.frame["metric"]) == {"ndcg@20"}
    kept = made["merges"].filter(pl.col("metric").is_in(read["metric"].unique()))
    assert sorted(read["change"]) == sorted(kept["change"])


def test_significant_gains_are_bold():
    best = rows(
        "temporal",
        "best",
        best_scale("a", 0.7, 0.5, 0.9, gain=0.2, gain_low=0.1, gain_high=0.3, p_adjusted=0.01),
        best_scale("b", 0.8, 0.5, 0.9, gain=0.3, gain_low=-0.1, gain_high=0.7, p_adjusted=0.2),
    )
    (table,) = view("temporal").tables(frames("temporal", best=best))
    place = [column.name for column in table.columns].index("gain")
    assert [row.cells[place].bold for row in table.rows()] == [True, False]
    assert r"\textbf{+0.20}" in to_latex(table)
