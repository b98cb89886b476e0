"""The input pipeline: the one place that knows the order of tf.data's stages.

A dataset yields per-replica batches: with R replicas on this host, element `step * R + r` is the
slice of the global batch of `step` for the host's r-th replica. One dataset runs through all steps
it is asked for, across epochs, so there is no gap at an epoch's end, and starting at step s is
starting the range at s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fastcifar.data import ordering, storage
from fastcifar.data.features import FeatureSplit
from fastcifar.data.records import RecordSplit
from fastcifar.data.split import Examples
from fastcifar.environment import usable_cores
from fastcifar.errors import ConfigError
from fastcifar.runtime import on_each_device, replica_devices


class Batch(NamedTuple):
    """One replica's slice of a global batch.

    Attributes:
        images: uint8 [b, H, W, 3]; float32 or the compute dtype where the host prepares them; with
            cache `device`, int64 [b]: indices into the images on the device; of a `FeatureSplit`,
            features [b, F].
        labels: int64 [b] (float32 [b, classes] where the host mixes images). int32 would be copied
            to a GPU and back, because TensorFlow keeps it on the host.
        positions: int64 [b], global positions within the epoch.
        epoch: int64 [], counted from 0 over the whole run.
        indices: int64 [b], the place of each image in the split, the same in every epoch.
    """

    images: tf.Tensor
    labels: tf.Tensor
    positions: tf.Tensor
    epoch: tf.Tensor
    indices: tf.Tensor


class EvaluationBatch(NamedTuple):
    """One replica's slice of an evaluation batch: static shapes, with padding marked by weight 0.

    Attributes:
        images: uint8 [b, H, W, 3]; of a `FeatureSplit`, features [b, F].
        labels: int64 [b].
        weights: float32 [b], 1 for an example, 0 for padding.
    """

    images: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor


HostTransform = Callable[[Batch], Batch]


def train_batches(
    split: Examples | FeatureSplit,
    *,
    global_batch_size: int,
    replicas: int,
    seed: int,
    first_step: int,
    last_step: int,
    hosted: range | None = None,
    cache: str = "memory",
    order: str = "permutation",
    transfer: str = "uint8",
    host_transform: HostTransform | None = None,
    parallel_map: int = 2,
    prefetch: int = 2,
    say: Callable[[str], None] | None = None,
) -> tf.data.Dataset:
    """Build the dataset of per-replica `Batch`es of the steps [first_step, last_step).

    Args:
        split: the training images. The batches are the same whether they are in memory or on disk.
            Of features, those of one view an epoch, in the order `permutation`.
        global_batch_size: images in one step; a multiple of `replicas`.
        replicas: devices taking part.
        seed: of the order.
        first_step, last_step: steps counted from 0 over the whole run.
        hosted: which of the replicas this host feeds; all by default.
        cache: `memory`, `device` (indices are shipped instead of images), `disk` or `none`; of a
            split on disk all but `device` are the same: it is read there.
        order: `permutation`, or `shuffle_buffer`: tf.data's, as large as the split, seeded for each
            epoch; a start within an epoch passes over what the epoch has had.
        transfer: `uint8`, or `float32` to cast on the host.
        host_transform: augmentation or resizing on the host, on whole batches.
        parallel_map: batches assembled at the same time; of a split on disk at least one a core.
        prefetch: batches kept ready; 0 for none.
        say: told in a line what became of a damaged file.
    """
    examples = len(split)
    size = global_batch_size // replicas
    hosted = hosted or range(replicas)
    here = len(hosted)
    per_epoch = ordering.steps_per_epoch(examples, global_batch_size)
    labels = tf.constant(split.labels, tf.int64)

    def locate(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Element of the range -> (positions, epoch): pure arithmetic, nothing remembered."""
        step, replica = element // here, hosted.start + element % here
        start = (step % per_epoch) * global_batch_size + replica * size
        return start + tf.range(size, dtype=tf.int64), step // per_epoch

    elements = tf.data.Dataset.range(first_step * here, last_step * here)
    if order == "permutation":
        read = _reader(split, cache, say)

        def assemble(element: tf.Tensor) -> Batch:
            positions, epoch = locate(element)
            indices = ordering.permute(positions, seed=seed, epoch=epoch, examples=examples)
            images = read(indices, epoch)
            return Batch(images, tf.gather(labels, indices), positions, epoch, indices)

        # Whole batches at a time: the order and the gather cost microseconds an image this way.
        dataset = elements.map(assemble, num_parallel_calls=_assembly_calls(split, parallel_map))
    else:
        if isinstance(split, FeatureSplit):
            raise ConfigError(f"features need order permutation. Received: order {order}")
        # The textbook way, but for the seed: each epoch has its own, so that a dataset that starts
        # in a later one, or within one, goes on where another has stopped.
        images = storage.tensor(split.in_memory().images)
        numbered = (images, labels, tf.range(examples, dtype=tf.int64))

        def shuffle(epoch: tf.Tensor) -> tf.data.Dataset:
            # Of this function's graph, so that a global seed of the process changes nothing here.
            tf.random.set_seed(1)
            shuffled = tf.data.Dataset.from_tensor_slices(numbered).shuffle(
                examples, seed=ordering.epoch_seed(seed, epoch), reshuffle_each_iteration=False
            )
            # Batching within the epoch keeps epochs apart: no image is seen twice in one.
            return shuffled.batch(size, drop_remainder=True).take(per_epoch * replicas)

        first_epoch, done = divmod(first_step, per_epoch)
        epochs = tf.data.Dataset.range(first_epoch, -(-last_step // per_epoch))
        batches = epochs.flat_map(shuffle).skip(done * replicas)
        if here < replicas:
            # Every host shuffles alike and leaves the other hosts' batches out.
            counted = batches.enumerate().filter(
                lambda i, _: (i % replicas >= hosted.start) & (i % replicas < hosted.stop)
            )
            batches = counted.map(lambda _, batch: batch)
        dataset = tf.data.Dataset.zip(elements, batches).map(
            lambda element, batch: Batch(batch[0], batch[1], *locate(element), batch[2])
        )

    if transfer == "float32" and cache != "device":
        dataset = dataset.map(lambda b: b._replace(images=tf.cast(b.images, tf.float32)))
    if host_transform is not None:
        # After batching, so that one operation serves a whole batch.
        dataset = dataset.map(host_transform, num_parallel_calls=_calls(parallel_map))
    if prefetch:
        # Last: the device computes one step while the host assembles the next ones.
        dataset = dataset.prefetch(prefetch)
    # The textbook order keeps tf.data's defaults: it is there to be compared with.
    return dataset if order == "shuffle_buffer" else _without_rewriting(dataset)


def evaluation_steps(examples: int, global_batch_size: int) -> int:
    """Global batches that hold so many examples; the last one may be padded."""
    return -(-examples // global_batch_size)


def evaluation_batches(
    split: Examples | FeatureSplit,
    *,
    global_batch_size: int,
    replicas: int,
    hosted: range | None = None,
    prefetch: int = 2,
) -> tf.data.Dataset:
    """Build the dataset of per-replica `EvaluationBatch`es that hold every example exactly once.

    The last batch is padded with copies of weight 0, so that every batch has one static shape and
    no example is left out.
    """
    examples = len(split)
    batches = _in_order(split, global_batch_size, replicas, hosted or range(replicas), epochs=1)

    def weigh(batch: Batch) -> EvaluationBatch:
        weights = tf.cast(batch.positions < examples, tf.float32)
        return EvaluationBatch(batch.images, batch.labels, weights)

    dataset = batches.map(weigh)
    return _without_rewriting(dataset.prefetch(prefetch) if prefetch else dataset)


def batches_in_order(
    split: Examples,
    *,
    global_batch_size: int,
    replicas: int,
    epochs: int = 1,
    groups: int = 1,
    seed: int = 0,
    host_transform: HostTransform | None = None,
    parallel_map: int = 2,
    prefetch: int = 2,
) -> tf.data.Dataset:
    """Build the dataset of per-replica `Batch`es of a split in its own order, `epochs` times.

    A position is the image's place in the split, up to the order of a group. The last batch of an
    epoch is padded with copies of the last image, whose positions and indices go on counting.

    Args:
        split: the images.
        global_batch_size: images in one step; a multiple of `replicas`.
        replicas: devices of this host, which alone are fed.
        epochs: how often.
        groups: so many neighbours change places among themselves in each epoch, keyed by `seed`;
            the batch of a replica must be a multiple of it.
        seed: of what groups do.
        host_transform, parallel_map, prefetch: as of `train_batches`.
    """
    dataset = _in_order(
        split, global_batch_size, replicas, range(replicas), epochs=epochs, groups=groups, seed=seed
    )
    if host_transform is not None:
        dataset = dataset.map(host_transform, num_parallel_calls=_calls(parallel_map))
    return _without_rewriting(dataset.prefetch(prefetch) if prefetch else dataset)


def _in_order(
    split: Examples | FeatureSplit,
    global_batch_size: int,
    replicas: int,
    hosted: range,
    *,
    epochs: int,
    groups: int = 1,
    seed: int = 0,
) -> tf.data.Dataset:
    examples = len(split)
    size = global_batch_size // replicas
    here = len(hosted)
    per_epoch = evaluation_steps(examples, global_batch_size)
    read = _reader(split, "memory")
    labels = tf.constant(split.labels, tf.int64)

    def assemble(element: tf.Tensor) -> Batch:
        step, replica = element // here, hosted.start + element % here
        epoch = step // per_epoch
        start = (step % per_epoch) * global_batch_size + replica * size
        positions = start + tf.range(size, dtype=tf.int64)
        indices = ordering.within_groups(
            positions, group=groups, seed=seed, epoch=epoch, examples=examples
        )
        existing = tf.minimum(indices, examples - 1)
        return Batch(read(existing, epoch), tf.gather(labels, existing), positions, epoch, indices)

    elements = tf.data.Dataset.range(epochs * per_epoch * here)
    return elements.map(assemble, num_parallel_calls=_assembly_calls(split, 1))


def _without_rewriting(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Leave the dataset's graph as it is written.

    tf.data's optimizer serialises the graph to rewrite it, and with it a second copy of every image
    that the graph refers to. Its rewrites have nothing to add to stages chosen by hand.
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return dataset.with_options(options)


def to_devices(dataset: tf.data.Dataset, strategy: Any, prefetch: int = 2) -> Any:
    """Return an iterable whose elements lie on the replicas' devices, prefetched there.

    Successive elements of `dataset` go to successive replicas.
    """
    if strategy.num_replicas_in_sync == 1:
        device = replica_devices(strategy)[0]
        if "GPU" in device and prefetch:
            return dataset.apply(tf.data.experimental.prefetch_to_device(device, prefetch))
        return dataset
    if len(replica_devices(strategy)) < strategy.num_replicas_in_sync:
        # Of an input that may end, hosts would ask each other before every batch whether it has.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        dataset = dataset.apply(endless)
    options = tf.distribute.InputOptions(
        experimental_fetch_to_device=True, experimental_per_replica_buffer_size=max(1, prefetch)
    )
    return strategy.distribute_datasets_from_function(lambda context: dataset, options)


def batches_ahead(*, prefetch: int, parallel_map: int) -> int:
    """At most so many batches of `train_batches` are finished before they are asked for.

    Those of the prefetch buffer, and of a parallel map the ones it works on and the ones it holds.
    """
    return prefetch + (2 * parallel_map if parallel_map > 1 else 0)


def _calls(parallel_map: int) -> int | None:
    # None is a plain map, without a thread pool of its own.
    return parallel_map if parallel_map > 1 else None


def _assembly_calls(split: Examples | FeatureSplit, parallel_map: int) -> int | None:
    """A gather from memory needs no help; reading and decoding records takes all cores."""
    on_disk = isinstance(split, RecordSplit)
    return _calls(max(parallel_map, usable_cores()) if on_disk else parallel_map)


def _reader(
    split: Examples | FeatureSplit, cache: str, say: Callable[[str], None] | None = None
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return (indices int64 [b], epoch int64 []) -> what `Batch.images` describes."""
    if isinstance(split, FeatureSplit):
        return _feature_reader(split)
    read = _image_reader(split, cache, say)
    return lambda indices, epoch: read(indices)


def _feature_reader(split: FeatureSplit) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    views, examples, width = split.values.shape
    values = split.values.reshape(views * examples, width)
    dtype = tf.as_dtype(values.dtype)
    if dtype == tf.bfloat16:
        values = values.view(np.uint16)  # NumPy hands over none but its own dtypes
    rows = storage.tensor(values)

    def read(indices: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        found = tf.gather(rows, (epoch % views) * examples + indices)
        return found if found.dtype == dtype else tf.bitcast(found, dtype)

    return read


def _image_reader(
    split: Examples, cache: str, say: Callable[[str], None] | None
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return indices int64 [b] -> images uint8 [b, H, W, 3] (or the indices, for cache device)."""
    if cache == "device":
        return lambda indices: indices
    if isinstance(split, RecordSplit):
        records, rows = split.records, tf.constant(split.rows)
        return lambda indices: records.read(tf.gather(rows, indices))
    split = split.in_memory()
    if cache == "none":
        encoded = storage.encode(split.images)
        height, width, _ = split.image_shape

        def decode(indices: tf.Tensor) -> tf.Tensor:
            images = tf.map_fn(
                lambda png: tf.io.decode_png(png, channels=3),
                tf.gather(encoded, indices),
                fn_output_signature=tf.TensorSpec([height, width, 3], tf.uint8),
            )
            return images

        return decode
    array = storage.on_disk(split.images, say) if cache == "disk" else split.images
    images = storage.tensor(array)
    return lambda indices: tf.gather(images, indices)


def resident_images(split: Examples, strategy: Any) -> Any:
    """Copy the images to every replica's device: uint8 [N, H, W, 3], one value per replica."""
    return on_each_device(storage.tensor(split.in_memory().images), strategy)


def gather_bytes(images: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Take images uint8 [N, H, W, 3] by indices int64 [b]; without XLA, on their own device.

    TensorFlow has no gather of bytes on GPUs: it would copy all the images to the host, every step.
    As words they are gathered where they lie, and to see bytes as words copies nothing.
    """
    count, *shape = images.shape
    size = int(np.prod(shape))
    words = [word for word in (tf.int64, tf.float32, tf.float16) if size % word.size == 0]
    if not words:
        return tf.gather(images, indices)  # sides of an odd number of pixels
    rows = tf.bitcast(tf.reshape(images, [count, -1, words[0].size]), words[0])
    found = tf.bitcast(tf.gather(rows, indices), tf.uint8)
    return tf.reshape(found, [indices.shape[0], *shape])
