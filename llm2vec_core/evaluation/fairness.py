"""The fairness audit: test whether a personal attribute moves a resume in the ranking.

Each sampled resume gets several versions that differ only in one attribute, such as the name. Each version is encoded
and ranked for each sampled job among the same other resumes. Two figures measure the attribute. The displacement is the
number of ranks that it moves a resume; neutral edits are the control, because encoders react to any edit. The impact
ratio of the four-fifths rule compares how often each group reaches the top. Intervals come from a bootstrap over the
resumes. A permutation of the groups within each resume tests the impact ratio, because the lowest of twelve rates is
below the highest even by chance. A third figure compares whole rankings: rank-biased overlap, with an interval by a
bootstrap over the jobs.

Belongs here: making the versions, and computing and explaining the figures, over texts and arrays.
Does not belong here: the attributes and their lines (``data.redaction.fairness_lines``), sampling of resumes and
jobs (``tasks.stages.audit``).

Source: the four-fifths rule is in 29 CFR 1607.4 D; counterfactual resumes after Bertrand and Mullainathan 2004, "Are
Emily and Greg More Employable than Lakisha and Jamal?"; neutral edits as a control after arXiv 2501.04316;
rank-biased overlap after Webber, Moffat and Zobel 2010, "A Similarity Measure for Indefinite Rankings".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float32, Int
from pydantic import BaseModel, ConfigDict

from llm2vec_core.pages import Cell, Column, Group, Table, TableRow, render_page
from llm2vec_core.pages.rendering import PageForm

NEUTRAL = "neutral edit"
FOUR_FIFTHS = 0.8
_NUM_RESAMPLES = 2000
_LEVEL = 0.05
_ROUNDING = 1e-9
OVERLAP_ATTRIBUTE, OVERLAP_GOAL = "name", 0.99
"""Least rank-biased overlap, at the lower end of its interval, of the rankings with names of two groups, as stored."""
OVERLAP_DEPTH = 100
OVERLAP_PERSISTENCE = 0.9
"""Weight of each place relative to the one before it: the first ten places carry 86 % of the weight."""

Encode = Callable[[Sequence[str]], Float32[np.ndarray, "texts dim"]]
"""Vectors of length one."""


class AttributeAudit(BaseModel):
    """Effect of one attribute on the ranking.

    Attributes:
        attribute: Name of the attribute.
        displacement: Mean distance in ranks between two versions of a resume.
        displacement_low: Lower end of its 95 % interval.
        displacement_high: Upper end.
        beyond_neutral: Whether it moves resumes significantly more than neutral edits do.
        selection_rates: Share of resumes and jobs for which each group reached the top k.
        impact_ratio: Lowest rate over the highest; None if no version reached the top.
        impact_low: Lower end of its 95 % interval.
        impact_high: Upper end.
        impact_p: Share of random relabellings of each resume's versions that yield a ratio as low.
        favoured: Group with the highest rate.
        disfavoured: Group with the lowest rate.
        overlap: Mean rank-biased overlap of a job's rankings with the versions of two groups, 0 to 1. None in audits
            of earlier versions.
        overlap_low: Lower end of its 95 % interval.
        overlap_high: Upper end.
    """

    model_config = ConfigDict(frozen=True)

    attribute: str
    displacement: float
    displacement_low: float
    displacement_high: float
    beyond_neutral: bool
    selection_rates: dict[str, float]
    impact_ratio: float | None
    impact_low: float | None
    impact_high: float | None
    impact_p: float | None
    favoured: str
    disfavoured: str
    overlap: float | None = None
    overlap_low: float | None = None
    overlap_high: float | None = None

    @property
    def fires(self) -> bool:
        """Whether the attribute moves resumes more than neutral edits, or one rate is below four fifths of another."""
        is_below = self.impact_ratio is not None and self.impact_ratio < FOUR_FIFTHS
        return self.beyond_neutral or (is_below and self.impact_p is not None and self.impact_p < _LEVEL)

    def sentence(self) -> str:
        """The finding in words."""
        if self.displacement == 0:
            return f"{self.attribute}: no effect at all; every version of a resume has the same place."
        moved = f"{self.attribute}: moves a resume by {self.displacement:.1f} ranks on average"
        compared = "more than neutral edits do" if self.beyond_neutral else "no more than neutral edits do"
        if self.impact_ratio is None:
            return f"{moved}, {compared}; no version reached the top."
        rule = "within the four fifths of the rule of thumb"
        if self.impact_ratio < FOUR_FIFTHS:
            rule = f"below the four fifths of the rule of thumb (p = {self.impact_p:.3f} by permutation)"
        return (
            f"{moved}, {compared}. '{self.disfavoured}' reaches the top {self.impact_ratio:.2f} times as often as "
            f"'{self.favoured}' ({self.impact_low:.2f} to {self.impact_high:.2f}): {rule}."
        )


class FairnessAudit(BaseModel):
    """The audit of one encoder on one sample.

    Attributes:
        resumes: Number of sampled resumes.
        jobs: Number of jobs that they were ranked for.
        pool: Number of other resumes in each ranking.
        top_k: Number of ranks that count as the top.
        encoded: Number of texts encoded for the audit.
        attributes: Effect of each attribute, neutral edits last.
    """

    model_config = ConfigDict(frozen=True)

    resumes: int
    jobs: int
    pool: int
    top_k: int
    encoded: int
    attributes: tuple[AttributeAudit, ...]

    @property
    def firing(self) -> list[str]:
        """Attributes that move rankings."""
        return [audit.attribute for audit in self.attributes if audit.attribute != NEUTRAL and audit.fires]


def audit_fairness(
    encode: Encode,
    resumes: Sequence[str],
    *,
    jobs: Float32[np.ndarray, "jobs dim"],
    pool: Float32[np.ndarray, "pool dim"],
    lists: Mapping[str, Mapping[str, Sequence[str]]],
    rewrites: Mapping[str, Mapping[str, Callable[[str], str]]] | None = None,
    top_k: int = 10,
    seed: int = 0,
    prepare: Callable[[str], str] = lambda text: text,
) -> FairnessAudit:
    """Measure how each attribute changes the ranking of resumes.

    Args:
        encode: Encoder of resumes.
        resumes: Sampled resumes.
        jobs: Vectors of the sampled jobs, of length one.
        pool: Vectors of other resumes, of length one.
        lists: Lines to put on top of a resume, by attribute and group; includes :data:`NEUTRAL`.
        rewrites: Functions that rewrite a resume, such as its pronouns, by attribute and group.
        top_k: Number of ranks that count as the top.
        seed: Seed for choosing each resume's line of a group.
        prepare: Applied to a text before it is encoded, such as redaction.

    Raises:
        ValueError: No resume, no job, or no neutral edits to compare with.
    """
    if not len(resumes) or not len(jobs) or NEUTRAL not in lists:
        raise ValueError("An audit needs resumes, jobs, and neutral edits to compare with.")
    draw = np.random.default_rng(seed)
    versions = {name: _with_lines(resumes, groups, draw) for name, groups in lists.items() if name != NEUTRAL}
    for name, groups in (rewrites or {}).items():
        versions[name] = {label: [rewrite(text) for text in resumes] for label, rewrite in groups.items()}
    versions[NEUTRAL] = _with_lines(resumes, lists[NEUTRAL], draw)
    prepared = {name: {label: [prepare(text) for text in texts] for label, texts in groups.items()}
                for name, groups in versions.items()}  # fmt: skip
    # Equal texts are encoded once: versions that redaction made equal have exactly equal vectors.
    distinct = list(dict.fromkeys(text for groups in prepared.values() for texts in groups.values() for text in texts))
    vectors = encode(distinct)
    row_of = {text: row for row, text in enumerate(distinct)}
    pool_scores = np.sort(jobs @ pool.T, axis=1)
    ranks = {
        name: np.stack(
            [_ranks(vectors[[row_of[text] for text in texts]], jobs, pool_scores) for texts in groups.values()], axis=1
        )
        for name, groups in prepared.items()
    }
    neutral = _displacements(ranks[NEUTRAL])
    overlaps = {
        name: _overlaps([vectors[[row_of[text] for text in texts]] for texts in groups.values()], jobs, pool)
        for name, groups in prepared.items()
    }
    return FairnessAudit(
        resumes=len(resumes),
        jobs=len(jobs),
        pool=len(pool),
        top_k=top_k,
        encoded=len(distinct),
        attributes=tuple(
            _judge(name, list(prepared[name]), found, neutral=neutral, overlaps=overlaps[name], top_k=top_k, draw=draw)
            for name, found in ranks.items()
        ),
    )


def rank_biased_overlap(
    first: Int[np.ndarray, "lists depth"], second: Int[np.ndarray, "lists depth"], *, p: float = OVERLAP_PERSISTENCE
) -> Float[np.ndarray, " lists"]:
    """Extrapolated rank-biased overlap of pairs of rankings: 1 for equal ones, 0 for rankings without a common item.

    Args:
        first: Items of rankings without ties, best first; none occurs twice.
        second: The rankings that they are compared with, of the same depth.
        p: Weight of each place relative to the one before it, below 1.

    Source: Webber, Moffat and Zobel 2010, equation 23: X_k / k p^k + (1 - p) / p sum of X_d / d p^d up to the depth k,
    where X_d is the number of items that the first d places have in common.
    """
    depth = first.shape[1]
    places = np.arange(depth)
    is_same = first[:, :, None] == second[:, None, :]
    both_at = np.where(is_same.any(axis=2), np.maximum(places, is_same.argmax(axis=2)), depth)
    common = (both_at[:, :, None] <= places).sum(axis=1)
    agreement = common / (places + 1)
    weights = p ** (places + 1)
    overlap = agreement[:, -1] * weights[-1] + (1 - p) / p * (agreement * weights).sum(axis=1)
    bounded: Float[np.ndarray, " lists"] = np.minimum(overlap, 1.0)  # rounding
    return bounded


def _overlaps(
    groups: Sequence[Float32[np.ndarray, "resumes dim"]],
    jobs: Float32[np.ndarray, "jobs dim"],
    pool: Float32[np.ndarray, "pool dim"],
) -> Float[np.ndarray, " jobs"]:
    """Mean overlap, for each job, of the rankings of the pool with all resumes in the versions of two groups."""
    others = jobs @ pool.T
    rankings = []
    for vectors in groups:
        scores = np.concatenate([others, jobs @ vectors.T], axis=1)
        rankings.append(np.argsort(-scores, axis=1, kind="stable")[:, :OVERLAP_DEPTH])
    pairs = list(zip(*np.triu_indices(len(rankings), k=1), strict=True))
    total = np.zeros(len(jobs))
    for first, second in pairs:
        total += rank_biased_overlap(rankings[first], rankings[second])
    return total / max(1, len(pairs))


def render_fairness(audits: Mapping[str, FairnessAudit]) -> str:
    """The audit as Markdown: a table and findings per encoding variant.

    Args:
        audits: Audits by encoding variant ("as stored", "without redaction").
    """
    lines = ["# Fairness audit", ""]
    for way, audit in audits.items():
        lines += [
            f"## {way.capitalize()}",
            "",
            f"{audit.resumes} resumes in equal versions, ranked for {audit.jobs} jobs among {audit.pool} others; "
            f"the top is the first {audit.top_k}. {audit.encoded} texts were encoded for it.",
            "",
            "| attribute | rank-biased overlap | 95 % interval | ranks moved | 95 % interval | impact ratio "
            "| 95 % interval | fires |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        ]
        for each in audit.attributes:
            fires = "yardstick" if each.attribute == NEUTRAL else "yes" if each.fires else "no"
            lines.append(f"| {' | '.join((each.attribute, *_overlap_cells(each), *_movement_cells(each), fires))} |")
        lines += ["", *(f"- {each.sentence()}" for each in audit.attributes), ""]
    lines.append(
        "The audit shows what an attribute does to this encoder's ranking of these resumes. It is no independent bias "
        "audit in the sense of any law, says nothing about decisions that people take, and a small sample misses small "
        "effects: 'no' means that none was shown."
    )
    return "\n".join(lines) + "\n"


def render_statement(audits: Mapping[str, FairnessAudit], form: PageForm, *, state: str) -> str:
    """The fairness statement: what was tested, figures and limits, for people outside.

    Args:
        audits: Audits by encoding variant; the first is what the system does.
        form: Form of the page.
        state: What was audited, such as the generation and the day.
    """
    stored = next(iter(audits.values()))
    names = [each.attribute for each in stored.attributes if each.attribute != NEUTRAL]
    return render_page(
        "llm2vec_core.evaluation",
        "fairness_statement.j2",
        form,
        eyebrow=state,
        stored=stored,
        attributes=names,
        goal=OVERLAP_GOAL,
        points=[_main_point(audits, name) for name in names],
        overlaps=_statement_table("Rank-biased overlap of the rankings of two groups", audits, _overlap_cells),
        tables=[
            _statement_table(f"{way.capitalize()}", {way: audit}, _movement_cells) for way, audit in audits.items()
        ],
        findings=[each.sentence() for each in stored.attributes],
    )


def _main_point(audits: Mapping[str, FairnessAudit], attribute: str) -> str:
    """One attribute in two sentences: its overlaps, and for names whether the interval meets the goal."""
    found = {way: each for way, audit in audits.items() for each in audit.attributes if each.attribute == attribute}
    figures = ", ".join(f"{_overlap_cells(each)[0]} {way}" for way, each in found.items())
    first = next(iter(found.values()))
    low = first.overlap_low if first.overlap_low is not None else 0.0
    verdict = ""
    if attribute == OVERLAP_ATTRIBUTE:
        verdict = "; the goal is met" if low >= OVERLAP_GOAL else "; the goal is not met"
    moved = "An effect is shown" if first.fires else "No effect is shown"
    return f"{attribute}: {moved} as stored. Rank-biased overlap {figures}{verdict}."


def _overlap_cells(each: AttributeAudit) -> tuple[str, str]:
    """Overlap and its interval."""
    if each.overlap is None or each.overlap_low is None or each.overlap_high is None:
        return "-", "-"
    return f"{each.overlap:.4f}", f"{each.overlap_low:.4f} to {each.overlap_high:.4f}"


def _movement_cells(each: AttributeAudit) -> tuple[str, str, str, str]:
    ratio = "-" if each.impact_ratio is None else f"{each.impact_ratio:.2f}"
    interval = "-" if each.impact_low is None else f"{each.impact_low:.2f} to {each.impact_high:.2f}"
    moved = f"{each.displacement:.2f}", f"{each.displacement_low:.2f} to {each.displacement_high:.2f}"
    return (*moved, ratio, interval)


def _statement_table(
    caption: str, audits: Mapping[str, FairnessAudit], cells: Callable[[AttributeAudit], Sequence[str]]
) -> Table:
    """Attributes as rows, with the cells of each variant."""
    heads = {2: ("{}", "95 % interval"), 4: ("ranks moved", "95 % interval", "impact ratio", "95 % interval")}
    rows: dict[str, list[Cell]] = {}
    columns: list[Column] = []
    for way, audit in audits.items():
        for each in audit.attributes:
            found = cells(each)
            rows.setdefault(each.attribute, []).extend(map(Cell, found))
        columns += [Column(head.format(way)) for head in heads[len(found)]]
    body = tuple(TableRow(name, tuple(values)) for name, values in rows.items())
    return Table(caption=caption, corner="attribute", columns=tuple(columns), groups=(Group("", body),))


# --- versions of a resume ---------------------------------------------------------------------------------------------


def _with_lines(
    resumes: Sequence[str], groups: Mapping[str, Sequence[str]], draw: np.random.Generator
) -> dict[str, list[str]]:
    """Each resume with one line of each group on top, at the same index of every group's list."""
    places = draw.integers(0, 2**31, size=len(resumes))
    return {
        label: [f"{lines[place % len(lines)]}\n{text}" for place, text in zip(places, resumes, strict=True)]
        for label, lines in groups.items()
    }


