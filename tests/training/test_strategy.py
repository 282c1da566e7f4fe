"""Strategies by name, and each replica's slice of the global batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.training.strategy import (
    distributed,
    get_strategy,
    in_cluster,
    is_chief,
    local_strategy,
    never_empty,
    task_number,
)


def batches(worker, num_workers):
    del worker, num_workers
    return tf.data.Dataset.range(16).batch(8)


def test_strategies_by_name(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert get_strategy("single").num_replicas_in_sync == 1
    assert get_strategy("auto").num_replicas_in_sync == 1
    assert get_strategy("mirrored").num_replicas_in_sync == len(tf.config.list_logical_devices("CPU")) == 2
    assert is_chief(get_strategy("mirrored")) and task_number(get_strategy("mirrored")) == 0


def test_a_worker_of_a_cluster_has_the_number_of_its_task():
    class Resolved:
        cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": ["one:1", "two:2", "three:3"]}), task_type="worker", task_id=2
        )

    assert task_number(Resolved) == 2 and not is_chief(Resolved)


def test_what_one_process_does_by_itself_leaves_the_cluster_alone(monkeypatch):
    """A cluster of workers that are not there: its strategy would wait for them."""
    cluster = {"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert local_strategy() is tf.distribute.get_strategy()


def test_impossible_strategies_are_refused(monkeypatch):
    with pytest.raises(InvalidInput, match=r"`strategy` is not known \(did you mean 'mirrored'"):
        get_strategy("mirror")
    alone = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(alone))
    with pytest.raises(InvalidInput, match="`strategy: multi_worker` finds no cluster"):
        get_strategy("multi_worker")
    monkeypatch.setenv("TF_CONFIG", "{cluster")
    with pytest.raises(InvalidInput, match="TF_CONFIG in the environment cannot be read"):
        get_strategy("auto")


def test_a_cluster_is_seen_without_joining_it(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert [in_cluster(kind) for kind in ("auto", "single", "mirrored", "multi_worker")] == [False] * 3 + [True]
    two = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(two))
    assert in_cluster("auto") and not in_cluster("single")


def test_each_replica_gets_its_contiguous_slice():
    strategy = get_strategy("mirrored")
    first = next(iter(distributed(strategy, batches, 8)))
    parts = [part.numpy() for part in strategy.experimental_local_results(first)]
    np.testing.assert_array_equal(parts, [[0, 1, 2, 3], [4, 5, 6, 7]])


def test_one_replica_gets_the_batches_as_they_are():
    assert isinstance(distributed(get_strategy("single"), batches, 7), tf.data.Dataset)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(InvalidInput, match=r"cannot be shared evenly.*a multiple of 2.*batch_size=7"):
        distributed(get_strategy("mirrored"), batches, 7)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_replica_without_rows_gets_one_that_weighs_nothing(weighted):
    strategy = get_strategy("mirrored")
    images = tf.reshape(tf.range(5.0), (5, 1))

    @tf.function
    def shared(counts):
        def of_replica(count):
            mine = images[:count]  # of a size that is not known when this is traced
            return never_empty((mine, None), 2 * mine[:, 0] if weighted else None)

        return strategy.run(of_replica, (counts,))

    counts = strategy.experimental_distribute_values_from_function(
        lambda replica: tf.constant([5, 0][replica.replica_id_in_sync_group])
    )
    (rows, labels), weights = shared(counts)
    parts = [strategy.experimental_local_results(values) for values in (rows, weights)]
    np.testing.assert_array_equal(parts[0][0], images)
    np.testing.assert_array_equal(parts[0][1], [[0.0]])
    np.testing.assert_array_equal(parts[1][0], 2 * images[:, 0] if weighted else np.ones(5))
    np.testing.assert_array_equal(parts[1][1], [0.0])
    assert labels is None or set(strategy.experimental_local_results(labels)) == {None}


def test_on_one_replica_a_batch_stays_as_it_is():
    batch = (tf.zeros((3, 1)), None)
    assert never_empty(batch, None) == (batch, None)
