"""The map of docs/scale.md is what its script prints, and its limits are those of the table."""

from pathlib import Path

from benchmarks.scale_map import MEASURED, NIGHT_S, SIZES, TOKENS, cost_of, table

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")


def test_the_table_is_reproduced_by_its_script():
    assert table() in PAGE


def test_the_limits_follow_from_the_unit_costs():
    assert round(MEASURED.cpu_tokens_per_s * NIGHT_S / TOKENS, -3) == 75_000 and "75,000 new documents" in PAGE
    million = cost_of(1_000_000)
    for hours, name, limit in ((8, "products_cpu_h", 3.1e6), (16, "rankings_cpu_h", 7e5), (8, "products_gpu_h", 5.8e7)):
        assert abs((hours / million[name]) ** 0.5 * 1e6 / limit - 1) < 0.05, name
    assert [cost_of(size)["disk_gb"] < 1000 for size in SIZES] == [True] * 4
