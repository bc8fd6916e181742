"""Writes agreement.json: 200 random tables of ratings with the coefficients of other libraries, rank correlations by scipy,
and corrections of machine labels by the formulas, unit by unit.

    pip install irrCAC==0.4.4 krippendorff==0.9.0 statsmodels==0.15.0 scikit-learn==1.9.1 pingouin==0.6.1 pandas==2.3.3
    python make_agreement.py

A coefficient that a library refuses, or returns as NaN, is null.
"""

import json
import os
import warnings

import krippendorff
import numpy as np
import pandas as pd
import pingouin
from irrCAC.raw import CAC
from scipy.stats import kendalltau, t as student
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

assert pd.__version__ < "3", "with pandas 3, which irrCAC excludes, it takes a missing rating for a category"
warnings.filterwarnings("ignore")
pingouin.options["round.column.CI95"] = None
RNG = np.random.default_rng(20261129)
CATEGORIES = [[0, 1], [0, 1, 2, 3], [0, 1, 3], [1, 2, 5, 10], [-1, 0, 2], [0.5, 1, 2.5, 4, 4.5], [2, 3, 4, 5, 6]]
WEIGHTS = ["linear", "quadratic", "ordinal", "radical", "ratio"]


def number(value):
    value = float(value)
    return value if np.isfinite(value) else None


def attempt(function):
    try:
        return function()
    except Exception:
        return None


def table(index):
    categories = np.array(CATEGORIES[index % len(CATEGORIES)], dtype=float)
    raters = 2 + index % 4
    units = int(RNG.integers(4, 25))
    missing = [0.0, 0.1, 0.3][int(RNG.integers(3))]
    skill = RNG.uniform(0.3, 0.95)
    truth = RNG.choice(categories, units, p=RNG.dirichlet(np.full(len(categories), 2.0)))
    ratings = np.where(RNG.random((units, raters)) < skill, truth[:, None], RNG.choice(categories, (units, raters)))
    ratings[RNG.random((units, raters)) < missing] = np.nan
    return ratings


def irr(ratings, weights, method, categories=None):
    """Value, standard error, interval."""

    def run():
        cac = CAC(pd.DataFrame(ratings), weights=weights, categories=categories, digits=15)
        estimate = getattr(cac, method)()["est"]
        return [number(estimate["coefficient_value"]), number(estimate["se"]), *map(number, estimate["confidence_interval"])]

    found = attempt(run)
    return None if found is None or None in found else found


def alpha_error(ratings, weights):
    """The standard error of alpha as R's irrCAC has it. The Python port puts `pa` where R has `paprime`."""
    rated = ratings[(~np.isnan(ratings)).sum(1) >= 2]
    categories = np.unique(ratings[~np.isnan(ratings)])
    if len(rated) < 2 or len(np.unique(rated[~np.isnan(rated)])) < 2:
        return None
    # Only the weights come from the library.
    w = CAC(pd.DataFrame(ratings), weights=weights).weights_mat
    a = (rated[:, :, None] == categories).sum(1).astype(float)
    r = a.sum(1)
    n, mean = len(rated), r.mean()
    pairs = (a * (a @ w.T - 1)).sum(1) / (r - 1) / mean
    observed = pairs.mean()
    shares = a.mean(0) / mean
    chance = shares @ w @ shares
    alpha = (observed - chance) / (1 - chance)
    above = pairs - observed * (r - mean) / mean
    by_chance = a @ (w @ shares) / mean - chance * (r - mean) / mean
    row = (above - chance) / (1 - chance) - 2 * (1 - alpha) * (by_chance - chance) / (1 - chance)
    return number(np.sqrt(((row - alpha) ** 2).sum() / n / (n - 1)))


def percent(ratings):
    """Per cent agreement and its standard error, over units with two ratings."""
    shares = []
    for row in ratings:
        row = row[~np.isnan(row)]
        if len(row) > 1:
            shares.append(np.mean([float(a == b) for i, a in enumerate(row) for b in row[i + 1 :]]))
    return [number(np.mean(shares)), number(np.std(shares, ddof=1) / np.sqrt(len(shares)))] if len(shares) > 1 else None


def cohen(ratings):
    """The first two raters."""
    pair = ratings[:, :2]
    pair = pair[~np.isnan(pair).any(1)]
    if len(pair) < 2:
        return None
    categories = np.unique(ratings[~np.isnan(ratings)])
    codes = np.searchsorted(categories, pair)
    counts = np.zeros((len(categories), len(categories)))
    np.add.at(counts, (codes[:, 0], codes[:, 1]), 1)
    out = {}
    for weights in ["identity", "linear", "quadratic"]:
        # As weights by value: scikit-learn knows positions only, so it gets every value on a grid of halves.
        grid = np.arange(categories[0], categories[-1] + 0.25, 0.5)
        on_grid = np.rint((pair - categories[0]) * 2).astype(int)
        scikit = attempt(
            lambda: cohen_kappa_score(
                on_grid[:, 0], on_grid[:, 1], labels=range(len(grid)), weights=None if weights == "identity" else weights
            )
        )
        # statsmodels divides variances by n, irrCAC's raw coefficients by n - 1.
        options = {} if weights == "identity" else {"weights": categories, "wt": weights}
        stats = attempt(lambda: cohens_kappa(counts, **options))
        # A standard error of 0 is the root of what rounding left of it.
        stats = None if stats is None or not stats.std_kappa > 1e-6 else [number(stats.kappa), number(stats.std_kappa * np.sqrt(len(pair) / (len(pair) - 1)))]
        names = [float(category) for category in categories]
        out[weights] = {
            "sklearn": None if scikit is None else number(scikit),
            "statsmodels": None if stats is None or None in stats else stats,
            "irr": irr(pair, weights, "conger", names),
        }
    return out


