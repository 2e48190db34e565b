"""Whether the class of the first place says that nobody fits: the sample's jobs, of which 71 have no fitting resume.

Prints a Markdown table of the separation of both groups of jobs (area under the curve), the error rates of the limits,
and the stated rates on held-back jobs. No judgments are used to fit the limits.

    python -m benchmarks.fit [--encoder NAME]
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from jaxtyping import Bool, Float32

from benchmarks.common.machine import describe
from benchmarks.common.retrieval import KeptVectors
from data.sample.read import read_sample_jobs, read_sample_resumes
from llm2vec_core.ranking.fit import FitLimits, fit_limits, held_back_rates, shares_below

FITTING = "ict"
"""Category of the jobs that some resumes of the sample are made for."""

SPLITS = 5


def auc(values: np.ndarray, is_fitting: Bool[np.ndarray, " jobs"]) -> float:
    """Share of pairs of a fitting and another job in which the fitting one has the higher value; ties count half."""
    high, low = values[is_fitting][:, None], values[~is_fitting][None]
    return float(((high > low) + 0.5 * (high == low)).mean())


def held_back_errors(
    jobs: Float32[np.ndarray, "jobs dim"], resumes: Float32[np.ndarray, "resumes dim"], is_fitting: np.ndarray
) -> tuple[float, float]:
    """Means over splits of the jobs: nobody fits, but possible or strong; somebody fits, but none."""
    found = []
    for seed in range(SPLITS):
        fitted_on, held_back = np.array_split(np.random.default_rng(seed).permutation(len(jobs)), 2)
        limits = _limits(jobs[fitted_on], resumes)
        best, fits = (jobs[held_back] @ resumes.T).max(axis=1), is_fitting[held_back]
        found.append(((best[~fits] >= limits.possible).mean(), (best[fits] < limits.possible).mean()))
    false_alarms, missed = np.mean(found, axis=0)
    return float(false_alarms), float(missed)


def _limits(jobs: Float32[np.ndarray, "jobs dim"], resumes: Float32[np.ndarray, "resumes dim"]) -> FitLimits:
    limits = fit_limits(jobs, resumes)
    if isinstance(limits, str):
        raise SystemExit(limits)
    return limits


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="bundled:all-minilm-l6-v2-jobs")
    parser.add_argument("--max-tokens", type=int, default=128)
    asked = parser.parse_args()
    rows = read_sample_jobs()
    vectors = KeptVectors.of_encoder(asked.encoder, max_tokens=asked.max_tokens)
    jobs = vectors.of([f"{row['title']}\n{row['description']}" for row in rows])
    resumes = vectors.of([f"{row['title']}\n{row['text']}" for row in read_sample_resumes()])
    is_fitting = np.array([row["category"] == FITTING for row in rows])
    cosines = jobs @ resumes.T
    best, limits = cosines.max(axis=1), _limits(jobs, resumes)
    shares = shares_below(best, cosines.argmax(axis=1), resumes, jobs)
    false_alarms, missed = held_back_errors(jobs, resumes, is_fitting)
    figures = {
        "auc_of_cosine": auc(best, is_fitting),
        "auc_of_share": auc(shares, is_fitting),
        "possible_from": limits.possible,
        "strong_from": limits.strong,
        "mutual_pairs": limits.mutual,
        "nobody_fits_but_possible": float((best[~is_fitting] >= limits.possible).mean()),
        "nobody_fits_but_strong": float((best[~is_fitting] >= limits.strong).mean()),
        "somebody_fits_but_none": float((best[is_fitting] < limits.possible).mean()),
        "somebody_fits_below_strong": float((best[is_fitting] < limits.strong).mean()),
        "resumes_but_none": float((cosines.max(axis=0) < limits.possible).mean()),
        "held_back_nobody_fits_but_possible": false_alarms,
        "held_back_somebody_fits_but_none": missed,
    }
    print("| rate | stated | held-back | 95 % interval |\n| --- | ---: | ---: | ---: |")
    for rate in held_back_rates(jobs, resumes, seed=0):
        print(f"| {rate.name} | {rate.stated:.1%} | {rate.found:.1%} | {rate.low:.1%} to {rate.high:.1%} |")
    print(
        json.dumps({"encoder": asked.encoder, **{name: round(each, 3) for name, each in figures.items()}, **describe()})
    )


if __name__ == "__main__":
    main()
