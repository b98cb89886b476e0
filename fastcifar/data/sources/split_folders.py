"""Which folders are train, test and validation, under the names and wrappings that people use.

- **Names**, in any case: train, training, trn, trainval; test, testing, tst; val, valid,
  validation, eval, evaluation, dev and a few more; with any of set, data, images and the like
  before or behind (`training_set`, `seg_test`, `Val Images`). Where the same words stand beside two
  of them it does not matter which words (`asl_alphabet_train`, `asl_alphabet_test`).
- **Wrappers**: a folder that is the only one with images, and holds none itself, is looked through,
  as often as it takes (`DIR/dataset/Train/cat`, `seg_train/seg_train/CLASS`, `DIR/images/cat`).
- A split without class folders has no labels; it is left out, with a note.
- What could be meant in two ways is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fastcifar.data.sources.folder_tree import Folder
from fastcifar.errors import SourceError

SPLITS = ("train", "test", "validation")

# In any case. `eval` and `dev` are what is looked at while training, as `val` is.
_WORDS = {
    "train": "train training trn trainval trainvalidation",
    "test": "test tests testing tst",
    "validation": "validation valid validate validating val vld eval evaluate evaluation dev devel "
    "development",
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words.split()}
_FILLING = (
    "set sets data dataset datasets image images img imgs photo photos picture pictures pics "
    "sample samples split splits folder folders seg"
)
_FILLERS = _FILLING.split()
_AROUND = f"(?:{'|'.join(_FILLERS)})*"
_GLUED = re.compile(f"{_AROUND}({'|'.join(_SPLIT_OF)}){_AROUND}")
# What lies beside splits under such a name has no labels, and is no class.
_TO_PREDICT = re.compile(
    f"{_AROUND}(pred|predict|predictions?|unlabell?ed|inference|submission){_AROUND}"
)
# Names that say it plainly, and need no note.
_PLAIN = ("train", "training", "test", "val", "valid", "validation")


class Found(NamedTuple):
    """The folders of class folders.

    Attributes:
        splits: of each split that there is; of "train" alone where there are no splits.
        unlabelled: folders that are named like a split and hold no class folders.
        notes: on what was looked through or left out, one line each.
    """

    splits: dict[str, Folder]
    unlabelled: dict[str, Folder]
    notes: list[str]


def find_splits(root: Folder) -> Found:
    """Find the folder of class folders of each split below the folder that the user named.

    Raises:
        SourceError: if two folders mean the same split, or one may be a split or a class.
    """
    notes: list[str] = []
    folder = root
    while True:
        named = split_names(each.name for each in folder.folders)
        holding = folder.holding()
        if len(holding) == 1 and _holds_splits(holding[0]):
            folder = holding[0]  # a wrapper, whatever its own name
            continue
        if named:
            found, unlabelled = _choose(folder, named, notes)
            break
        inner = _wrapped(folder, notes)
        if inner is None:
            if folder is not root:
                notes.append(f"the class folders are those in {folder.relative!r}")
            return Found({"train": folder}, {}, notes)
        folder = inner
    found = {split: _unwrap(each, notes) for split, each in found.items()}
    if any(each.relative.casefold() not in _PLAIN for each in found.values()):
        taken = (f"{split} from {found[split].relative!r}" for split in SPLITS if split in found)
        notes.insert(0, f"splits: {', '.join(taken)}")
    return Found(found, unlabelled, notes)


def split_names(names: Iterable[str]) -> dict[str, str]:
    """Return which of the names of folders beside each other mean which split.

    >>> split_names(["seg_test", "Training Set", "cat"])
    {'seg_test': 'test', 'Training Set': 'train'}
    """
    found: dict[str, str] = {}
    alike: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        plain = unicodedata.normalize("NFKC", name)
        glued = _GLUED.fullmatch(_letters(plain))
        if glued:
            found[name] = _SPLIT_OF[glued[1]]
            continue
        # A capital begins a word too: AslTrain.
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+", plain)
        words = [word.casefold() for word in words if word.casefold() not in _FILLERS]
        meant = [_SPLIT_OF[word] for word in words if word in _SPLIT_OF]
        if len(meant) == 1:
            rest = tuple(word for word in words if word not in _SPLIT_OF)
            alike.setdefault(rest, {})[name] = meant[0]
    for group in alike.values():
        if len(set(group.values())) > 1:
            found |= group
    return found


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _choose(
    folder: Folder, named: Mapping[str, str], notes: list[str]
) -> tuple[dict[str, Folder], dict[str, Folder]]:
    """Tell the folders named like splits that are splits from those that hold no classes."""
    where = repr(folder.relative or folder.path)
    inside = {each.name: each for each in folder.folders}
    holding = {each.name for each in folder.holding()}
    labelled = {name for name in named if _is_labelled(inside[name], named[name])}
    others = [name for name in inside if name not in named]
    classes = [n for n in others if n in holding and not _TO_PREDICT.fullmatch(_letters(n))]
    if classes and not any(named[name] == "train" for name in labelled):
        odd = next((name for name in named if name in holding), next(iter(named)))
        raise SourceError(
            f"a folder named like a split must not lie beside class folders. Received: {odd!r} "
            f"beside {_listed(classes)} in {where}. If it is a split, put the other folders into a "
            "folder train beside it; if it is a class, put all class folders into a folder train"
        )
    for split in SPLITS:
        same = [name for name in named if named[name] == split and name in holding]
        if len(same) > 1:
            raise SourceError(
                f"one folder must be the {split} split. Received: {_listed(same)} in {where}, "
                "which mean the same: join them, or rename the one that is another split or none"
            )
    if others:
        first = min(named, key=lambda name: (name not in labelled, SPLITS.index(named[name])))
        notes.append(f"folders ignored beside {first!r}: {_listed(others)}")
    for name in named:
        if name not in labelled:
            count = len(inside[name].images) + sum(len(f.images) for f in inside[name].walk())
            images = "1 image" if count == 1 else f"{count} images"
            why = f"{images} in no class folder, so without labels" if count else "no images in it"
            notes.append(f"folder ignored: {name!r}, {why}")
    found = {named[name]: inside[name] for name in named if name in labelled}
    unlabelled = {named[name]: inside[name] for name in named if name not in labelled}
    return {split: found[split] for split in SPLITS if split in found}, unlabelled


def _holds_splits(folder: Folder) -> bool:
    """Whether all that holds images is several splits with class folders."""
    holding = folder.holding()
    named = split_names(each.name for each in holding)
    return len(set(named.values())) > 1 and all(
        each.name in named and _is_labelled(each, named[each.name]) for each in holding
    )


def _is_labelled(folder: Folder, split: str) -> bool:
    """Whether a split holds class folders; those of `test1/test1/*.jpg`, `val/images` are none."""
    holding = folder.holding()
    if len(holding) == 1 and not holding[0].folders:
        name = holding[0].name
        wraps = name == folder.name or name.casefold() in _FILLERS
        return not wraps and split_names([name]).get(name) != split
    return bool(holding)


def _wrapped(folder: Folder, notes: list[str]) -> Folder | None:
    """Return the one folder inside that is to be looked through to, if there is one."""
    holding = [f for f in folder.holding() if not _TO_PREDICT.fullmatch(_letters(f.name))]
    if len(holding) != 1 or holding[0].images:
        return None
    others = [each.name for each in folder.folders if each is not holding[0]]
    if others:
        notes.append(f"folders ignored, without labelled images: {_listed(others)}")
    if folder.images:
        count = len(folder.images)
        files = "1 file" if count == 1 else f"{count} files"
        notes.append(f"{files} ignored, in no class folder: {folder.images[0].path!r}")
    return holding[0]


def _unwrap(folder: Folder, notes: list[str]) -> Folder:
    while (inner := _wrapped(folder, notes)) is not None:
        folder = inner
    return folder


def _listed(names: Iterable[str]) -> str:
    quoted = sorted(map(repr, names))
    return ", ".join(quoted[:5]) + (f" and {len(quoted) - 5} more" if len(quoted) > 5 else "")
