"""Judgments: files are read completely or rejected, and the bundled judgments do not leak into the evaluation."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import judgments
from data.documents.judgments import Judgment, judgments_sha256, read_judgments, sample_judgments
from data.errors import InputError
from data.sample import esco as sample_esco
from data.sample import eval_tasks as sample_tasks
from data.sample import read as sample
from tools import make_sample

BUNDLED = {name: read_judgments(name) for name in judgments.BUNDLED_JUDGMENTS}
HELD_OUT = [entry for entry in sample_esco.read_occupations() if sample_tasks.is_held_out(entry.uri)]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(*lines: object) -> str:
        path = tmp_path / "company.jsonl"
        path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
        return str(path)

    return write


def texts_of(judgment: Judgment) -> list[str]:
    return [judgment.anchor, judgment.positive, *judgment.negatives]


class TestForms:
    def test_pairs_and_triples(self, write: Any) -> None:
        source = write(
            {"anchor": "a", "positive": " p\n", "id": 7},
            {"anchor": "b", "positive": "q", "negative": "n"},
            {"anchor": "c", "positive": "r", "negatives": ["n1", "n2", "n1"]},
            {"anchor": "d", "positive": "s", "negatives": []},
        )
        assert read_judgments(source) == [
            Judgment("a", "p", (), "company.jsonl"),
            Judgment("b", "q", ("n",), "company.jsonl"),
            Judgment("c", "r", ("n1", "n2"), "company.jsonl"),
            Judgment("d", "s", (), "company.jsonl"),
        ]

    def test_alternative_titles(self, write: Any) -> None:
        source = write({"alternate_title": "Coder", "occupation": "15-1251.00", "title": "Computer Programmers"})
        assert read_judgments(source) == [Judgment("Coder", "Computer Programmers", (), "company.jsonl")]

    def test_a_judged_job_makes_a_judgment_of_each_text_that_fits(self, write: Any) -> None:
        source = write({"label": "Analyst", "pos": ["p1", "p2"], "neg": ["n"], "description": "d"})
        assert read_judgments(source) == [
            Judgment("d", "p1", ("n",), "company.jsonl"),
            Judgment("d", "p2", ("n",), "company.jsonl"),
        ]

    def test_the_forms_can_be_mixed_and_a_byte_order_mark_and_blank_lines_are_no_fault(self, write: Any) -> None:
        source = write(
            b'\xef\xbb\xbf{"anchor": "a", "positive": "p"}', b"", b"  ", {"alternate_title": "b", "title": "q"}
        )
        assert [judgment.anchor for judgment in read_judgments(source)] == ["a", "b"]

    def test_what_is_written_as_triples_is_read_again(self, write: Any) -> None:
        whole = BUNDLED["bundled:sample"]
        rows = [{"anchor": each.anchor, "positive": each.positive, "negatives": each.negatives} for each in whole]
        assert [texts_of(each) for each in read_judgments(write(*rows))] == [texts_of(each) for each in whole]

    @pytest.mark.shared_data
    def test_onet_is_read_whole(self, shared_data: Path) -> None:
        read = read_judgments(str(shared_data / "train" / "onet_titles.jsonl"))
        assert len(read) == 47_365
        assert {judgment.source for judgment in read} == {"onet_titles.jsonl"}


class TestFaults:
    @pytest.mark.parametrize(
        ("line", "found"),
        [
            (b'{"anchor": "a"', "expected a JSON object"),
            (b"[1, 2]", r"found \[1, 2\], expected a JSON object"),
            (b'{"anchor": "\xff"}', "not UTF-8"),
            (b"[" * 100_000, "expected a JSON object"),
            ({"anchor": "a"}, "found the keys 'anchor', expected those of one form: anchor"),
            ({"anchor": "a", "positive": "p", "alternate_title": "b", "title": "t"}, "expected those of one form"),
            ({"anchor": "a", "positive": 3}, "found positive = 3, expected a text"),
            ({"anchor": " \t", "positive": "p"}, "found anchor = ' .t', expected a text"),
            ({"anchor": "a", "positive": "p", "negative": None}, "found negative = None"),
            ({"anchor": "a", "positive": "p", "negatives": "n"}, "found negatives = 'n', expected a list"),
            ({"anchor": "a", "positive": "p", "negatives": ["n", ""]}, "an entry of negatives = ''"),
            ({"anchor": "a", "positive": "p", "negative": "p"}, "negative that equals the anchor or the positive"),
            ({"anchor": "a", "positive": "p", "negatives": ["n", "a"]}, "negative that equals the anchor"),
            ({"description": "d", "pos": [], "neg": ["n"]}, "found an empty pos"),
            ({"description": "d", "pos": ["p", "n"], "neg": ["n"]}, "found 'n' in pos and neg"),
            ({"anchor": "a", "positive": "half \ud83d"}, "an unpaired surrogate"),
        ],
    )
    def test_a_bad_line_is_named_with_what_was_found_and_expected(self, write: Any, line: object, found: str) -> None:
        source = write({"anchor": "a", "positive": "p"}, line)
        with pytest.raises(
            InputError, match=f"company.jsonl has 1 bad line.s., so nothing was read: line 2: .*{found}"
        ) as caught:
            read_judgments(source)
        assert "alternate_title" in caught.value.hint
        assert len(str(caught.value)) < 500

    def test_all_bad_lines_are_counted_and_five_are_named(self, write: Any) -> None:
        with pytest.raises(InputError, match=r"8 bad line\(s\), .*line 5: .*; and 3 more") as caught:
            read_judgments(write(*[{"anchor": "a"}] * 8))
        assert "line 6" not in str(caught.value)

    def test_nothing_to_read(self, write: Any, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no judgments"):
            read_judgments(write(b"", b" "))
        for name in ("bundled:esco", str(tmp_path / "missing.jsonl"), str(tmp_path)):
            with pytest.raises(InputError, match=re.escape(name)) as caught:
                read_judgments(name)
            assert "bundled:esco-titles" in caught.value.hint


class TestSampleAndIdentity:
    JUDGMENTS = tuple(Judgment(f"a{n}", f"p{n}", (f"n{n}",), "ab"[n % 4 == 0]) for n in range(40))

    @given(limit=st.integers(1, 50), seed=st.integers(0, 2**31))
    def test_a_sample_is_bounded_by_source_in_order_and_repeatable(self, limit: int, seed: int) -> None:
        kept = sample_judgments(self.JUDGMENTS, max_per_source=limit, seed=seed)
        assert kept == sample_judgments(iter(self.JUDGMENTS), max_per_source=limit, seed=seed)
        assert kept == [judgment for judgment in self.JUDGMENTS if judgment in set(kept)]
        for source, available in (("a", 30), ("b", 10)):
            of_source = [judgment for judgment in kept if judgment.source == source]
            assert len(of_source) == min(limit, available)
            alone = [judgment for judgment in self.JUDGMENTS if judgment.source == source]
            assert of_source == sample_judgments(alone, max_per_source=limit, seed=seed)

    def test_seeds_differ(self) -> None:
        first, second = (sample_judgments(self.JUDGMENTS, max_per_source=5, seed=seed) for seed in (1, 2))
        assert first != second

    def test_everything_that_decides_training_decides_the_identity(self) -> None:
        base = [Judgment("a", "p", ("n", "m"), "s"), Judgment("b", "q", (), "s")]
        others = [
            base[:1],
            base[::-1],
            [Judgment("a", "p", ("m", "n"), "s"), base[1]],
            [Judgment("a", "p", ("nm",), "s"), base[1]],
            [Judgment("a", "p", ("n", "m"), "t"), base[1]],
            [],
        ]
        assert judgments_sha256(base) == judgments_sha256(iter(list(base)))
        assert len({judgments_sha256(each) for each in (base, *others)}) == 7

    def test_the_identity_is_the_same_on_every_machine(self) -> None:
        lines = b'["\\u00e4", "p", ["n"], "s"]\n["b", "q", [], "t"]\n'
        known = [Judgment("ä", "p", ("n",), "s"), Judgment("b", "q", (), "t")]
        assert judgments_sha256(known) == hashlib.sha256(lines).hexdigest()


class TestBundled:
    def test_there_is_enough_of_both(self) -> None:
        assert {name: {judgment.source for judgment in read} for name, read in BUNDLED.items()} == {
            name: {name} for name in judgments.BUNDLED_JUDGMENTS
        }
        assert len(BUNDLED["bundled:sample"]) >= 50
        assert len(BUNDLED["bundled:esco-titles"]) >= 300

    def test_no_query_of_the_title_task_and_no_name_of_a_held_out_occupation_is_trained_on(
        self, tmp_path: Path
    ) -> None:
        """Also inside a text, and in the spelling of the generated resumes."""
        (folder,) = sample_tasks.write_sample_tasks(tmp_path, [sample_tasks.ESCO_TITLE_TASK])
        lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
        queries = {json.loads(line)["text"] for line in lines}
        assert len(queries) >= 200
        written = {name for entry in HELD_OUT for name in make_sample.role_names(entry)}
        titles = {entry.label for entry in HELD_OUT}
        names = re.compile(
            "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(queries | written | titles)), re.IGNORECASE
        )
        met = [
            (match.group(), judgment)
            for judgment in BUNDLED["bundled:sample"]
            for text in texts_of(judgment)
            if (match := names.search(text))
        ]
        assert met == []
        folded = {" ".join(name.lower().split()) for name in queries | written | titles}
        assert folded.isdisjoint(
            text.lower() for judgment in BUNDLED["bundled:esco-titles"] for text in texts_of(judgment)
        )

    def test_the_triples_that_are_left_out_touch_a_held_out_occupation(self) -> None:
        """Not more than that: each of them is of one, or has a name of one in its texts."""
        kept = {judgment.anchor for judgment in BUNDLED["bundled:sample"]}
        names = [
            name for entry in HELD_OUT for name in (entry.label, *entry.alternatives, *make_sample.role_names(entry))
        ]
        own = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names), re.IGNORECASE)
        for row in sample.read_train_triples():
            if row["anchor"] not in kept and not sample_tasks.is_held_out(str(row["occupation"])):
                assert any(own.search(str(row[key])) for key in ("anchor", "positive", "negative")), row

    def test_titles_are_those_of_occupations_that_are_not_held_out(self) -> None:
        free = {entry.label: entry for entry in sample_esco.read_occupations() if entry not in HELD_OUT}
        for judgment in BUNDLED["bundled:esco-titles"]:
            known = {" ".join(label.split()) for label in free[judgment.positive].alternatives}
            assert judgment.anchor in known
            assert judgment.anchor.casefold() != judgment.positive.casefold()
