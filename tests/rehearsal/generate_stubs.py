"""Write the part of the stand-in driver that does nothing, from the names TensorFlow asks for."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(
    rb"(__cuda|cu|cuda|cudnn|cublas|cublasLt|cufft|cusolver|cusparse|nccl|nvml)[A-Z]\w+"
)
# What computes on the GPU, beside kernels.
_WORK = re.compile(
    r"cudnn(Convolution|BatchNormalization|Pooling|Softmax|Activation|BackendExecute|AddTensor)"
    r"|cublas(Lt)?\w*(Gemm|gemm|gemv|Matmul$)"
)


def stubs(library: Path, written: str) -> str:
    """Return C functions for all names in `library` that the C source `written` does not define.

    Args:
        library: TensorFlow's shared library, which holds the names that it looks up.
        written: the source of what is written by hand.
    """
    strings = set(library.read_bytes().split(b"\0"))
    names = {text.decode() for text in strings if _NAME.fullmatch(text)}
    names -= set(re.findall(r"\b(\w+)\s*\(", written))
    lines = [
        "void *new_handle(void);",
        "void write_event(const char *, unsigned long, const char *);",
    ]
    for name in sorted(names):
        if name.startswith(("cublasGet", "cudnnGet")):
            body = "return 0;"
        elif _WORK.match(name):
            body = f'write_event("library", 0, "{name}"); return 0;'
        elif "Create" in name or re.match(r"cuGraph(Instantiate|Add\w*Node)", name):
            lines.append(f"int {name}(void **made) {{ if (made) *made = new_handle(); return 0; }}")
            continue
        else:
            body = "return 0;"
        lines.append(f"int {name}() {{ {body} }}")
    return "\n".join(lines) + "\n"
