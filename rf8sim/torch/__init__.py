"""The PyTorch adapter: fake quantization with a straight-through gradient, and models that carry it.

Everything numeric is the codec's: on the CPU its compiled loops, on other devices its tables, which PyTorch looks up.
The results are its results, bit for bit. Nothing else of the project imports this module.

Examples
--------
>>> import torch, rf8sim.torch
>>> x = torch.tensor([1.0, -0.3, 0.026, 7.0], requires_grad=True)
>>> y = rf8sim.torch.fake_quantize(x, "rf8/none")
>>> y.detach()
tensor([ 1.0000, -0.3125,  0.0273,  1.5000])
>>> y.sum().backward()
>>> x.grad
tensor([1., 1., 1., 0.])
"""

from __future__ import annotations

from .coverage import Coverage as Coverage
from .evaluation import EvaluateConfig as EvaluateConfig
from .evaluation import evaluate as evaluate
from .exchange import torchao_config as torchao_config
from .fake import fake_quantize as fake_quantize
from .models import FakeQuantize as FakeQuantize
from .models import InputQuantize as InputQuantize
from .models import QuantizeConfig as QuantizeConfig
from .models import coverage as coverage
from .models import dequantize_ as dequantize_
from .models import quantize_ as quantize_
from .models import quantized_tensors as quantized_tensors
from .models import update_scales_ as update_scales_
from .size import ModelSize as ModelSize
from .size import TensorSize as TensorSize
from .size import model_size as model_size
from .storage import load_quantized as load_quantized
from .storage import save_quantized as save_quantized

__all__ = [
    "Coverage", "EvaluateConfig", "FakeQuantize", "InputQuantize", "ModelSize", "QuantizeConfig", "TensorSize",
    "coverage", "dequantize_",
    "evaluate", "fake_quantize", "load_quantized", "model_size", "quantize_", "quantized_tensors", "save_quantized",
    "torchao_config", "update_scales_",
]  # fmt: skip
