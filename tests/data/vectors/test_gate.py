import numpy as np
import pyarrow as pa
import pytest

from data.config import GateConfig
from data.schema import sha256_text
from data.vectors.gate import (
    GenerationRefusedError,
    TableProfile,
    judge_table,
    judge_unusable,
    profile_table,
    stability_index,
)

DIM = 16
DEFAULTS = GateConfig()
ENGLISH = "the nurse will care for patients on the ward and keep careful records of all treatment given there "
GERMAN = "die pflegekraft betreut die patienten auf der station und führt über jede behandlung sorgfältig buch "
RUSSIAN = "медсестра ухаживает за пациентами в отделении и ведёт записи обо всём лечении "


def vectors_of(count, *, seed=0, shift=0.0):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    vectors[:, 0] += shift
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def batches_of(vectors, *, text=ENGLISH, repeats=3, contents=None, size=100):
    count = len(vectors)
    texts = [f"{text * repeats} {number}" for number in range(count)]
    table = pa.table(
        {
            "content_sha256": [sha256_text(f"{each}") for each in (contents or range(count))],
            "num_chars": pa.array([len(each) for each in texts], pa.int64()),
            "text": texts,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM),
        }
    )
    return table.to_batches(max_chunksize=size)


def verdict(batches, reference=None, config=DEFAULTS):
    checks = judge_table(
        "jobs", profile_table(batches), None if reference is None else profile_table(reference), config
    )
    return {check.gate for check in checks if not check.passed}, {check.gate: check for check in checks}


SOUND = vectors_of(400)


def test_a_first_night_passes_with_a_note():
    failed, checks = verdict(batches_of(SOUND))
    assert not failed
    assert "nothing to compare with" in checks["centroid_shift"].note


def test_other_documents_of_the_same_kind_pass():
    failed, checks = verdict(batches_of(vectors_of(400, seed=1), repeats=4), batches_of(SOUND))
    assert not failed
    assert 0 < checks["centroid_shift"].figure < 0.2
    assert not any(check.note for check in checks.values())


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 2.0])
def test_one_unusable_vector_is_enough(bad):
    vectors = SOUND.copy()
    vectors[357] *= bad
    with np.errstate(invalid="ignore"):
        failed, checks = verdict(batches_of(vectors), batches_of(SOUND))
    assert "unusable_vectors" in failed
    assert checks["unusable_vectors"].figure == 1


def test_equal_vectors_of_different_contents_are_suspicious_and_of_equal_contents_not():
    vectors = SOUND.copy()
    vectors[:50] = vectors[0]
    failed, checks = verdict(batches_of(vectors), batches_of(SOUND))
    assert failed == {"duplicate_share"}
    assert checks["duplicate_share"].figure == pytest.approx(49 / 400)
    assert not verdict(batches_of(vectors, contents=[0] * 50 + list(range(50, 400))), batches_of(SOUND))[0]


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"repeats": 30}, "length_shift"),
        ({"text": GERMAN}, "letter_shift"),
        ({"text": RUSSIAN}, "letter_shift"),
    ],
)
def test_texts_of_another_length_or_language_are_refused(changed, gate):
    failed, checks = verdict(batches_of(SOUND, **changed), batches_of(SOUND))
    assert gate in failed
    assert checks[gate].figure > checks[gate].limit


def test_a_moved_centre_is_refused():
    failed, _ = verdict(batches_of(vectors_of(400, shift=2.0)), batches_of(SOUND))
    assert failed == {"centroid_shift"}


def test_few_documents_are_not_judged_by_shares_but_their_vectors_are(monkeypatch):
    few = vectors_of(20)
    few[:] = few[0]
    failed, checks = verdict(batches_of(few), batches_of(SOUND))
    assert not failed
    assert "fewer than 200" in checks["duplicate_share"].note
    assert verdict(batches_of(few * 2), batches_of(SOUND))[0] == {"unusable_vectors"}
    monkeypatch.setattr("data.vectors.gate.MIN_DOCUMENTS", 5)
    assert "centroid_shift" in verdict(batches_of(vectors_of(20, shift=9)), batches_of(SOUND), GateConfig())[0]


def test_figures_do_not_depend_on_how_rows_are_batched():
    whole, parts = (profile_table(batches_of(SOUND, size=size)) for size in (400, 7))
    assert np.allclose(whole.centroid, parts.centroid)
    assert (whole.lengths == parts.lengths).all()
    assert (whole.letters == parts.letters).all()
    assert (whole.num_documents, whole.num_contents, whole.num_shared) == (400, 400, 0)
    assert (parts.num_documents, parts.num_contents, parts.num_shared) == (400, 400, 0)


def test_the_stability_index_of_known_shares():
    """Half and half against one to nine: (0.1-0.5) ln(0.1/0.5) + (0.9-0.5) ln(0.9/0.5)."""
    wanted = 0.4 * np.log(5) + 0.4 * np.log(1.8)
    assert stability_index(np.array([5 * 10**8] * 2), np.array([10**8, 9 * 10**8])) == pytest.approx(wanted, rel=1e-6)


def test_a_refusal_names_every_failed_gate_with_figure_and_limit():
    vectors = SOUND.copy()
    vectors[:50] = vectors[0] * 2
    checks = judge_table("jobs", profile_table(batches_of(vectors)), None, GateConfig())
    refusal = GenerationRefusedError(checks)
    assert "unusable_vectors is 50, the limit is 0" in str(refusal)
    assert "duplicate_share is 0.1225, the limit is 0.01" in str(refusal)
    assert "length_shift" not in str(refusal)
    assert refusal.checks == checks


def test_figures_come_back_from_their_record_to_the_last_bit():
    profile = profile_table(batches_of(SOUND, size=400))
    again = TableProfile.from_json(profile.to_json().encode())
    assert again.to_json() == profile.to_json()
    assert np.array_equal(again.centroid, profile.centroid)
    assert again.lengths.dtype == profile.lengths.dtype
    for damaged in (b"", b"{}", profile.to_json().replace('"lengths": [0, ', '"lengths": [').encode()):
        with pytest.raises(ValueError):
            TableProfile.from_json(damaged)


@pytest.mark.parametrize(
    ("bad", "total", "limit", "passed"),
    [
        (1, 6, 0.01, True),  # one document never stops a night
        (2, 6, 0.01, False),
        (10, 1000, 0.01, True),
        (11, 1000, 0.01, False),
        (1, 1000, 0.0, False),
        (1, 1, 0.5, False),  # nothing would be left
        (6, 6, 1.0, False),
    ],
)
def test_the_share_of_documents_without_a_vector_is_limited(bad, total, limit, passed):
    check = judge_unusable("jobs", bad, total, GateConfig(max_unusable_share=limit))
    assert check.passed == passed
    assert check.figure == pytest.approx(bad / total)
    assert f"{bad:,} of {total:,} jobs have no vector" in check.note
