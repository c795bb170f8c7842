"""Made-up but plausible tables of all seven studies: random numbers within the ranges that their schemas document."""

import itertools
from datetime import date

import numpy as np
import polars as pl

from mmgrid.studies.registry import STUDIES

METRICS = ("ndcg@5", "ndcg@10", "ndcg@20", "recall@5", "recall@10", "recall@20", "mrr")
GROUPS = ("all", "active", "non_active")
PHASES = {
    "pretrain": ("2017-07-01", "2022-07-01"),
    "phase1": ("2022-07-01", "2022-10-01"),
    "phase2": ("2022-10-01", "2023-01-01"),
    "test": ("2023-01-01", "2023-04-01"),
}


def made_months(domains):
    draw = np.random.default_rng(5)
    months = [date(2017 + (6 + i) // 12, (6 + i) % 12 + 1, 1) for i in range(69)]
    return pl.DataFrame(
        [
            (domain, month, int((2500 + 1500 * place) * (1 + i / 80 + 0.2 * np.sin(i / 2) + 0.1 * draw.random())))
            for place, domain in enumerate(domains)
            for i, month in enumerate(months)
        ],
        schema={"domain": pl.String, "month": pl.Date, "interactions": pl.Int64},
        orient="row",
    ).with_columns(users=pl.col("interactions") // 3, items=pl.col("interactions") // 5, new_items=pl.lit(0.1))


def made_studies(domains=("beauty", "health", "toys"), paradigms=("semb",), seeds=(0,), metrics=METRICS, scales=26):
    """Study → table → frame, for all studies. A single domain has no pairs; `scales` is the number of λ of a curve."""
    made = Maker(domains, paradigms, seeds, metrics)
    tables = {
        "baselines": {"comparisons": made.comparisons()},
        "vectors": {"norms": made.norms(), "pairs": made.pairs()},
        "cross_domain": {"merges": made.merges(), "partners": made.partners(), "sizes": made.sizes()},
        "base_model": {"curve": made.joint_curves(), "best": made.best_bases()},
        "temporal": {"curve": made.curves(scales), "best": made.best()},
        "temporal_parts": {"chosen": made.chosen_parts(), "comparison": made.parts()},
        "recency": {"recency": made.recency(), "findings": made.findings("recency")},
        "advise": {"predictions": made.predictions(), "comparison": made.comparison()},
    }
    tables["cross_domain"]["findings"] = made.findings("finding 1")
    return {
        study: {name: pl.DataFrame(rows, schema=STUDIES[study].tables[name]) for name, rows in frames.items()}
        for study, frames in tables.items()
    }


class Maker:
    def __init__(self, domains, paradigms, seeds, metrics):
        self.domains, self.paradigms, self.seeds, self.metrics = domains, paradigms, seeds, metrics
        self.draw = np.random.default_rng(1)
        self.best_scale = {name: 0.7 + 0.47 * i / max(1, len(domains) - 1) for i, name in enumerate(domains)}
        self.couples = list(itertools.combinations(sorted(domains), 2))

    def each(self, *columns):
        """One dictionary for each combination of paradigm, seed and the given (name, values)."""
        columns = (("paradigm", self.paradigms), ("seed", self.seeds), *columns)
        names = [name for name, _ in columns]
        for combination in itertools.product(*(values for _, values in columns)):
            yield dict(zip(names, combination, strict=True))

    def judged(self, value, width):
        """A value's bounds and p-values, which agree with each other."""
        low, high = value - width, value + width
        p = float(np.clip(np.exp(-((1.7 * value / width) ** 2)), 1e-4, 1.0))
        return {"low": low, "high": high, "p": p, "p_adjusted": min(1.0, 3 * p)}

    def comparisons(self):
        rows = []
        for row in self.each(
            ("domain", self.domains),
            ("reference", ("popularity", "sasrec", "sasrec (in one go)")),
            ("metric", self.metrics),
        ):
            value = self.draw.normal({"popularity": 1.5}.get(row["reference"], 0.2), 0.3)
            rows.append(row | {"model": "phase2", "difference": value, "n_users": 1200} | self.judged(value, 0.35))
        return rows

    def norms(self):
        rows = []
        parts = [("whole", "", ""), ("tower", "item", ""), ("tower", "user", "")]
        parts += [("layer", "item", str(layer)) for layer in range(6)] + [
            ("layer", "user", layer) for layer in ("0", "1", "outside")
        ]
        for row in self.each(("domain", self.domains), ("phase", ("pretrain", "phase1", "phase2")), ("part", parts)):
            part, tower, layer = row.pop("part")
            grown = {"pretrain": 0.8, "phase1": 0.9, "phase2": 1.0}[row["phase"]]
            mean = 2e-4 * grown * (1 + 0.3 * self.domains.index(row["domain"])) * self.draw.uniform(0.9, 1.1)
            about = {"part": part, "tower": tower, "layer": layer, "elements": 1_500_000, "l1_mean": mean}
            rows.append(row | about | {"l1_sum": mean * 1.5e6, "l2": mean * 1500, "zeros": 0.02})
        return rows

    def pairs(self):
        return [
            {"first": first, "second": second, "tower": "item" * (row["part"] == "tower"), "layer": "", "elements": 9}
            | row
            | {"cosine": self.draw.uniform(-0.05, 0.4), "conflicts": self.draw.uniform(0.3, 0.5)}
            for first, second in self.couples
            for row in self.each(("phase", ("pretrain", "phase1", "phase2")), ("part", ("whole", "tower")))
        ]

    def merges(self):
        rows = []
        for first, second in [*self.couples, *(couple[::-1] for couple in self.couples)]:
            for row in self.each(("way", ("weight", "subspace")), ("group", GROUPS), ("metric", self.metrics)):
                single, change = self.draw.uniform(2, 4), self.draw.normal(-30 if row["way"] == "weight" else -8, 12)
                about = {"domain": first, "partner": second, "single": single, "merged": single * (1 + change / 100)}
                rows.append(row | about | {"change": change, "n_users": 900} | self.judged(change, 12.0))
        return rows

    def sizes(self):
        rows = []
        for row in self.each(("way", ("weight", "subspace")), ("size", (2, 3)), ("metric", self.metrics)):
            kept = 120 / row["size"] + self.draw.normal()
            bounds = {"low": kept - 5, "high": kept + 5, "least_low": kept - 12, "least_high": kept - 8}
            rows.append(row | bounds | {"kept": kept, "least": kept - 10, "sets": 3, "draws": 4})
        return rows

    def partners(self):
        rows = []
        for row in self.each(("way", ("weight", "subspace")), ("partner", self.domains), ("metric", self.metrics)):
            kept = 70 + self.draw.normal()
            rows.append(row | {"diversity": 0.4, "kept": kept, "low": kept - 5, "high": kept + 5, "merges": 2})
        return rows

    def joint_curves(self):
        rows = []
        for first, second in self.couples:
            bases = {"backbone": 0.55, f"historical: {first}": 0.8, f"historical: {second}": 0.8, "neutral": 0.9}
            alphas = [float(alpha) for alpha in np.linspace(0, 1, 11)]
            for row in self.each(("base", list(bases)), ("alpha", alphas), ("metric", self.metrics)):
                alpha, good = row["alpha"], bases[row["base"]] * (1 + 0.01 * self.metrics.index(row["metric"]))
                ours = 3.0 * good * (0.5 + 0.5 * alpha**0.5)
                theirs = 2.0 * good * (0.5 + 0.5 * (1 - alpha) ** 0.5)
                values = {"first_value": ours, "second_value": theirs, "first_single": 3.0, "second_single": 2.0}
                bounds = {"first_low": ours - 0.2, "first_high": ours + 0.2}
                bounds |= {"second_low": theirs - 0.15, "second_high": theirs + 0.15}
                about = {"first": first, "second": second, "first_users": 1200, "second_users": 900}
                rows.append(row | about | values | bounds | {"kept": 50 * (ours / 3 + theirs / 2)})
        return rows

    def best_bases(self):
        rows = []
        for first, second in self.couples:
            bases = ("backbone", f"historical: {first}", f"historical: {second}", "neutral")
            for row in self.each(("base", bases), ("metric", ("ndcg@20",))):
                kept = 60 + 8 * bases.index(row["base"]) + self.draw.normal()
                gain = None if row["base"] == "backbone" else kept - 60
                judged = {} if gain is None else self.judged(gain, 9.0)
                judged = {{"low": "gain_low", "high": "gain_high"}.get(key, key): v for key, v in judged.items()}
                about = {"first": first, "second": second, "alpha": 0.5, "alpha_low": 0.3, "alpha_high": 0.8}
                rows.append(row | about | {"kept": kept, "low": kept - 5, "high": kept + 5, "gain": gain} | judged)
        return rows

    def curves(self, scales):
        rows = []
        for row in self.each(
            ("domain", self.domains),
            ("group", GROUPS),
            ("metric", self.metrics),
            ("scale", np.linspace(-0.5, 2, scales)),
        ):
            top = 1.0 if row["group"] == "active" else self.best_scale[row["domain"]]
            level = {"all": 3.0, "active": 3.4, "non_active": 2.7}[row["group"]] + self.domains.index(row["domain"])
            value = level - 0.5 * (row["scale"] - top) ** 2
            measured = value + self.draw.normal(0, 0.02)
            bounds = {"low": measured - 0.2, "high": measured + 0.2, "smooth": value, "n_users": 900}
            rows.append(row | {"value": measured} | bounds)
        return rows

    def best(self):
        rows = []
        for row in self.each(("domain", self.domains), ("group", GROUPS), ("metric", ("ndcg@20",))):
            best = 1.0 if row["group"] == "active" else self.best_scale[row["domain"]]
            gain = 0.3 * abs(best - 1)
            judged = self.judged(gain, 0.06)
            judged = {{"low": "gain_low", "high": "gain_high"}.get(key, key): v for key, v in judged.items()}
            about = {"best": best, "best_low": best - 0.15, "best_high": best + 0.15, "at_edge": False}
            values = {"value_at_best": 3.0 + gain, "value_at_one": 3.0, "value_at_zero": 2.5}
            rows.append(row | about | values | {"gain": gain, "n_users": 900} | judged)
        return rows

    def parts(self):
        rows = []
        for row in self.each(("domain", self.domains), ("per", ("tower", "group")), ("metric", ("ndcg@20",))):
            gain = self.draw.normal(0.02, 0.05)
            values = {"value_at_one": 3.0, "single": 3.1, "parts": 3.1 + gain, "gain": gain, "n_users": 900}
            rows.append(row | values | self.judged(gain, 0.06))
        return rows

    def chosen_parts(self):
        parts = [("tower", "item_tower"), ("tower", "user_tower"), ("group", "active"), ("group", "non_active")]
        chosen = {"first": 0.9, "second": 1.1, "single_first": 1.0, "single_second": 1.0}
        return [
            {name: value for name, value in row.items() if name != "which"}
            | {"per": row["which"][0], "part": row["which"][1]}
            | chosen
            for row in self.each(("domain", self.domains), ("which", parts))
        ]

    def recency(self):
        return [
            row
            | {"test_users": 900, "active": 360, "non_active": 540, "active_ratio": 0.4}
            | {"best": (best := self.best_scale[row["domain"]]), "best_low": best - 0.15, "best_high": best + 0.15}
            | {"gap_days": 900 - 480 * best}
            for row in self.each(("domain", self.domains))
        ]

    def findings(self, name):
        claims = {
            "recency": ("The older the items that people take, the smaller the best λ.", "Spearman’s ρ", -0.55, -0.2),
            "finding 1": ("Domains that are alike lose less when they are merged.", "Spearman’s ρ", 0.21, 0.6),
        }
        claim, statistic, value, high = claims[name]
        verdict = "reproduced" if high < 0 else "undecided"
        about = {"finding": name, "claim": claim, "statistic": statistic, "value": value, "low": value - 0.4}
        return [
            row | about | {"high": high, "p": 0.04, "n": len(self.domains), "verdict": verdict} for row in self.each()
        ]

    def predictions(self):
        if len(self.domains) < 3:
            return []
        rows = []
        for row in self.each(("domain", self.domains)):
            best = self.best_scale[row["domain"]]
            predicted = best + self.draw.normal(0, 0.1)
            about = {"gap_days": 900 - 480 * best, "active_ratio": 0.4, "active_ratio_before": 0.38, "best": best}
            about |= {"predicted": predicted, "scale": 0.6 * predicted + 0.4, "scale_before": 0.62 * predicted + 0.38}
            rows.append(row | about | {"slope": -0.0016, "intercept": 1.7, "n_domains": len(self.domains) - 1})
        return rows

    def comparison(self):
        if len(self.domains) < 3:
            return []
        rows = []
        for row in self.each(("domain", self.domains), ("metric", self.metrics)):
            difference = self.draw.normal(0.03, 0.05)
            about = {"scale": 0.9, "value_at_one": 3.0, "value": 3.0 + difference, "difference": difference}
            rows.append(row | about | {"n_users": 900} | self.judged(difference, 0.06))
        return rows
