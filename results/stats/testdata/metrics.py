"""Writes metrics.json, what scipy and numpy say to the inputs of metrics_test.go.

    python metrics.py > metrics.json
"""
import json

import numpy as np
from scipy.stats import binomtest, mannwhitneyu

rng = np.random.default_rng(7)
out = {"auroc": [], "wilson": [], "bootstrap": []}
for n, levels in [(4, 3), (20, 5), (50, 50), (200, 1000)]:
    scores = rng.integers(0, levels, n) / 8
    labels = rng.random(n) < 0.6
    labels[:2] = [True, False]
    u = mannwhitneyu(scores[labels], scores[~labels]).statistic
    out["auroc"].append(dict(scores=scores.tolist(), labels=labels.tolist(),
                             value=float(u / labels.sum() / (~labels).sum())))
for k, n in [(0, 10), (10, 10), (47, 50), (48, 50), (1, 3), (39, 40), (123, 1000)]:
    ci = binomtest(k, n).proportion_ci(method="wilson")
    out["wilson"].append(dict(k=k, n=n, lo=float(ci.low), hi=float(ci.high)))


def auroc(pos, neg):
    d = pos[:, None] - neg[None, :]
    return ((d > 0) + 0.5 * (d == 0)).mean()


# ten datasets with five models each, the first one clean: the mini grid
cluster = np.repeat(np.arange(10), 5)
labels = np.tile([False, True, True, True, True], 10)
scores = np.round(rng.normal(size=50) + 1.5 * labels + rng.normal(size=10)[cluster], 2)
boot = []
for _ in range(100_000):
    idx = np.concatenate([np.flatnonzero(cluster == c) for c in rng.integers(0, 10, 10)])
    s, l = scores[idx], labels[idx]
    boot.append(auroc(s[l], s[~l]))
lo, hi = np.percentile(boot, [2.5, 97.5])
out["bootstrap"].append(dict(scores=scores.tolist(), labels=labels.tolist(),
                             clusters=[f"d{c}" for c in cluster], lo=float(lo), hi=float(hi)))
print(json.dumps(out))