def fleiss(ratings):
    """statsmodels, on units that all have rated."""
    complete = ratings[~np.isnan(ratings).any(1)]
    if len(complete) == 0:
        return None
    categories = np.unique(complete)
    counts = aggregate_raters(np.searchsorted(categories, complete), n_cat=len(categories))[0]
    found = [attempt(lambda: number(fleiss_kappa(counts, method))) for method in ["fleiss", "randolph"]]
    return {"fleiss": found[0], "randolph": found[1]}


def icc(ratings):
    complete = ratings[~np.isnan(ratings).any(1)]
    if len(complete) < 3 or len(np.unique(complete)) < 2:
        return None
    units, raters = complete.shape
    long = pd.DataFrame(
        {"unit": np.repeat(range(units), raters), "rater": np.tile(range(raters), units), "rating": complete.ravel()}
    )
    found = attempt(lambda: pingouin.intraclass_corr(long, targets="unit", raters="rater", ratings="rating"))
    if found is None:
        return None
    if found["F"].abs().max() > 1e9:
        return None  # Full agreement: F is a division by what rounding left of 0, of either sign.
    rows = [[number(row[key]) for key in ["ICC", "F", "df1", "df2", "pval"]] + [number(end) for end in row["CI95"]]
            for _, row in found.iterrows()]
    return dict(zip(["icc1", "icc_a1", "icc_c1", "icc1k", "icc_ak", "icc_ck"], rows))


def case(index):
    ratings = table(index)
    extra = WEIGHTS[index % len(WEIGHTS)]
    if extra == "ratio" and np.nanmin(ratings) < 0:
        extra = "linear"
    levels = {}
    for level in ["nominal", "ordinal", "interval", "ratio"]:
        if level != "ratio" or np.nanmin(ratings) >= 0:
            value = attempt(lambda: krippendorff.alpha(ratings.T, level_of_measurement=level))
            levels[level] = None if value is None else number(value)
    return {
        "rows": [[None if np.isnan(x) else (int(x) if x == int(x) else x) for x in row] for row in ratings.tolist()],
        "irr": {
            weights: {method: irr(ratings, weights, method) for method in ["fleiss", "gwet", "bp"]}
            for weights in ["identity", extra]
        },
        "percent": percent(ratings),
        "alpha": levels,
        "alpha_error": {
            level: attempt(lambda: alpha_error(ratings, weights))
            for level, weights in [("nominal", "identity"), ("interval", "quadratic"), ("ratio", "ratio")]
            if level in levels
        },
        # irrCAC itself, where all units have the same number of ratings and both formulas agree.
        "alpha_irr": irr(ratings, "identity", "krippendorff") if not np.isnan(ratings).any() else None,
        "cohen": cohen(ratings),
        "complete": fleiss(ratings),
        "icc": icc(ratings),
    }


def ranks(index):
    length = int(RNG.integers(2, 40))
    levels = [3, 10, 1000][index % 3]
    x = RNG.integers(0, levels, length)
    y = np.where(RNG.random(length) < 0.5, x, RNG.integers(0, levels, length))
    return {"x": x.tolist(), "y": y.tolist(), "tau": number(kendalltau(x, y).statistic)}


def sample(index):
    """Strata of machine labels 0 to 3 with checked units, and each quantity by a loop over units."""
    strata = []
    for _ in range(1 + index % 4):
        units = int(RNG.integers(8, 60))
        checked = units if RNG.random() < 0.2 else int(RNG.integers(4, units))
        machine = RNG.choice(4, units, p=RNG.dirichlet([2, 2, 2, 2]))
        expert = np.where(RNG.random(units) < 0.7, machine, RNG.integers(0, 4, units))
        strata.append((machine, expert, checked))
    parts = {
        "mean": lambda f, y: (y, 1),
        "positive_rate": lambda f, y: (float(y >= 2), 1),
        "precision": lambda f, y: (float(f >= 2 and y >= 2), float(f >= 2)),
        "recall": lambda f, y: (float(f >= 2 and y >= 2), float(y >= 2)),
    }
    quantities = {}
    for name, of in parts.items():
        totals = np.zeros(2)
        for machine, expert, checked in strata:
            predicted = np.array([of(f, f) for f in machine], dtype=float)
            found = np.array([of(f, y) for f, y in zip(machine, expert)], dtype=float)
            totals += predicted.sum(0) + len(machine) * (found - predicted)[:checked].mean(0)
        value = totals[0] / totals[1] if totals[1] > 0 else np.nan
        variance, freedom = 0.0, 0
        for machine, expert, checked in strata:
            pairs = list(zip(machine, expert))[:checked]
            residuals = [
                of(f, y)[0] - of(f, f)[0] - value * (of(f, y)[1] - of(f, f)[1]) for f, y in pairs
            ]
            size = len(machine)
            if checked < size:
                variance += size**2 * np.var(residuals, ddof=1) / checked * (1 - checked / size)
                freedom += checked - 1
        error = np.sqrt(variance) / totals[1]
        reach = student.ppf(0.975, freedom) * error if freedom else 0.0
        quantities[name] = [number(value), number(error), number(value - reach), number(value + reach)]
    return {
        "strata": [[machine.tolist(), list(zip(machine.tolist(), expert.tolist()))[:checked]] for machine, expert, checked in strata],
        "quantities": quantities,
    }


fixture = {
    "tables": [case(index) for index in range(200)],
    "ranks": [ranks(index) for index in range(40)],
    "samples": [sample(index) for index in range(24)],
}
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agreement.json")
with open(path, "w") as file:
    file.write("\n".join(json.dumps(fixture, separators=(",", ":")).replace('{"rows"', '\n{"rows"').split("\n")) + "\n")