# --- figures ----------------------------------------------------------------------------------------------------------


def _ranks(
    vectors: Float32[np.ndarray, "resumes dim"],
    jobs: Float32[np.ndarray, "jobs dim"],
    pool_scores: Float32[np.ndarray, "jobs pool"],
) -> Int[np.ndarray, "resumes jobs"]:
    """Rank of each resume for each job among the pool, starting at 1."""
    scores = vectors @ jobs.T
    before = [row.size - np.searchsorted(row, scores[:, job], side="right") for job, row in enumerate(pool_scores)]
    return np.stack(before, axis=1) + 1


def _displacements(ranks: Int[np.ndarray, "resumes groups jobs"]) -> Float[np.ndarray, " resumes"]:
    """Mean rank distance of two versions of each resume; independent of the number of versions."""
    first, second = np.triu_indices(ranks.shape[1], k=1)
    moved: Float[np.ndarray, " resumes"] = np.abs(ranks[:, first] - ranks[:, second]).mean(axis=(1, 2))
    return moved


def _impact_p(selected: Float[np.ndarray, "resumes groups"], impact: float, draw: np.random.Generator) -> float:
    """P-value of the impact ratio by permutation: the groups of each resume are relabelled at random.

    An interval would mislead: the two groups are the extremes of all, which differ even by chance.
    """
    shuffled = draw.permuted(np.broadcast_to(selected, (_NUM_RESAMPLES, *selected.shape)), axis=2).mean(axis=1)
    ratios = shuffled.min(axis=1) / shuffled.max(axis=1)
    return float((1 + (ratios <= impact + _ROUNDING).sum()) / (1 + _NUM_RESAMPLES))


