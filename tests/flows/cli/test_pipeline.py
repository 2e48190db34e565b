"""Commands that run one stage of the pipeline."""

from flows.cli import run
from tests.flows.cli.conftest import call


def test_a_dry_run_shows_how_a_source_is_read_and_writes_nothing(capsys, tmp_path):
    (tmp_path / "jobs.csv").write_bytes("ID;Text\n1;Köchin\n2;Bäcker\n3\n".encode("cp1252"))
    arguments = ("ingest", "--kind", "job", "--source", str(tmp_path / "jobs.csv"), "--dry-run")
    code, preview, _ = call(capsys, *arguments)
    assert code == 0
    assert (preview["rows_in"], preview["rows_kept"], preview["rows_quarantined"]) == (3, 2, 1)
    assert preview["quarantine_reasons"] == {"wrong_shape": 1}
    assert [each["text"] for each in preview["documents"]] == ["Köchin", "Bäcker"]
    assert {"read as cp1252", "cells separated by semicolon"} <= set(preview["notes"])
    assert run([*arguments]) == 0
    assert "2 of 3" in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.csv"]


def test_a_dry_run_of_a_known_format_that_is_not_named_proposes_it(capsys, tmp_path):
    (tmp_path / "board.json").write_text('{"jobs": [{"id": 1, "title": "Cook", "content": "x", "absolute_url": "u"}]}')
    arguments = ("ingest", "--kind", "job", "--source", str(tmp_path / "board.json"), "--dry-run")
    code, preview, err = call(capsys, *arguments)
    assert code == 2
    assert 'format = "greenhouse"' in err
    assert preview["refused"]["proposed"] == {"format": "greenhouse"}
    assert preview["documents"][0]["title"] == "Cook"
    assert run([*arguments]) == 2
    out = capsys.readouterr().out
    assert "greenhouse" in out
    assert '{"jobs": [{' in out
    code, preview, _ = call(capsys, *arguments, "--format", "greenhouse")
    assert (code, preview["documents"][0]["title"], preview["fields"]) == (0, "Cook", {"format": "greenhouse"})


def test_ingest_reports_rows_and_loses_none(capsys, small_night):
    extra = small_night.folder / "more.jsonl"
    extra.write_text('{"id": 1, "text": "Welds pipes."}\n{"id": 2}\nnot json\n')
    code, result, _ = call(
        capsys,
        *("ingest", "--kind", "job", "--source", str(extra), "--config", str(small_night.config)),
    )
    assert code == 0
    assert (result["rows_in"], result["rows_kept"], result["rows_quarantined"]) == (3, 1, 2)
    assert result["rows_duplicate"] == 0
    assert result["snapshot"]


def test_a_file_that_cannot_be_read_changes_nothing(capsys, small_night):
    broken = small_night.folder / "broken.parquet"
    broken.write_bytes(b"PAR1 and then the disk was full")
    code, result, _ = call(
        capsys,
        *("ingest", "--kind", "job", "--source", str(broken), "--config", str(small_night.config)),
    )
    assert code == 2
    assert "broken.parquet" in result["error"]
    assert not list((small_night.home / "snapshots").rglob("*"))


def test_embed_full_makes_every_vector_anew(capsys, served_night):
    config = ("--config", str(served_night.config), "--profile", "tiny")
    code, unchanged, _ = call(capsys, "embed", *config)
    assert (code, unchanged["encoded_documents"], unchanged["upserted"]) == (0, 0, {"job": 0, "resume": 0})
    code, full, _ = call(capsys, "embed", "--full", *config)
    assert (code, full["encoded_documents"], full["upserted"]) == (0, 12, {"job": 6, "resume": 6})
    _, state, _ = call(capsys, "status", *config)
    assert state["served"]["sequence"] == 2


def test_a_base_model_that_ignores_the_switch_is_named(capsys, served_night):
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    base = served_night.folder / "state-space-model"
    size = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2}
    MambaForCausalLM(MambaConfig(**size, eos_token_id=1, bos_token_id=1, pad_token_id=0)).save_pretrained(base)
    AutoTokenizer.from_pretrained(served_night.base_model).save_pretrained(base)
    before = (served_night.home / "current.json").read_bytes()
    code, error, _ = call(
        capsys,
        *("train", "--base-model", str(base), "--config", str(served_night.config), "--profile", "tiny"),
    )
    assert code == 2
    assert "mamba" in error["error"]
    assert "ignores" in error["error"]
    assert (served_night.home / "current.json").read_bytes() == before


def test_train_takes_a_recipe_from_a_file_below_set(capsys, served_night):
    recipe = served_night.folder / "recipe.toml"
    recipe.write_text('[train]\nstages = ["simcse"]\n[train.simcse]\nsteps = 3\nlearning_rate = 1e-3\n')
    config = ("--profile", "tiny", "--config", str(served_night.config))
    code, result, _ = call(capsys, "train", "--recipe", str(recipe), "--set", "train.simcse.steps=2", *config)
    assert (code, result["steps"]) == (0, 2)


def test_train_refuses_a_recipe_file_with_other_settings(capsys, tmp_path):
    (tmp_path / "recipe.toml").write_text('home = "elsewhere"\n[train]\n')
    code, _, err = call(capsys, "train", "--recipe", str(tmp_path / "recipe.toml"))
    assert code == 2
    assert "has home; expected only the tables [train] and [judgments]" in err
