"""Fit: limits without judgments separate jobs that somebody fits from others, and the stated rates hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from llm2vec_core.ranking import fit
from llm2vec_core.ranking.fit import (
    MISSED,
    FitLimits,
    fit_limits,
    has_drifted,
    held_back_rates,
    mutual_cosines,
    shares_below,
)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def board(seed, *, occupations=40, without=20, per_job=3, per_resume=5, dim=64):
    """Jobs and resumes of occupations, of which some have no resumes; whether somebody fits each job."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(occupations, dim)) + rng.normal(size=dim)
    job_of = np.repeat(np.arange(occupations), per_job)
    resume_of = np.repeat(np.arange(occupations - without), per_resume)
    jobs = unit(centres[job_of] + 0.8 * rng.normal(size=(len(job_of), dim)))
    resumes = unit(centres[resume_of] + 0.8 * rng.normal(size=(len(resume_of), dim)))
    order = rng.permutation(len(jobs))
    return jobs[order], resumes, job_of[order] < occupations - without


@pytest.mark.parametrize("seed", range(3))
def test_the_best_fit_separates_jobs_that_somebody_fits_from_those_that_nobody_does(seed):
    jobs, resumes, is_fit = board(seed)
    limits = fit_limits(jobs, resumes)
    cosines = jobs @ resumes.T
    best = cosines.argmax(axis=1)
    shares = shares_below(cosines.max(axis=1), best, resumes, jobs)
    assert roc_auc_score(is_fit, shares) >= 0.97
    classes = limits.classes(cosines.max(axis=1))
    assert (classes[~is_fit] != "none").mean() <= 0.05
    assert (classes[is_fit] == "none").mean() <= 0.15
    assert limits.possible < limits.strong and limits.random_strong <= limits.random_possible < 0.2


def test_the_stated_rates_hold_on_jobs_that_the_limits_have_not_seen():
    jobs, resumes, _ = board(1, per_job=10)
    rates = held_back_rates(jobs, resumes, seed=0)
    assert len(rates) == 8
    for rate in rates:
        assert rate.low - 0.03 <= rate.stated <= rate.high + 0.03, rate
    assert rates[0].stated == MISSED["possible"]


def test_a_background_that_is_too_small_is_said_to_be(monkeypatch):
    jobs, resumes, _ = board(0)
    assert "49 jobs and 100 resumes" in fit_limits(jobs[:49], resumes)
    monkeypatch.setattr(fit, "MIN_MUTUAL", 1000)
    assert "pairs of the background choose each other; its limits need 1000" in fit_limits(jobs, resumes)
    assert held_back_rates(jobs[:60], resumes, seed=0) == []


def test_other_documents_of_the_same_kind_are_no_drift_and_nearer_ones_are():
    jobs, resumes, _ = board(2, per_job=8)
    limits = fit_limits(jobs[::2], resumes)
    assert not has_drifted(limits, jobs[1::2] @ resumes.T)
    assert has_drifted(limits, resumes @ resumes.T)
    assert not has_drifted(limits, resumes[:10] @ resumes[:10].T), "too few pairs say nothing"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 8), st.integers(1, 6))
def test_a_share_counts_the_background_that_is_lower(seed, num_pairs, num_found, num_background):
    rng = np.random.default_rng(seed)  # integers, so that equal cosines are equal
    vectors, background = (rng.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (num_found, num_background))
    cosines = rng.integers(-6, 7, num_pairs).astype(np.float32)
    found = rng.integers(0, num_found, num_pairs)
    expected = [np.mean(background @ vectors[at] < cosine) for cosine, at in zip(cosines, found, strict=True)]
    assert shares_below(cosines, found, vectors, background).tolist() == pytest.approx(expected)


def test_pairs_choose_each_other():
    cosines = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.1]], np.float32)
    # The last job's nearest resume has two nearer jobs, and the first two jobs are among the nearest of theirs.
    assert sorted(mutual_cosines(cosines).tolist()) == pytest.approx([0.7, 0.8, 0.9])


def test_a_class_begins_at_its_limit():
    limits = FitLimits(
        possible=0.5, strong=0.75, random_possible=0.1, random_strong=0.01, jobs=60, resumes=60, mutual=30
    )
    assert limits.classes(np.array([0.75, 0.74, 0.5, 0.49], np.float32)).tolist() == [
        "strong", "possible", "possible", "none",
    ]  # fmt: skip
    assert "5% and 25% are below" in limits.sentence()
