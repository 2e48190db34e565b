"""The audit detects an encoder that reacts to names, but not a neutral encoder or redacted texts."""

import re
import zlib

import numpy as np
import pytest

from data.redaction.fairness_lines import pronoun_swaps
from llm2vec_core.evaluation.fairness import (
    NEUTRAL,
    FairnessAudit,
    audit_fairness,
    rank_biased_overlap,
    render_fairness,
    render_statement,
)

DIM = 64
PRONOUNS = pronoun_swaps()
LISTS = {
    "name": {"one": ["Emily Walsh", "Greg Baker"], "other": ["Lakisha Booker", "Jamal Banks"]},
    "school": {"public": ["Education: Leeds"], "selective": ["Education: Oxford"]},
    NEUTRAL: {"page": ["Page 1 of 1"], "heading": ["Curriculum vitae"], "asked": ["References on request"]},
}
WORDS = ["cloud", "nurse", "ledger", "tram", "weld", "teach", "code", "ship", "farm", "audit", "cook", "draw"]


def direction(word):
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM)


def encode(texts, *, penalty=0.0):
    """Bags of words; with a penalty, away from all jobs for the names of one group."""
    vectors = []
    for text in texts:
        vector = sum(direction(word) for word in re.findall(r"\w+", text.lower()) if word in WORDS)
        vector = vector + 0.02 * direction(text)  # every edit moves a vector a little
        if penalty and re.search("Lakisha|Jamal", text):
            vector = vector + penalty * direction("a place far away")
        vectors.append(vector / np.linalg.norm(vector))
    return np.array(vectors, dtype=np.float32)


def texts(count, seed):
    draw = np.random.default_rng(seed)
    return [f"He did {' '.join(draw.choice(WORDS, 5))} and liked it. {number}" for number in range(count)]


JOBS, POOL, RESUMES = encode(texts(30, 1)), encode(texts(200, 2)), texts(24, 3)


def audit(encoder=encode, **options) -> FairnessAudit:
    return audit_fairness(encoder, RESUMES, jobs=JOBS, pool=POOL, lists=LISTS, rewrites=PRONOUNS, **options)


def found(result, name):
    return next(each for each in result.attributes if each.attribute == name)


def test_an_encoder_that_knows_no_names_does_not_fire():
    result = audit()
    assert result.firing == []
    assert found(result, NEUTRAL).displacement > 0  # the yardstick does measure something


def test_an_encoder_that_is_sensitive_to_names_fires_on_names_only():
    result = audit(lambda batch: encode(batch, penalty=1.5))
    assert result.firing == ["name"]
    name = found(result, "name")
    assert (name.favoured, name.disfavoured) == ("one", "other")
    assert name.impact_ratio < 0.8
    assert name.impact_low <= name.impact_ratio <= name.impact_high < 1
    assert "below the four fifths" in name.sentence()


def test_many_groups_are_no_reason_to_fire():
    """An encoder that any edit moves at random: twelve names move resumes no more than four neutral edits do."""
    many = {
        "name": {f"group {number}": [f"Person {number}"] for number in range(12)},
        "school": {"one": ["Education: one"], "other": ["Education: other"]},
        NEUTRAL: {f"edit {number}": [f"Page {number}"] for number in range(4)},
    }
    firing = []
    for seed in range(30):
        noise = np.random.default_rng(seed)

        def encode_with_noise(batch, noise=noise):
            vectors = encode(batch) + 0.15 * noise.normal(size=(len(batch), DIM)) / np.sqrt(DIM)
            return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

        firing += audit_fairness(
            encode_with_noise, RESUMES, jobs=JOBS, pool=POOL, lists=many, rewrites=PRONOUNS, seed=seed
        ).firing
    assert len(firing) <= 9  # 30 audits of three attributes, each at 5 %


def test_redacted_names_have_exactly_no_effect():
    def redact(text):
        return re.sub(r"\A(Emily Walsh|Greg Baker|Lakisha Booker|Jamal Banks)", "[NAME_1]", text)

    name = found(audit(lambda batch: encode(batch, penalty=1.5), prepare=redact), "name")
    assert name.displacement == name.displacement_high == 0.0
    assert name.impact_ratio == 1.0
    assert "no effect at all" in name.sentence()


def test_pronouns_are_swapped_in_their_case():
    seen = []

    def spy(batch):
        seen.extend(batch)
        return encode(batch)

    audit_fairness(spy, ["He lost his keys; Himself he blamed."], jobs=JOBS, pool=POOL, lists=LISTS, rewrites=PRONOUNS)
    assert "Pronouns: she/her\nShe lost her keys; Herself she blamed." in seen
    assert "Pronouns: they/them\nThey lost their keys; Themselves they blamed." in seen


