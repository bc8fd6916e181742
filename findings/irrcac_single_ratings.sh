#!/usr/bin/env bash
# irrCAC 0.4.4 (Python port of Gwet's R package): units with a single rating widen the intervals of agreement.
#
# A unit with a single rating says nothing about how often raters agree, and the coefficient of Brennan and Prediger does
# not change by it. irrCAC's standard error does: 200 units with two ratings, then the same with 800 units of one rating each,
# which is usual where a fifth of the units is rated twice.
#
# Seen: coefficient 0.64 in both, standard error 0.0545 and 0.0678; the same for `fleiss` and `gwet`. With the coefficient at
# 0.96, 0.0198 becomes 0.0639: the interval is three times as wide. No warning. Cause: the value is subtracted from the
# empty contributions of those units too (`bp_ivec - bp_coeff`), which adds coefficient^2 * (n / n2 - 1) / n to the variance.
#
# Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet irrCAC==0.4.4 pandas==2.3.3 numpy==1.26.4
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pandas as pd
from irrCAC.raw import CAC

def frame(disagreeing, single):
    both = [[unit % 2, unit % 2] for unit in range(200 - disagreeing)]
    both += [[unit % 2, 1 - unit % 2] for unit in range(disagreeing)]
    return pd.DataFrame(both + [[unit % 2, np.nan] for unit in range(single)], dtype=float)

changed = False
for disagreeing in [36, 4]:
    for method in ["bp", "fleiss", "gwet"]:
        found = [getattr(CAC(frame(disagreeing, single), digits=6), method)()["est"] for single in [0, 800]]
        values = [float(est["coefficient_value"]) for est in found]
        errors = [float(est["se"]) for est in found]
        print(f"{method}: coefficient {values[0]:.4f}, {values[1]:.4f}; standard error {errors[0]:.4f}, {errors[1]:.4f}")
        changed |= abs(values[0] - values[1]) > 1e-3 or errors[1] < 1.2 * errors[0]
raise SystemExit("the behaviour has changed" if changed else 0)
PYTHON
