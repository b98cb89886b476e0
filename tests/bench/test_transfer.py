"""The transfer experiment: which classes go where, and what each way trains."""

import pytest

from fastcifar.bench import transfer
from fastcifar.bench.record import Record, RecordFile, read
from fastcifar.bench.transfer import FINETUNE, HEAD, SCRATCH, Plan, configuration, halve
from fastcifar.errors import SourceError


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "test"):
        for name in "abcd":
            (tmp_path / "set" / split / name).mkdir(parents=True)
            (tmp_path / "set" / split / name / "1.png").write_bytes(name.encode())
    return tmp_path / "set"


def test_classes_are_dealt_out_in_turn(folder, tmp_path):
    assert halve(folder, tmp_path / "room") == (("a", "c"), ("b", "d"))
    for half, names in (("known", "ac"), ("new", "bd")):
        for split in ("train", "test"):
            root = tmp_path / "room" / half / split
            assert sorted(p.name for p in root.iterdir()) == list(names)
            assert [(root / n / "1.png").read_bytes().decode() for n in names] == list(names)


def test_too_few_classes_are_refused(tmp_path):
    with pytest.raises(SourceError, match=r"four classes or more\. Received: 0 classes"):
        halve(tmp_path, tmp_path / "room")


def test_every_way_has_as_many_steps(tmp_path):
    plan = Plan(tmp_path, epochs=20)
    ways = {way: configuration(way, plan, 100, 5, seed=2) for way in transfer.WAYS}
    assert {config.epochs for config in ways.values()} == {20}
    assert {config.global_batch_size for config in ways.values()} == {64}
    assert {config.data.limit_train for config in ways.values()} == {500}
    assert [phase.trainable for phase in ways[SCRATCH].phases] == ["all"]
    assert [phase.trainable for phase in ways[HEAD].phases] == ["head"]
    assert [(p.trainable, p.epochs) for p in ways[FINETUNE].phases] == [("head", 5), ("all", 15)]


def test_rows_hold_the_runs_of_all_seeds(folder, tmp_path, monkeypatch):
    asked = []

    def train(images, run, flags):
        asked.append((images.name, run.name, "--weights" in flags))
        accuracy = 0.5 + 0.1 * (run.name[-1] == "1")
        return {"test_accuracy": accuracy, "train_accuracy": 1.0, "epochs": 3, "steps": 9}

    monkeypatch.setattr(transfer, "_train", train)
    file = RecordFile(tmp_path / "r.json", Record("transfer", "", {}, {}))
    transfer.measure(Plan(folder, per_class=(4,), seeds=2), file)
    rows = {row.name: row.figures for row in read(tmp_path / "r.json").rows}
    assert list(rows) == ["pretraining", "scratch/4", "head/4", "finetune/4"]
    assert rows["head/4"]["test_accuracies"] == [0.5, 0.6]
    assert rows["head/4"]["test_accuracy"] == pytest.approx(0.55)
    assert rows["head/4"]["runs"] == 2
    assert rows["head/4"]["classes"] == ["b", "d"]
    assert asked[0] == ("known", "pretrained", False)
    assert {(images, weighted) for images, run, weighted in asked[1:] if "scratch" in run} == {
        ("new", False)
    }
    assert all(weighted for _, run, weighted in asked[1:] if "scratch" not in run)