def test_attributes_are_those_that_the_caller_hands_in():
    rewrites = {"city": {"near": lambda text: f"Lives in Leeds. {text}", "far": lambda text: f"Lives in Oslo. {text}"}}
    result = audit_fairness(encode, RESUMES, jobs=JOBS, pool=POOL, lists=LISTS, rewrites=rewrites)
    assert [each.attribute for each in result.attributes] == ["name", "school", "city", NEUTRAL]
    assert set(found(result, "city").selection_rates) == {"near", "far"}


def test_intervals_narrow_with_more_resumes():
    def width(count):
        result = audit_fairness(encode, texts(count, 5), jobs=JOBS, pool=POOL, lists=LISTS, rewrites=PRONOUNS)
        each = found(result, NEUTRAL)
        return each.displacement_high - each.displacement_low

    assert width(60) < width(6)


def test_the_page_says_what_it_means_and_what_it_does_not():
    page = render_fairness({"as stored": audit(), "without redaction": audit(lambda batch: encode(batch, penalty=1.5))})
    assert page.count("| name |") == 2
    assert "yardstick" in page
    assert "no independent bias audit" in page


def test_nothing_to_audit_is_an_error():
    with pytest.raises(ValueError, match="resumes, jobs"):
        audit_fairness(encode, [], jobs=JOBS, pool=POOL, lists=LISTS, rewrites=PRONOUNS)


@pytest.mark.parametrize(
    ("first", "second", "p", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 0.9, 1.0),
        ([1, 2, 3], [4, 5, 6], 0.9, 0.0),
        # Agreement 0, 1 and 1 at the three depths: 1 * 0.5^3 + (0.5 / 0.5) * (0 + 0.25 + 0.125).
        ([1, 2, 3], [2, 1, 3], 0.5, 0.5),
        # Agreement 1, 1/2 and 2/3: 2/3 * 0.729 + (0.1 / 0.9) * (0.9 + 0.5 * 0.81 + 2/3 * 0.729).
        ([1, 2, 3], [1, 3, 4], 0.9, 2 / 3 * 0.729 + 0.1 / 0.9 * (0.9 + 0.405 + 0.486)),
        # Agreement 0, 0 and 2/3.
        ([1, 2, 3], [4, 3, 2], 0.9, 2 / 3 * 0.729 + 0.1 / 0.9 * 2 / 3 * 0.729 + 0.1 / 0.9 * 0.0),
    ],
)
def test_rank_biased_overlap_is_that_of_its_definition(first, second, p, expected):
    for left, right in ((first, second), (second, first)):
        (found,) = rank_biased_overlap(np.array([left]), np.array([right]), p=p)
        assert found == pytest.approx(expected)


def test_overlap_falls_with_an_encoder_that_knows_names_and_is_one_behind_redaction():
    def redact(text):
        return re.sub(r"\A(Emily Walsh|Greg Baker|Lakisha Booker|Jamal Banks)", "[NAME_1]", text)

    moved = found(audit(lambda batch: encode(batch, penalty=1.5)), "name")
    blind = found(audit(lambda batch: encode(batch, penalty=1.5), prepare=redact), "name")
    assert moved.overlap < 0.99 and moved.overlap_low <= moved.overlap <= moved.overlap_high
    assert (blind.overlap, blind.overlap_low, blind.overlap_high) == (1.0, 1.0, 1.0)
    assert found(audit(), "name").overlap > moved.overlap_high


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_the_statement_says_what_was_tested_the_figures_and_the_limits(form):
    audits = {"as stored": audit(), "without redaction": audit(lambda batch: encode(batch, penalty=1.5))}
    statement = render_statement(audits, form, state="generation g, 1 March 2026").replace("\\", "")
    for said in (
        "generation g, 1 March 2026",
        "What was tested",
        "What this does not show",
        "no independent bias audit",
    ):
        assert said in statement
    for result in audits.values():
        name = found(result, "name")
        assert f"{name.overlap:.4f}" in statement and f"{name.overlap_low:.4f} to {name.overlap_high:.4f}" in statement
    assert "name: No effect is shown as stored" in statement
    assert 500 < len(re.sub("<style>.*?</style>|<[^>]+>", " ", statement, flags=re.DOTALL).split()) < 1200, "two pages"
    old = {"as stored": FairnessAudit.model_validate({**audit().model_dump(), "attributes": [
        {key: value for key, value in each.model_dump().items() if not key.startswith("overlap")}
        for each in audit().attributes
    ]})}  # fmt: skip
    assert "Fairness statement" in render_statement(old, form, state="old")
