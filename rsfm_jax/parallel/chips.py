"""How fast a chip can be: the denominator of MFU."""

from typing import Any

TPU_PEAK_FLOPS = {"v5e": 197e12, "v5p": 459e12, "v6e": 918e12}  # dense bfloat16; cloud.google.com/tpu/docs
GPU_PEAK_FLOPS = {"h100": 989e12, "h200": 989e12, "a100": 312e12}  # dense bfloat16, SXM; nvidia.com data sheets, whose headline is sparse
_PEAK_FLOPS = {  # the first that the device's name begins with
    "TPU v5 lite": TPU_PEAK_FLOPS["v5e"],
    "TPU v5": TPU_PEAK_FLOPS["v5p"],
    "TPU v6 lite": TPU_PEAK_FLOPS["v6e"],
    "NVIDIA H100 PCIe": 756e12,  # dense bfloat16; nvidia.com data sheets, whose headline figures are with sparsity
    "NVIDIA H100": GPU_PEAK_FLOPS["h100"],
    "NVIDIA H200": GPU_PEAK_FLOPS["h200"],
    "NVIDIA A100": GPU_PEAK_FLOPS["a100"],
}


def peak_flops(device: Any) -> float | None:
    """The vendor's bfloat16 FLOP/s of a device; None where this table does not know it, as for CPUs."""
    return next((peak for kind, peak in _PEAK_FLOPS.items() if device.device_kind.startswith(kind)), None)