def _judge(
    attribute: str,
    labels: list[str],
    ranks: Int[np.ndarray, "resumes groups jobs"],
    *,
    neutral: Float[np.ndarray, " resumes"],
    overlaps: Float[np.ndarray, " jobs"],
    top_k: int,
    draw: np.random.Generator,
) -> AttributeAudit:
    moved = _displacements(ranks)
    selected = (ranks <= top_k).mean(axis=2)
    rates = selected.mean(axis=0)
    best, worst = int(rates.argmax()), int(rates.argmin())
    drawn = draw.integers(0, len(moved), size=(_NUM_RESAMPLES, len(moved)))
    low, high = _interval(moved[drawn].mean(axis=1))
    gain_low, _ = _interval((moved - neutral)[drawn].mean(axis=1))
    impact = impact_low = impact_high = impact_p = None
    if rates[best] > 0:
        impact = float(rates[worst] / rates[best])
        above, below = selected[drawn, best].mean(axis=1), selected[drawn, worst].mean(axis=1)
        impact_low, impact_high = _interval(below[above > 0] / above[above > 0])
        impact_p = _impact_p(selected, impact, draw)
    of_jobs = draw.integers(0, len(overlaps), size=(_NUM_RESAMPLES, len(overlaps)))
    overlap_low, overlap_high = _interval(overlaps[of_jobs].mean(axis=1))
    return AttributeAudit(
        attribute=attribute,
        displacement=float(moved.mean()),
        displacement_low=low,
        displacement_high=high,
        beyond_neutral=attribute != NEUTRAL and gain_low > 0,
        selection_rates={label: float(rate) for label, rate in zip(labels, rates, strict=True)},
        impact_ratio=impact,
        impact_low=impact_low,
        impact_high=impact_high,
        impact_p=impact_p,
        favoured=labels[best],
        disfavoured=labels[worst],
        overlap=float(overlaps.mean()),
        overlap_low=overlap_low,
        overlap_high=overlap_high,
    )


def _interval(values: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    low, high = np.percentile(values, [100 * _LEVEL / 2, 100 * (1 - _LEVEL / 2)])
    return float(low), float(high)
