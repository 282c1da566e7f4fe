"""Two workers on loopback: identical weights, and those of one process on the same global batches, to the running
statistics of batch norm, which all workers compute together.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from advss_tf.evaluation import Record

WORKER = """
import sys
import keras
import numpy as np
import tensorflow as tf
from pathlib import Path
from advss_tf.training.strategy import get_strategy, is_chief

strategy = get_strategy("auto")
assert strategy.num_replicas_in_sync == {replicas}
from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.data import load_data
from advss_tf.finetune import RobustClassifier
from advss_tf.training import SGD
from advss_tf.training.loop import Saving, train

digits = load_data("digits", labels_per_class=20)
with strategy.scope():
    images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=1))(images)
    x = keras.layers.BatchNormalization(synchronized=True)(x)
    encoder = keras.Model(images, keras.layers.Flatten()(x))
    model = RobustClassifier(encoder, 10, attack=ProjectedGradientDescent(Linf(0.1), num_steps=2))
    model.compile(SGD(0.05, momentum=0.9, clip_norm=1.0))
folder = Path(sys.argv[1])
picked = train(
    model, lambda **part: digits.train(16, **part), steps_per_epoch=6, epochs=2, batch_size=16, folder=folder / "run",
    validation=digits.held_out(), monitor="val_robust_accuracy", saving=Saving(every_steps=4), say=print,
)
logs = model.evaluate(digits.held_out(), verbose=0, return_dict=True)
weights = dict(enumerate(model.get_weights()))
np.savez(folder / f"{{sys.argv[2]}}.npz", accuracy=logs["robust_accuracy"], loss=logs["loss"], value=picked.value,
         **{{f"w{{i}}": w for i, w in weights.items()}})
if {replicas} > 1:
    strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)
"""


def start(folder, name, replicas, config=None):
    code = (
        "import os\n"
        "os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n"
        "os.environ['CUDA_VISIBLE_DEVICES'] = ''\n"
        + (f"os.environ['TF_CONFIG'] = {json.dumps(json.dumps(config))}\n" if config else "")
        + WORKER.format(replicas=replicas)
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.slow
def test_two_workers_train_to_identical_weights_and_to_those_of_one(tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    tasks = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}} for index in range(2)]
    processes = [start(tmp_path / "two", f"worker{index}", 2, task) for index, task in enumerate(tasks)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-3000:]
    single = start(tmp_path / "one", "single", 1)
    output = single.communicate(timeout=300)[0]
    assert single.returncode == 0, output[-3000:]
    one, other = (np.load(tmp_path / "two" / f"worker{index}.npz") for index in range(2))
    alone = np.load(tmp_path / "one" / "single.npz")
    for name in (key for key in alone if key.startswith("w")):
        np.testing.assert_array_equal(one[name], other[name])
        # The same numbers, added up in another order: 12 steps leave less than 1e-4 on weights of about 0.3.
        np.testing.assert_allclose(one[name], alone[name], atol=1e-4)
    for name in ("accuracy", "loss", "value"):
        np.testing.assert_allclose(one[name], alone[name], rtol=1e-3)


FIRST_ALONE = """
import os, sys
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_CONFIG=sys.argv[1])
import keras
import numpy as np
import tensorflow as tf
from advss_tf.evaluation import evaluate
from advss_tf.staging import meet
from advss_tf.training.strategy import get_strategy, is_chief, local_strategy

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
cluster = get_strategy("auto")
meet(cluster)
if is_chief(cluster):
    local = local_strategy(cluster, kind="CPU")
    assert len(tf.config.list_logical_devices("CPU")) == 4 and local.num_replicas_in_sync == 2
    with local.scope():
        images = keras.Input((4, 4, 1))
        model = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))
    data = np.random.default_rng(0).random((40, 4, 4, 1), np.float32)
    labels = model(data).numpy().argmax(-1)
    shared, alone = (
        evaluate(model, (data, labels), num_steps=3, epsilons=0.02, batch_size=16, strategy=strategy)
        for strategy in (local, tf.distribute.get_strategy())
    )
    assert [row.correct for row in shared.results] == [row.correct for row in alone.results]
    assert 0 < shared.results[-1].correct < 40
meet(cluster)
"""


@pytest.mark.slow
def test_the_first_worker_evaluates_on_all_its_devices_and_on_no_other_s():
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    tasks = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}} for index in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_ALONE, json.dumps(task)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for task in tasks
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-3000:]


RECIPE = """
name: workers
data: {kind: digits, labels_per_class: 8}
encoder: {kind: resnet20, width: 2}
finetune:
  start: scratch
  train: full
  how: adversarial
  attack: {norm: linf, epsilon: 0.1, num_steps: 1}
  epochs: 1
  batch_size: 40
  optimizer: {kind: sgd, learning_rate: 0.05}
evaluate: {epsilons: [0.1], num_steps: [2], limit: 30}
export: {verify: false}
"""


@pytest.mark.slow
def test_a_whole_run_of_two_workers_is_evaluated_by_the_first(tmp_path):
    """One worker alone evaluates: the cluster's strategy would wait for the other."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    code = "import sys; from advss_tf.cli import train; sys.exit(train())"
    flags = ["--config", str(tmp_path / "recipe.yaml"), "--workdir", str(tmp_path / "run"), "--set", "seed=0"]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": ""}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen([sys.executable, "-c", code, *flags], env=environment, **pipes))
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-3000:]
    assert Record.load(tmp_path / "run" / "evaluate" / "record.json").num_images == 30
    assert (tmp_path / "run" / "report" / "index.html").is_file()
