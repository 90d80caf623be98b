"""Lets torchvision be imported where its operators were built for another build of torch.

A CPU build of torch and PyPI's torchvision, which is built for CUDA, do not fit. timm and
transformers import it, and what they use of it here needs no operator. Whoever needs torch beside
them imports it from here, and so before them.
"""

from torch import library

try:
    import torchvision  # noqa: F401
except ImportError:  # nothing that imports it is there either
    pass
except RuntimeError:
    _operators = library.Library("torchvision", "DEF")  # lives as long as this module
    for _name in ("nms", "qnms"):
        _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
