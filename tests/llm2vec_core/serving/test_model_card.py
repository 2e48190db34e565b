import itertools
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.model.checkpoint import CheckpointRecord, EncoderSpec
from llm2vec_core.serving.model_card import TrainingSource, render_model_card
from llm2vec_core.training.settings import StageCurve

EVIL = "<script>alert('x')</script> | **bold** & [link](http://evil.example) `code` {{ 7 * 7 }}\n---\n# Head: *"
FINGERPRINT = "ab" * 32


def record(**more: Any) -> CheckpointRecord:
    fields: dict[str, Any] = {
        "fingerprint": FINGERPRINT,
        "base_model": "bundled:smollm2-135m",
        "attention": "bidirectional",
        "pooling_mode": "mean",
        "embedding_dim": 576,
        "max_tokens": 512,
        "stages": ("mntp", "simcse"),
        "files": {"model.safetensors": 12_345_678},
    }
    return CheckpointRecord(**(fields | more))


def score(task: str, value: float, **more: Any) -> TaskScore:
    fields: dict[str, Any] = {
        "type": "STS",
        "main_score_name": "cosine_spearman",
        "metrics": {},
        "seconds": 1.0,
        "num_items": 1379,
        "num_texts": 2000,
        "content_sha256": "c0ffee",
        "system_fingerprint": FINGERPRINT,
    }
    return TaskScore(task=task, main_score=value, **(fields | more))


def curve(stage: Any) -> StageCurve:
    return StageCurve(
        stage=stage, num_steps=1000, tokens=12_345, seconds=61.2, losses=[5.25, 4.5], learning_rates=[1e-4, 0.0]
    )


def render(checkpoint: CheckpointRecord | None = None, **more: Any) -> str:
    fields: dict[str, Any] = {
        "curves": (curve("mntp"), curve("simcse")),
        "training_data": (TrainingSource(name="postings", kind="job", snapshot="5f3a", num_documents=162),),
        "base_licence": None,
        "created": date(2026, 11, 5),
    }
    return render_model_card(checkpoint or record(), **(fields | more))


def headings(card: str) -> list[str]:
    tokens = MarkdownIt().parse(ModelCard(card).text)
    pairs = itertools.pairwise(tokens)
    return [content.content for start, content in pairs if start.type == "heading_open"]


def data(card: str) -> dict[str, Any]:
    return ModelCard(card).data.to_dict()


def plain_text(card: str) -> str:
    return " ".join(ModelCard(card).text.split())


def test_the_card_has_its_sections_in_order() -> None:
    assert headings(render(scores=[score("STSBenchmark", 71.119)])) == [
        "smollm2-135m+bidirectional+mntp+simcse+mean",
        "How to use",
        "How it was trained",
        "Training data",
        "Evaluation",
        "Intended use",
        "Limits and what it is not for",
        "Licence",
    ]


def test_an_untrained_encoder_claims_no_training() -> None:
    card = render(record(stages=()), curves=(), training_data=())
    assert "Training data" not in headings(card)
    assert "the weights are those of the base model" in plain_text(card)
    assert "LLM2Vec" not in card and "llm2vec" not in data(card)["tags"]


def test_the_head_is_metadata_that_the_hub_reads() -> None:
    found = data(render(scores=[score("STSBenchmark", 71.119, is_official=True), score("Own", 50.0)]))
    assert found["library_name"] == "sentence-transformers"
    assert found["pipeline_tag"] == "sentence-similarity"
    assert found["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert {"sentence-transformers", "llm2vec", "bidirectional", "mntp", "simcse"} <= set(found["tags"])
    (index,) = found["model-index"]
    assert index["name"] == "smollm2-135m+bidirectional+mntp+simcse+mean"
    first, second = index["results"]
    assert first["dataset"]["name"] == "MTEB STSBenchmark"
    assert first["metrics"] == [{"type": "cosine_spearman", "value": 71.12}]
    assert second["dataset"]["name"] == "Own"


@pytest.mark.parametrize(
    ("base_model", "expected"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-chat-hf"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("bundled:all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("/home/somebody/models/own", None),
        ("./models/own", None),
    ],
)
def test_only_names_of_the_hub_are_given_as_the_base(base_model: str, expected: str | None) -> None:
    card = render(record(base_model=base_model, recipe={"base_model": base_model, "max_tokens": 512}))
    assert data(card).get("base_model") == expected
    assert "somebody" not in card
    assert "own" in card or expected


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("Llama 2 Community License", {"license": "other", "license_name": "Llama 2 Community License"}),
        (None, {}),
    ],
)
def test_the_licence_is_given_as_known(licence: str | None, expected: dict[str, str]) -> None:
    card = render(base_licence=licence)
    assert {key: value for key, value in data(card).items() if key.startswith("license")} == expected
    said = f"given under {licence}." if licence else "The licence of the base model is not known."
    assert said in plain_text(card)


