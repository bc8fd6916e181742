#!/usr/bin/env bash
# statsmodels 0.15.0: `aggregate_raters` counts a missing rating (NaN) as a category of its own, without a warning.
#
# Input: 6 units, 3 raters, two categories; one rater has left out two units. The page of `aggregate_raters` says nothing of
# missing values. Seen: the table gets a third column, the NaNs, and Fleiss' kappa is computed over three categories. The
# units without a gap alone, or the generalisation to unequal numbers of raters (Gwet, 2014), give another value.
# Harm: kappa of a labelling campaign in which experts skipped pairs is wrong, and nothing tells.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet statsmodels==0.15.0 numpy==2.4.6
"$folder/venv/bin/python" -W error::UserWarning - <<'PY'
import numpy as np
import statsmodels
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

assert statsmodels.__version__ == "0.15.0", statsmodels.__version__
nan = np.nan
ratings = np.array([[1, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, nan], [0, 0, nan]])
table, categories = aggregate_raters(ratings)
print("categories:", categories.tolist())
print("table:", table.tolist())
with_nan = fleiss_kappa(table)
whole = ratings[~np.isnan(ratings).any(axis=1)]
complete = fleiss_kappa(aggregate_raters(whole)[0])
print(f"Fleiss' kappa: {with_nan:.6f} with the gaps, {complete:.6f} on the complete units")
assert len(categories) == 3 and np.isnan(categories[-1]), "the missing rating is no category any more"
assert table.shape == (6, 3) and (table.sum(axis=1) == 3).all()
assert abs(with_nan - complete) > 0.01
PY
