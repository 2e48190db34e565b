"""A Ray cluster of two nodes on this machine, for tests of the engines."""

from collections.abc import Iterator

import pytest

_ON_A_BUSY_MACHINE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
    "RAY_health_check_initial_delay_ms": "120000",
    "RAY_health_check_timeout_ms": "120000",
    "RAY_prestart_worker_first_driver": "0",  # processes are made when there is work, not before
    "RAY_enable_worker_prestart": "0",
    "RAY_memory_monitor_refresh_ms": "0",
}
"""A slow start is no failure; and Ray starts no more processes than it needs."""


@pytest.fixture
def two_ray_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two nodes of one core each, which ``RAY_ADDRESS`` names."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra `scale`)")
    for name, value in _ON_A_BUSY_MACHINE.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes(timeout=300)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield
    finally:
        cluster.shutdown()
