"""The compiled step alone, by JAX: for a GPU host that has JAX and no TensorFlow.

    python -m fastcifar.bench.run_hlo FILE… --out RECORD [--seconds S]

measures files of `fastcifar bench step --dump-hlo`: our gradient of max-pooling and TensorFlow's,
or several batches. JAX's XLA compiles each for its first device and runs it again and again, its
variables fed back. There is no input and no loop around it, XLA is JAX's version, and the values
are drawn: a rate here is what the step can do at best, and none of a training.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar import environment
from fastcifar.bench import measure
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.record import OK, Record, RecordFile, Row
from fastcifar.errors import ConfigError, FastcifarError, one_line

WHAT = "the compiled step alone, by JAX's XLA: no input, no loop, drawn values"
_PIECE_S = 0.5
_DTYPES = {
    **{"pred": "bool", "s8": "int8", "u8": "uint8", "s32": "int32", "u32": "uint32"},
    **{"s64": "int64", "u64": "uint64", "f16": "float16", "f32": "float32", "f64": "float64"},
}


@dataclass(frozen=True)
class Program:
    """A program in HLO.

    Attributes:
        text: of the module.
        parameters: (dtype of NumPy, shape) of each.
        fed_back: outputs that take the place of parameters in the next step: (output, parameter).
    """

    text: str
    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    fed_back: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, path: Path) -> Program:
        """Read a file of `--dump-hlo`.

        Raises:
            ConfigError: if it is none.
        """
        try:
            data = path.read_bytes()
            text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode()
            head = text[: text.index("\n")]
            layout = head[head.index("entry_computation_layout={(") : head.index(")->")]
            found = re.findall(r"(\w+)\[([\d,]*)\]", layout)
            parameters = tuple(
                (_DTYPES[kind], tuple(int(n) for n in shape.split(",") if n))
                for kind, shape in found
            )
        except (OSError, ValueError, KeyError, lzma.LZMAError) as error:
            raise ConfigError(
                f"{path} must be a file of fastcifar bench step --dump-hlo. Received: {error!r}"
            ) from error
        fed_back = re.findall(r"\{(\d+)\}: \((\d+), \{\}", head)
        return cls(text, parameters, tuple((int(o), int(p)) for o, p in fed_back))

    @property
    def images(self) -> int:
        """Of a step: those of the batch, the first parameter."""
        return self.parameters[0][1][0]

    def draw(self) -> list[np.ndarray]:
        """Values for a step: random images and weights, and a learning rate of zero."""
        rng = np.random.default_rng(0)
        variables = {parameter for _, parameter in self.fed_back}

        def one(number: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
            if dtype == "uint8":
                return rng.integers(0, 256, shape, dtype)
            if not dtype.startswith("float"):
                # Labels, and places of images: different ones, and all legal for ten classes.
                return (np.arange(math.prod(shape)) % 10).reshape(shape).astype(dtype)
            if number not in variables:
                return np.zeros(shape, dtype)
            # A scale is near one, or what follows vanishes.
            middle = 1.0 if len(shape) == 1 else 0.0
            return (middle + 0.05 * rng.standard_normal(shape)).astype(dtype)

        return [one(i, *parameter) for i, parameter in enumerate(self.parameters)]


class Runner:
    """A program compiled for JAX's first device, with its values there."""

    def __init__(self, program: Program):
        import jax

        jax.config.update("jax_enable_x64", True)
        self.program = program
        self._device = jax.devices()[0]
        self._block = jax.block_until_ready
        began = time.perf_counter()
        self._executable = _compile(program.text, self._device)
        self.compile_s = time.perf_counter() - began
        self._values = [jax.device_put(value, self._device) for value in program.draw()]
        self.steps = 1

    def step(self) -> Any:
        """Start a step; returns its first output, the metrics, which may not be there yet."""
        out = self._executable.execute(self._values)
        for output, parameter in self.program.fed_back:
            self._values[parameter] = out[output]
        return out[0]

    def check(self) -> str:
        """Choose how many steps are a piece; tell whether the first loss is finite."""
        loss = float(np.asarray(self.step()).reshape(-1)[0])
        for _ in range(2):
            self._block(self.step())
        began = time.perf_counter()
        self._block(self.step())
        self.steps = max(1, round(_PIECE_S / (time.perf_counter() - began)))
        return OK if math.isfinite(loss) else f"failed: the loss must be finite. Received: {loss}"

    def run(self) -> float:
        """Run a piece; returns its images."""
        for _ in range(self.steps):
            last = self.step()
        self._block(last)
        return float(self.steps * self.program.images)

    def memory(self) -> dict[str, int]:
        """Bytes that the program holds, as its compiler says."""
        found = self._executable.get_compiled_memory_stats()
        return {
            "temporary_bytes": found.temp_size_in_bytes,
            "argument_bytes": found.argument_size_in_bytes,
        }


