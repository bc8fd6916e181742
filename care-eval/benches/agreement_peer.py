"""The coefficients of benches/agreement.rs by Python libraries, without bootstrap; see there.

    pip install irrCAC==0.4.4 krippendorff==0.9.0 statsmodels==0.15.0 scikit-learn==1.9.1 pandas
    python3 agreement_peer.py FILE
"""

import json
import sys
import time

import krippendorff
import numpy as np
import pandas as pd
from irrCAC.raw import CAC
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

table = pd.read_csv(sys.argv[1])
seconds, values = {}, {}


def timed(name, function):
    start = time.perf_counter()
    values[name] = float(function())
    seconds[name] = round(time.perf_counter() - start, 3)


def fleiss():
    # Units that all have rated: statsmodels knows no missing ratings.
    counts, _ = aggregate_raters(table.dropna().to_numpy().astype(int), n_cat=4)
    return fleiss_kappa(counts)


def cohen(weights):
    pair = table[["a", "b"]].dropna().to_numpy().astype(int)
    return cohen_kappa_score(pair[:, 0], pair[:, 1], weights=weights)


timed("cohen_kappa(identity)", lambda: cohen(None))
timed("cohen_kappa(quadratic)", lambda: cohen("quadratic"))
timed("statsmodels fleiss_kappa(identity), complete units", fleiss)
for level in ["nominal", "ordinal", "interval"]:
    timed(f"krippendorff_alpha({level})", lambda: krippendorff.alpha(table.to_numpy().T, level_of_measurement=level))
for method, name in [("fleiss", "irrCAC fleiss_kappa"), ("gwet", "irrCAC gwet_ac1"), ("bp", "irrCAC brennan_prediger")]:
    timed(name, lambda: getattr(CAC(table, digits=12), method)()["est"]["coefficient_value"])
print(json.dumps({"all_s": round(sum(seconds.values()), 3), "seconds": seconds, "values": values}))
