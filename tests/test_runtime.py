"""Devices, precision and XLA: what is chosen, why, and what is refused.

What sets devices up runs in a process of its own: TensorFlow can be set up once a process only.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fastcifar.errors import DeviceError
from fastcifar.runtime import Runtime, choose_precision, choose_xla

NO_FLAGS = frozenset({"avx2", "avx512f"})


@pytest.mark.parametrize(
    ("capability", "flags", "precision", "why"),
    [
        ((9, 0), NO_FLAGS, "mixed_bfloat16", "compute capability 9.0 has bfloat16 tensor cores"),
        ((8, 0), NO_FLAGS, "mixed_bfloat16", "compute capability 8.0 has bfloat16 tensor cores"),
        ((7, 5), NO_FLAGS, "mixed_float16", "compute capability 7.5 has float16 tensor cores"),
        ((7, 0), NO_FLAGS, "mixed_float16", "compute capability 7.0 has float16 tensor cores"),
        ((6, 1), NO_FLAGS, "float32", "compute capability 6.1 has no tensor cores"),
        # What counts is the GPU, not the CPU beside it.
        ((6, 1), frozenset({"amx_bf16"}), "float32", "compute capability 6.1 has no tensor cores"),
        (None, NO_FLAGS, "float32", "this CPU does not compute bfloat16 natively"),
        (None, frozenset(), "float32", "this CPU does not compute bfloat16 natively"),
        # Tiles alone may be int8.
        (None, frozenset({"amx_tile"}), "float32", "this CPU does not compute bfloat16 natively"),
        (
            None,
            frozenset({"avx512_bf16"}),
            "mixed_bfloat16",
            "this CPU computes bfloat16 natively (avx512_bf16)",
        ),
        (
            None,
            frozenset({"amx_bf16", "avx512_bf16"}),
            "mixed_bfloat16",
            "this CPU computes bfloat16 natively (amx_bf16, avx512_bf16)",
        ),
    ],
)
def test_auto_picks_what_the_hardware_computes_natively(capability, flags, precision, why):
    chosen = choose_precision("auto", compute_capability=capability, cpu_flags=flags)
    assert chosen == (precision, why)


@pytest.mark.parametrize("asked", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("capability", [None, (6, 1), (9, 0)])
def test_a_precision_asked_for_is_taken(asked, capability):
    chosen = choose_precision(asked, compute_capability=capability, cpu_flags=NO_FLAGS)
    assert chosen == (asked, "asked for")


@pytest.mark.parametrize(
    ("asked", "on_gpu", "chosen"),
    [
        ("auto", True, (True, "GPUs gain from fusion")),
        ("auto", False, (False, "XLA's CPU convolutions are slower than oneDNN's")),
        ("on", False, (True, "asked for")),
        ("off", True, (False, "asked for")),
    ],
)
def test_xla_is_for_gpus(asked, on_gpu, chosen):
    assert choose_xla(asked, on_gpu=on_gpu) == chosen


@pytest.mark.parametrize(
    ("precision", "compute_dtype", "scales_loss"),
    [
        ("float32", "float32", False),
        ("mixed_bfloat16", "bfloat16", False),
        ("mixed_float16", "float16", True),
    ],
)
def test_only_float16_scales_the_loss(precision, compute_dtype, scales_loss):
    chosen = Runtime(strategy=None, replicas=1, gpus=(), precision=precision, xla=False)
    assert chosen.compute_dtype == compute_dtype
    assert chosen.scales_loss is scales_loss


def run(code: str) -> dict:
    """Run `code`, which leaves its findings in `found`, in a process without a GPU."""
    program = (
        "import os, json, sys\n"
        "os.environ |= {'CUDA_VISIBLE_DEVICES': '-1', 'TF_CPP_MIN_LOG_LEVEL': '3'}\n"
        "from fastcifar import runtime\n"
        "from fastcifar.config import RuntimeConfig\n"
        "from fastcifar.errors import DeviceError\n"
        "def refusal(**options):\n"
        "    try:\n"
        "        runtime.setup(RuntimeConfig(**options))\n"
        "    except DeviceError as error:\n"
        "        return str(error)\n"
        "def layout(**options):\n"
        "    made = runtime.setup(RuntimeConfig(**options))\n"
        "    return [made.replicas, type(made.strategy).__name__, made.notes[0]]\n"
        f"{code}\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_one_cpu():
    found = run(
        "made = runtime.setup(RuntimeConfig())\n"
        "found = {'made': [made.replicas, made.xla, list(made.gpus), sorted(made.threads)],\n"
        "         'notes': made.notes, 'peak': runtime.peak_device_bytes(),\n"
        "         'again': layout(), 'mirrored': layout(strategy='mirrored'),\n"
        "         'devices': layout(devices=1), 'two': refusal(devices=2),\n"
        "         'split': refusal(logical_devices=2)}\n"
        # As on a machine with a GPU and without its libraries, started as one of two workers.
        "from fastcifar import environment\n"
        "environment.signs_of_gpu = lambda: ['nvidia-smi']\n"
        "environment.has_cuda_libraries = lambda: False\n"
        "del os.environ['CUDA_VISIBLE_DEVICES']\n"
        "jobs = {'cluster': {'worker': ['a:1', 'b:1']}, 'task': {'type': 'worker', 'index': 0}}\n"
        "os.environ['TF_CONFIG'] = json.dumps(jobs)\n"
        "told = runtime.setup(RuntimeConfig())\n"
        "found['told'] = [*told.notes[3:], *told.warnings]"
    )
    alone, warning = found["told"]
    assert alone.startswith("TF_CONFIG names 2 workers, and strategy is auto")
    assert warning.startswith("an NVIDIA GPU is in this machine (nvidia-smi), but Tens")
    assert "pip install 'fastcifar[gpu]'" in warning
    assert found["made"] == [1, False, [], ["inter_op", "intra_op"]]
    strategy, precision, xla = found["notes"]
    assert strategy == "strategy: 1 replica on CPU (1 logical device)"
    assert precision.startswith("precision: ")
    assert xla == "xla: off (XLA's CPU convolutions are slower than oneDNN's)"
    assert found["peak"] is None
    one = [1, "_DefaultDistributionStrategy", strategy]
    assert found["again"] == found["devices"] == one
    assert found["mirrored"] == [
        *(1, "MirroredStrategy", "strategy: 1 replica on CPU (asked for)"),
    ]
    assert found["two"] == (
        "devices must be at most the GPUs of this machine (0). Received: 2. "
        "To try a layout on the CPU: --logical-devices"
    )
    # TensorFlow is in use by then.
    assert found["split"].startswith(
        "devices must be set up before TensorFlow is used in this process. Received: "
    )
    assert "\n" not in found["split"]


def test_a_cpu_that_is_split():
    found = run(
        "import tensorflow as tf\n"
        "options = tf.config.optimizer.get_experimental_options\n"
        "found = {'split': layout(logical_devices=2), 'of_two': options(),\n"
        "         'again': layout(logical_devices=2),\n"
        "         'none': layout(logical_devices=2, strategy='none'), 'one': layout(),\n"
        "         'of_one': options(),\n"
        "         'mirrored': layout(logical_devices=2, strategy='mirrored')}"
    )
    assert found["split"] == [
        *(2, "MirroredStrategy", "strategy: 2 replicas on CPU (2 logical devices)"),
    ]
    assert found["again"] == found["split"]
    assert found["of_two"]["disable_meta_optimizer"] is True
    assert found["of_one"]["disable_meta_optimizer"] is False
    assert found["mirrored"][:2] == [2, "MirroredStrategy"]
    assert found["none"][:2] == found["one"][:2] == [1, "_DefaultDistributionStrategy"]


def test_thread_counts_reach_tensorflow():
    found = run(
        "made = runtime.setup(RuntimeConfig(intra_op_threads=1, inter_op_threads=3))\n"
        "found = made.threads"
    )
    assert found == {"intra_op": 1, "inter_op": 3}


def test_the_compile_cache_is_set_before_tensorflow_is_imported(monkeypatch, tmp_path):
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    monkeypatch.setenv("TF_XLA_FLAGS", "--before=1")
    monkeypatch.setenv("XLA_FLAGS", "--other=2")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    folder = tmp_path / "cache"
    runtime.prepare_environment(RuntimeConfig())
    assert runtime.os.environ["TF_XLA_FLAGS"] == "--before=1"
    wanted = f"--before=1 --tf_xla_persistent_cache_directory={folder}"
    for _ in range(2):  # asked for twice, set once
        runtime.prepare_environment(RuntimeConfig(compile_cache=str(folder)))
        assert runtime.os.environ["TF_XLA_FLAGS"] == wanted
    autotuned = f"--xla_gpu_per_fusion_autotune_cache_dir={folder}/autotune"
    assert runtime.os.environ["XLA_FLAGS"] == f"--other=2 {autotuned}"
    assert (folder / "autotune").is_dir()


def test_a_compile_cache_that_comes_too_late_or_cannot_be(monkeypatch, tmp_path):
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    monkeypatch.setenv("TF_XLA_FLAGS", "")
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    with pytest.raises(DeviceError, match="before TensorFlow is imported"):
        runtime.prepare_environment(RuntimeConfig(compile_cache=str(tmp_path / "cache")))
    with pytest.raises(DeviceError, match="a path without spaces"):
        runtime.prepare_environment(RuntimeConfig(compile_cache=str(tmp_path / "a cache")))
    monkeypatch.delitem(sys.modules, "tensorflow")
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="cannot be written"):
        runtime.prepare_environment(RuntimeConfig(compile_cache=str(tmp_path / "file" / "cache")))


class FakeConfig:
    """`tf.config` of a machine with two GPUs, the second a generation older."""

    LogicalDeviceConfiguration = dict

    def __init__(self):
        self.gpus = ["GPU:0", "GPU:1"]
        self.visible, self.grown, self.parts, self.tf32 = None, [], None, None
        self.experimental = self.threading = self.optimizer = self
        self.deterministic = False
        self.options = {}

    def list_physical_devices(self, kind):
        return self.gpus if kind == "GPU" else ["CPU:0"]

    def set_visible_devices(self, devices, kind):
        self.visible = devices

    def get_visible_devices(self, kind):
        return self.gpus if self.visible is None else self.visible

    def set_memory_growth(self, device, grow):
        self.grown.append((device, grow))

    def set_experimental_options(self, options):
        self.options = options

    def enable_op_determinism(self):
        self.deterministic = True

    def enable_tensor_float_32_execution(self, on):
        self.tf32 = on

    def get_logical_device_configuration(self, device):
        return self.parts

    def set_logical_device_configuration(self, device, parts):
        self.parts = parts

    def list_logical_devices(self, kind):
        names = [f"GPU:{i}" for i in range(len(self.parts))] if self.parts else self.visible
        return [type("Device", (), {"name": f"/device:{name}"}) for name in names]

    def get_device_details(self, device):
        capability = {"GPU:0": (9, 0), "GPU:1": (7, 5)}[device]
        return {"device_name": f"Test {device}", "compute_capability": capability}

    def get_intra_op_parallelism_threads(self):
        return 0

    get_inter_op_parallelism_threads = get_intra_op_parallelism_threads


@pytest.fixture
def two_gpus(monkeypatch):
    import tensorflow as tf

    from fastcifar import runtime

    config = FakeConfig()
    monkeypatch.setattr(tf, "config", config)

    class Mirrored:
        def __init__(self, devices, cross_device_ops):
            self.devices, self.cross_device_ops = devices, cross_device_ops
            self.num_replicas_in_sync = len(devices)

    monkeypatch.setattr(tf.distribute, "MirroredStrategy", Mirrored)
    # None of these is for a later test.
    monkeypatch.setattr(runtime, "_mirrored", runtime._mirrored.__wrapped__)
    return config


def test_two_gpus_are_mirrored_and_the_weakest_decides(two_gpus):
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    made = runtime.setup(RuntimeConfig())
    assert made.replicas == 2
    assert made.strategy.devices == ["/device:GPU:0", "/device:GPU:1"]
    assert made.strategy.cross_device_ops is None
    assert made.gpus == ("Test GPU:0", "Test GPU:1")
    assert two_gpus.grown == [("GPU:0", True), ("GPU:1", True)]
    assert not two_gpus.deterministic
    assert two_gpus.options == {"disable_meta_optimizer": False}
    assert made.notes == (
        "strategy: 2 replicas on GPU (2 GPUs)",
        "precision: mixed_float16 (compute capability 7.5 has float16 tensor cores)",
        "xla: on (GPUs gain from fusion)",
    )


def test_one_gpu_of_two(two_gpus):
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    made = runtime.setup(RuntimeConfig(devices=1))
    assert (made.replicas, made.gpus, made.precision) == (1, ("Test GPU:0",), "mixed_bfloat16")
    assert two_gpus.visible == ["GPU:0"]
    assert made.notes[0] == "strategy: 1 replica on GPU (1 GPU)"


def test_deterministic_asks_tensorflow_and_xla(two_gpus, monkeypatch):
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    monkeypatch.setenv("XLA_FLAGS", "--before=1")
    runtime.setup(RuntimeConfig(deterministic=True))
    assert two_gpus.deterministic
    flags = runtime.os.environ["XLA_FLAGS"]
    assert flags == "--before=1 --xla_gpu_exclude_nondeterministic_ops=true"


def test_tf32_is_a_choice(two_gpus):
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    runtime.setup(RuntimeConfig())
    assert two_gpus.tf32 is True
    runtime.setup(RuntimeConfig(tf32=False))
    assert two_gpus.tf32 is False


def test_one_gpu_that_is_split_has_limits_and_no_nccl(two_gpus, monkeypatch):
    import tensorflow as tf

    from fastcifar import environment, runtime
    from fastcifar.config import RuntimeConfig

    monkeypatch.setattr(environment, "gpu_memory_bytes", lambda: 80 * 2**30)
    made = runtime.setup(RuntimeConfig(devices=1, logical_devices=2))
    assert two_gpus.parts == [{"memory_limit": 36 * 1024}] * 2
    assert two_gpus.grown == []  # TensorFlow refuses growth together with limits
    assert made.replicas == 2
    assert isinstance(made.strategy.cross_device_ops, tf.distribute.ReductionToOneDevice)
    assert made.notes[0] == "strategy: 2 replicas on GPU (2 logical devices)"

    two_gpus.parts = None
    options = {"devices": 1, "logical_devices": 2, "gpu_memory_limit": "8GiB"}
    runtime.setup(RuntimeConfig(**options))
    assert two_gpus.parts == [{"memory_limit": 8 * 1024}] * 2


def test_a_gpu_of_unknown_memory_needs_its_limit(two_gpus, monkeypatch):
    from fastcifar import environment, runtime
    from fastcifar.config import RuntimeConfig

    monkeypatch.setattr(environment, "gpu_memory_bytes", lambda: None)
    with pytest.raises(DeviceError, match="gpu-memory-limit must be given"):
        runtime.setup(RuntimeConfig(devices=1, logical_devices=2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"devices": 3},
            "devices must be at most the GPUs of this machine (2). Received: 3. "
            "To try a layout on the CPU: --logical-devices",
        ),
        (
            {"logical_devices": 2},
            "logical-devices splits one GPU, and this machine has 2: add --devices 1. Received: 2",
        ),
    ],
)
def test_a_layout_that_two_gpus_do_not_have(two_gpus, options, said):
    from fastcifar import runtime
    from fastcifar.config import RuntimeConfig

    with pytest.raises(DeviceError) as caught:
        runtime.setup(RuntimeConfig(**options))
    assert str(caught.value) == said
    assert two_gpus.visible is None  # refused before anything is set up
