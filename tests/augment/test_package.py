"""What `import fastcifar.augment` gives."""

import subprocess
import sys

import pytest

import fastcifar.augment


def test_modules_are_imported_on_first_use():
    code = (
        "import sys, fastcifar.augment as a; assert 'tensorflow' not in sys.modules;"
        "assert callable(a.geometry.warp); assert callable(a.build.build);"
        "assert 'tensorflow' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match=r"'fastcifar\.augment' has no attribute 'nothing'"):
        _ = fastcifar.augment.nothing
