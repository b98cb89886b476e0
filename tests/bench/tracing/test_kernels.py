"""Kernels by their names: those of cuDNN, cuBLAS, XLA and TensorFlow as their traces show them."""

import pytest

from fastcifar.bench.tracing import kernels


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (
            "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64"
            "_stage4_warpsize2x2x1_g1_tensor16x8x16_kernel_cudnn",
            kernels.PRODUCT,
        ),
        (
            "sm80_xmma_dgrad_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc_kernel",
            kernels.PRODUCT,
        ),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_cublas", kernels.PRODUCT),
        ("cutlass_80_tensorop_bf16_s16816gemm_bf16_256x128_32x3_nn_align8", kernels.PRODUCT),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_TNN", kernels.PRODUCT),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwckrsc_nhwc_kernel", kernels.MISSING),
        ("ampere_sgemm_128x64_nn", kernels.MISSING),
        ("implicit_convolve_sgemm<float, float, 128, 6, 7>", kernels.MISSING),
        ("volta_scudnn_128x64_relu_small_nn_v1", kernels.MISSING),
        ("void gemv2T_kernel_val<int, int, __nv_bfloat16>", kernels.MISSING),
        ("gemm_fusion_dot_12", kernels.UNTOLD),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512>", kernels.FUSED_NORM),
        ("cudnn::bn_bw_1C11_singleread_specialized", kernels.FUSED_NORM),
        ("void cudnn::ops::nchwToNhwcKernel<__half, __half, float>", kernels.LAYOUT),
        ("void cudnn::ops::nhwcToNchwKernel<__half>", kernels.LAYOUT),
        ("SwapDimension1And2InTensor3UsingTiles", kernels.LAYOUT),
        ("loop_transpose_fusion_3", kernels.LAYOUT),
        ("input_reduce_fusion_7", kernels.REDUCTION),
        ("splitKreduce_kernel<32, 16, int>", kernels.REDUCTION),
        ("loop_add_fusion", kernels.OTHER),
        ("wrapped_convert", kernels.OTHER),
        ("loop_convert_fusion_2", kernels.OTHER),
        ("MemcpyH2D", kernels.TO_DEVICE),
        ("MemcpyD2H", kernels.TO_HOST),
        ("MemcpyD2D", kernels.WITHIN),
        ("Memset", kernels.FILL),
    ],
)
def test_kinds(name, kind):
    assert kernels.kind(name) == kind
    assert kind in kernels.KINDS


def test_what_belongs_to_batch_norm_and_is_no_kernel_of_its_own_is_unfused():
    operation = "while/body/resnet/conv1_bn/FusedBatchNormGradV3"
    assert kernels.kind("input_multiply_reduce_fusion", operation) == kernels.UNFUSED_NORM
    assert kernels.kind("cudnn::bn_bw_1C11_kernel", operation) == kernels.FUSED_NORM