def _compile(text: str, device: Any) -> Any:
    """Compile HLO for a device. JAX has no public way: these names are of jaxlib 0.6 to 0.12."""
    import jaxlib._jax as private
    from jaxlib import xla_client

    try:
        import jaxlib._hlo as hlo
    except ImportError:
        hlo = private
    serialized = hlo.hlo_module_from_text(text).as_serialized_hlo_module_proto()
    if hasattr(private.mlir, "hlo_to_stablehlo"):
        module = private.mlir.hlo_to_stablehlo(serialized)
    else:
        module = private.mlir.xla_computation_to_mlir_module(hlo.XlaComputation(serialized))
    options = xla_client.CompileOptions()
    return device.client.compile_and_load(module, private.DeviceList((device,)), options)


def measure_files(paths: Sequence[Path], seconds: float, file: RecordFile) -> None:
    """Measure the first file alone, and each other in turns with it; the record grows with each.

    Args:
        paths: of `--dump-hlo`.
        seconds: for the rounds of all, compilation apart.
        file: takes the rows.
    """
    runners: dict[str, Runner] = {}

    def contender(path: Path) -> Contender:
        def check() -> str:
            if path.name not in runners:
                runners[path.name] = Runner(Program.read(path))
            return runners[path.name].check()

        return Contender(path.name, run=lambda: runners[path.name].run(), check=check)

    def put(laps: dict[str, Lap]) -> None:
        for name in laps:
            if name == first.name and (found := file.record.row(name)) and len(laps) > 1:
                file.put(found)  # it keeps the rate that it had alone
            else:
                file.put(_row(laps, name, runners.get(name), first.name))

    first = paths[0]
    for other in (None, *paths[1:]):
        group = [contender(first), *([contender(other)] if other else [])]
        measure.interleave(group, seconds=seconds / len(paths), after_round=put)
        if other:
            runners.pop(other.name, None)  # with its memory


def _row(laps: dict[str, Lap], name: str, runner: Runner | None, first: str) -> Row:
    row = measure.row(laps, name, ratios_to=[first] if name != first else [])
    if runner is not None and row.images_per_s is not None:
        images = runner.program.images
        row.figures.update(
            what=WHAT,
            global_batch_size=images,
            step_ms=row.figures["us_per_image"] * images / 1e3,
            compile_s=runner.compile_s,
            **runner.memory(),
        )
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 where a file failed."""
    parser = argparse.ArgumentParser(prog="python -m fastcifar.bench.run_hlo")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args(argv)
    try:
        import jax

        device = jax.devices()[0]
        gpus = [device.device_kind] if device.platform == "gpu" else []
        found = environment.fingerprint(gpus)
        found["versions"]["jax"] = jax.__version__
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in given.files}
        command = f"python -m fastcifar.bench.run_hlo {' '.join(map(str, given.files))}"
        record = Record("hlo", command, found, {"what": WHAT, "sha256": digests})
        file = RecordFile(given.out, record)
        measure_files(given.files, given.seconds, file)
    except (FastcifarError, OSError) as error:
        print(f"run_hlo: error: {one_line(error)}", file=sys.stderr)
        return 2
    for row in file.record.rows:
        rate = row.images_per_s
        said = row.error or row.check if rate is None else f"{rate.median:,.0f} images/s"
        print(f"{row.name}: {said}")
    return 1 if any(row.images_per_s is None for row in file.record.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
