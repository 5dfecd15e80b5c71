import pytest


@pytest.fixture(scope="session")
def ray_cluster():
    """Address of a Ray cluster of two machines with a core each."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'vivavoz[ray]'")
    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # Ray's workers stand back by 15, for ever on a busy machine
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            cluster.add_node(**node)
            yield cluster.address
        finally:
            cluster.shutdown()
