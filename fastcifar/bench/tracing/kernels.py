"""What a GPU's kernel is, by its name.

Names are all that a trace tells of a library's kernel. The patterns are those of cuDNN 8 and 9,
cuBLAS 12, XLA and TensorFlow; what none of them knows is `other`, and a product of which the name
does not tell whether it uses tensor cores is counted apart, so that nothing is claimed of it.
"""

from __future__ import annotations

import re

TO_DEVICE, TO_HOST = "copy host to device", "copy device to host"
WITHIN, FILL = "copy device to device", "memset"
LAYOUT = "layout change"
PRODUCT, MISSING = "product on tensor cores", "product without tensor cores"
UNTOLD = "product, tensor cores not told"
FUSED_NORM, UNFUSED_NORM = "BatchNorm, fused", "BatchNorm, unfused"
REDUCTION, OTHER = "reduction", "other"
KINDS = (
    *(PRODUCT, MISSING, UNTOLD, FUSED_NORM, UNFUSED_NORM, REDUCTION, LAYOUT),
    *(OTHER, WITHIN, TO_DEVICE, TO_HOST, FILL),
)
# What is no launch of a kernel.
COPIES = frozenset({TO_DEVICE, TO_HOST, WITHIN, FILL})


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_COPIES = {
    TO_DEVICE: _any("memcpyh2d", "memcpy.*htod", "host ?to ?device"),
    TO_HOST: _any("memcpyd2h", "memcpy.*dtoh", "device ?to ?host"),
    WITHIN: _any("memcpyd2d", "memcpyp2p", "memcpy.*dtod", "device ?to ?device"),
    FILL: _any("^memset"),
}
# Between the orders of a batch's axes, alone in a kernel.
_LAYOUT = _any(
    *("nchwtonhwc", "nhwctonchw", "nchw_to_nhwc", "nhwc_to_nchw", "swapdimension"),
    *("shuffleintensor3", "transpose", "convert_?tensor", "tensortransform", "nchw2nhwc"),
)
_NORM = _any("bn_fw", "bn_bw", "batch_?norm", "bnorm")
_PRODUCT = _any(
    *("gemm", "gemv", "conv(?!ert)", "xmma", "cutlass", "wgmma", "nvjet", "winograd", "fprop"),
    *("dgrad", "wgrad", r"\bdot\b", "dot_fusion", "matmul", "fft", "scudnn", "splitk"),
)
_TENSOR_CORES = _any(
    *("tensorop", "tensor16x8", "hmma", "hgmma", "gmma", "16816", "1688", "_884", "[sh]884"),
    *("nvjet", "tf32f32", "bf16bf16", "f16f16", r"(?<!f)16x8x(8|16)", "warpspecialized"),
)
_NO_TENSOR_CORES = _any(
    *("sgemm", "dgemm", "scudnn", "simt", "ffma", "gemv", "winograd", "fft", "gemmsn"),
    *("f32f32_f32f32_f32", "implicit_convolve", "_direct_kernel", "depthwise", "cgemm"),
)
_REDUCTION = _any("reduce", "reduction", "columnreduce", "rowreduce", "splitkreduce")


def kind(name: str, operation: str = "") -> str:
    """What a device's event is: one of `KINDS`.

    Args:
        name: of the event.
        operation: TensorFlow's or XLA's operation that it belongs to, if the trace tells.
    """
    for copy, pattern in _COPIES.items():
        if pattern.search(name):
            return copy
    if _NORM.search(name):
        return FUSED_NORM
    if re.search("batch_?norm", operation, re.IGNORECASE):
        return UNFUSED_NORM
    if _LAYOUT.search(name):
        return LAYOUT
    if re.search("splitk_?reduce", name, re.IGNORECASE):
        return REDUCTION
    if _PRODUCT.search(name):
        if _NO_TENSOR_CORES.search(name):
            return MISSING
        return PRODUCT if _TENSOR_CORES.search(name) else UNTOLD
    return REDUCTION if _REDUCTION.search(name) else OTHER
