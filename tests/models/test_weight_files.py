"""Weight files read as data: both formats of HDF5, the archive around one, and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from fastcifar.models import weight_files
from fastcifar.models.weight_files import WeightsError, read
from tests.models.keras_applications import write_h5

KERNEL = np.arange(27, dtype=np.float32).reshape(3, 3, 3, 1)


def tiny() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Dropout(0.1, name="drop")(x)  # its generator's state is no weight
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="scores")(x))


def expected(model: keras.Model) -> dict[str, dict[str, np.ndarray]]:
    return {
        name: {weight.name: weight.numpy() for weight in model.get_layer(name).weights}
        for name in ("conv", "bn", "scores")
    }


def write_numbered(path: Path, edit: Callable[[h5py.File], None] = lambda file: None) -> Path:
    """One layer in the format of Keras 3."""
    with h5py.File(path, "w") as file:
        variables = file.create_group("layers/conv2d/vars")
        variables.attrs["name"] = "conv1_conv"
        variables["0"] = KERNEL
        edit(file)
    return path


def write_archive(path: Path, config: object, weights: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        if weights is None:
            buffer = io.BytesIO()
            write_numbered(buffer)  # type: ignore[arg-type]
            weights = buffer.getvalue()
        archive.writestr("model.weights.h5", weights)
    return path


def save_weights(path: Path, model: keras.Model) -> None:
    model.save_weights(path)


def save_whole(path: Path, model: keras.Model) -> None:
    model.save(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("keras2.h5", write_h5),
        ("whole.h5", save_whole),
        ("keras3.weights.h5", save_weights),
        ("model.keras", save_whole),
        ("no suffix", write_h5),
    ],
)
def test_every_format_gives_the_same(tmp_path: Path, name: str, write: Callable) -> None:
    model = tiny()
    write(tmp_path / name, model)
    file = read(tmp_path / name)
    assert (file.config is not None) == (write is save_whole)
    for layer, weights in expected(model).items():
        assert list(file.layers[layer]) == list(weights)
        for weight, value in weights.items():
            np.testing.assert_array_equal(file.layers[layer][weight], value)
    assert set(file.layers) == {"conv", "bn", "scores"}


def test_a_long_list_of_layers_comes_in_parts(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "parts.h5", "w") as file:
        for number, name in enumerate(("a", "b")):
            file.attrs[f"layer_names{number}"] = [name.encode()]
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel:0"]
            group["kernel:0"] = KERNEL
    assert list(read(tmp_path / "parts.h5").layers) == ["a", "b"]


def drop_name(file: h5py.File) -> None:
    del file["layers/conv2d/vars"].attrs["name"]


def name_twice(file: h5py.File) -> None:
    file.copy("layers/conv2d", "layers/conv2d_1")


def soft_link(file: h5py.File) -> None:
    file["layers/conv2d/vars/1"] = h5py.SoftLink("/layers/conv2d/vars/0")


def external_link(file: h5py.File) -> None:
    file["layers/other"] = h5py.ExternalLink("other.h5", "/layers")


def circle(file: h5py.File) -> None:
    file["layers/conv2d/again"] = file["layers"]


def external_data(file: h5py.File) -> None:
    file["layers/conv2d/vars"].create_dataset(
        "1", (2,), np.float32, external=[("secret.bin", 0, 8)]
    )


def virtual_data(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), np.float32)
    layout[:] = h5py.VirtualSource("secret.h5", "data", (2,))
    file["layers/conv2d/vars"].create_virtual_dataset("1", layout)


def bomb(file: h5py.File) -> None:
    """A few bytes that declare 400 GB."""
    file["layers/conv2d/vars"].create_dataset(
        "1", (10**6, 10**5), np.float32, chunks=(1000, 1000), compression="gzip"
    )


def not_numbered(file: h5py.File) -> None:
    file["layers/conv2d/vars/kernel"] = KERNEL


def group_for_data(file: h5py.File) -> None:
    file.create_group("layers/conv2d/vars/1")


def data_for_group(file: h5py.File) -> None:
    file["layers/conv"] = KERNEL


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop_name, r"must name their layers.*where /layers/conv2d has no name"),
        (name_twice, r"one layer of a name\. Received: 'conv1_conv' twice"),
        (soft_link, r"must lie in their file\. Received: '1' .* a link"),
        (external_link, r"must lie in their file\. Received: 'other' .* a link"),
        (circle, r"must be a whole file.*two names"),
        (external_data, r"must lie in their file\. .*/vars/1' .* in another"),
        (virtual_data, r"must lie in their file\. .*/vars/1' .* in another"),
        (bomb, r"must be at most \d+ bytes"),
        (not_numbered, "must be a whole file"),
        (group_for_data, "must be a whole file.*is no dataset"),
        (data_for_group, "must be a whole file.*is no group"),
    ],
)
def test_hdf5_that_is_no_weights_is_one_line(
    tmp_path: Path, edit: Callable[[h5py.File], None], message: str
) -> None:
    path = write_numbered(tmp_path / "odd.h5", edit)
    with pytest.raises(WeightsError, match=message) as refused:
        read(path)
    assert "\n" not in str(refused.value)


def test_sizes_are_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "_MOST_BYTES", 2 * KERNEL.nbytes - 1)
    assert read(write_numbered(tmp_path / "one.h5")).layers
    path = write_numbered(
        tmp_path / "two.h5", lambda file: file.create_dataset("layers/conv2d/vars/1", data=KERNEL)
    )
    with pytest.raises(WeightsError, match="must be at most"):
        read(path)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    for name, write in (("a.h5", write_numbered), ("a.keras", lambda p: write_archive(p, {}))):
        whole = write(tmp_path / name).read_bytes()
        for end in range(0, len(whole) - 1, 97):
            path = tmp_path / f"cut-{name}"
            path.write_bytes(whole[:end])
            with pytest.raises(WeightsError) as refused:
                read(path)
            assert "\n" not in str(refused.value)


def test_damaged_bytes_are_one_line_or_still_arrays(tmp_path: Path) -> None:
    whole = bytearray(write_numbered(tmp_path / "whole.h5").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = whole.copy()
        for where in rng.integers(8, len(whole), 20):
            damaged[where] = rng.integers(256)
        (tmp_path / "damaged.h5").write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            read(tmp_path / "damaged.h5")


def test_what_is_no_weight_file_at_all(tmp_path: Path) -> None:
    path = tmp_path / "page.h5"
    for content, message in (
        (b"", "which is empty"),
        (b"<html>not found</html>", "which is none of these"),
        (b"\x93NUMPY\x01\x00", "which is none of these"),
    ):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            read(path)
    with h5py.File(path, "w") as file:
        file["table"] = KERNEL
    with pytest.raises(WeightsError, match=r"written by Keras\. .* holds table"):
        read(path)
    with pytest.raises(WeightsError, match=r"none\.h5': No such file"):
        read(tmp_path / "none.h5")
    with pytest.raises(WeightsError, match="Is a directory"):
        read(tmp_path)
    np.savez(tmp_path / "arrays.npz", x=KERNEL)
    with pytest.raises(WeightsError, match=r"must be a \.keras file. .* without config\.json"):
        read(tmp_path / "arrays.npz")


def test_a_keras_file_with_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    monkeypatch.setitem(globals(), "ran", ran)
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Lambda(lambda x: ran.append(x) or x, name="evil", output_shape=(4, 4, 3))(
        inputs
    )
    keras.Model(inputs, keras.layers.Conv2D(1, 3)(x)).save(tmp_path / "lambda.keras")
    ran.clear()
    with pytest.raises(WeightsError, match=r"no code\. Received: Lambda 'evil' in"):
        read(tmp_path / "lambda.keras")
    assert ran == []


@keras.saving.register_keras_serializable(package="theirs")
class Theirs(keras.layers.Layer):
    """A layer that somebody wrote."""

    def call(self, inputs):
        return inputs


def their_activation(x):
    return x


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (lambda: Theirs(name="odd"), "theirs>Theirs 'odd'"),
        (
            lambda: keras.layers.Activation(their_activation, name="odd"),
            "function 'their_activation'",
        ),
    ],
)
def test_a_keras_file_with_objects_of_others_is_refused(
    tmp_path: Path, layer: Callable[[], keras.layers.Layer], name: str
) -> None:
    keras.Sequential([keras.Input((4,)), layer(), keras.layers.Dense(1)]).save(tmp_path / "o.keras")
    with pytest.raises(WeightsError, match=r"no code\. Received: ") as refused:
        read(tmp_path / "o.keras")
    assert name in str(refused.value)
    assert "save_weights" in str(refused.value)


def test_their_loss_is_no_part_of_the_network(tmp_path: Path) -> None:
    def their_loss(labels, logits):
        return keras.ops.mean(logits)

    model = tiny()
    model.compile(loss=their_loss)
    model.save(tmp_path / "trained.keras")
    assert set(read(tmp_path / "trained.keras").layers) == {"conv", "bn", "scores"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[1]", "is no JSON object"),
        ("{", "must be a whole file"),
        ({"class_name": "__lambda__", "config": {}}, "Received: __lambda__ in"),
        ({"config": {"f": {"class_name": "function", "module": "os", "config": "system"}}}, "code"),
        (
            {"x": [{"class_name": "Layer", "registered_name": "theirs>Layer"}]},
            "Received: theirs>Layer in",
        ),
    ],
)
def test_a_keras_file_with_an_odd_configuration_is_one_line(
    tmp_path: Path, config: object, message: str
) -> None:
    path = write_archive(tmp_path / "odd.keras", config)
    with pytest.raises(WeightsError, match=message) as refused:
        read(path)
    assert "\n" not in str(refused.value)


def test_a_keras_file_that_is_a_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "_MOST_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(10_001))
    with pytest.raises(WeightsError, match=r"model\.weights\.h5 .* at most 10000 bytes"):
        read(tmp_path / "bomb.keras")