def test_scores_stand_in_a_table_with_their_intervals() -> None:
    card = render(scores=[score("STSBenchmark", 71.119, ci_low=69.04, ci_high=73.26, is_official=True)])
    assert "| STSBenchmark | STS | cosine\\_spearman | 71.12 | 69.04 to 73.26 | 1,379 | yes |" in card
    assert "| Own | STS | cosine\\_spearman | 50.00 | not known | 1,379 | no |" in render(scores=[score("Own", 50.0)])


def test_without_scores_nothing_is_claimed() -> None:
    card = render()
    assert "Evaluation" not in headings(card)
    assert "model-index" not in data(card)
    assert "how good it is, is not known" in plain_text(card)


def test_scores_of_another_encoder_are_refused() -> None:
    with pytest.raises(InputError, match="Foreign do not belong to the checkpoint abababababab"):
        render(scores=[score("Own", 50.0), score("Foreign", 60.0, system_fingerprint="cd" * 32)])


def test_training_says_what_is_known_and_what_is_not() -> None:
    card = render(curves=[curve("mntp")])
    assert "| MNTP (masked next token prediction) | 1,000 | 12,345 | 61 | 5.250 | 4.500 |" in card
    assert re.search(r"\| SimCSE [^|]*\|( not known \|){5}", card)
    assert "The settings of the training are not known." in card
    card = render(record(recipe={"base_model": "x", "mntp": {"steps": 1000, "learning_rate": 5e-5}}))
    assert '"learning_rate": 5e-05' in card


def test_training_data_says_what_is_known_and_what_is_not() -> None:
    assert "| postings | job | 162 | 5f3a | not known |" in render()
    assert "| cvs | not known | not known | not known | CC BY 4.0 |" in render(
        training_data=[TrainingSource(name="cvs", licence="CC BY 4.0")]
    )
    pinned = render(record(training_snapshots={"resume": "77aa", "job": "5f3a"}), training_data=())
    assert "- job: 5f3a\n- resume: 77aa\n" in pinned
    assert "The texts that it was trained on are not known." in render(training_data=())


def test_text_from_data_is_no_markup() -> None:
    card = render(
        record(base_model=EVIL, stages=("mntp", EVIL), recipe_key=None),
        training_data=[TrainingSource(name=EVIL, kind=EVIL, snapshot=EVIL, licence=EVIL)],
        scores=[score(EVIL, 1.0, main_score_name=EVIL)],
        base_licence=EVIL,
    )
    assert data(card)["license_name"] == EVIL
    assert headings(card)[1:] == headings(render(scores=[score("Own", 1.0)]))[1:]
    tokens = MarkdownIt().enable("table").parse(ModelCard(card).text)
    inline = [child for token in tokens for child in token.children or ()]
    assert not [token for token in [*tokens, *inline] if token.type in ("html_block", "html_inline")]
    links = {token.attrs["href"] for token in inline if token.type == "link_open"}
    assert links <= {"https://arxiv.org/abs/2404.05961"}
    bold = [after.content for token, after in itertools.pairwise(inline) if token.type == "strong_open"]
    assert "bold" not in bold
    code = [token.content for token in inline if token.type == "code_inline"]
    assert "code" not in code
    rows = re.findall(r"<tr>.*?</tr>", MarkdownIt().enable("table").render(ModelCard(card).text), flags=re.DOTALL)
    assert {len(re.findall(r"<t[dh]", row)) for row in rows} == {2, 5, 6, 7}
    assert "49" not in card


def test_the_card_says_what_the_encoder_is_not_for() -> None:
    text = plain_text(render())
    for promised in ("No decision about a person", "Personal data", "Bias", "Language", "Intended use"):
        assert promised in text


def test_old_versions_of_transformers_are_warned_of_where_it_matters() -> None:
    assert "transformers 5.2" in render()
    assert "transformers 5.2" not in render(record(attention="causal", stages=("simcse",)))


def test_the_example_runs_on_a_checkpoint_with_its_card(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "checkpoint"
    written = write_checkpoint(
        directory,
        backbone=tiny_base,
        spec=EncoderSpec(base_model=str(tiny_base), attention="bidirectional", pooling_mode="mean", max_tokens=64),
    )
    path = directory / "README.md"
    path.write_text(render(written, curves=(), training_data=()), encoding="utf-8")
    assert ModelCard.load(path).data.library_name == "sentence-transformers"
    (example,) = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "path/to/this/directory" in example
    exec(example.replace("path/to/this/directory", str(directory)), {})
    assert capsys.readouterr().out.startswith("tensor([[")
