"""Configurations of torchao that store weights as schemes do."""

import logging

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

from rf8sim.torch import fake_quantize, torchao_config  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

# The share of weights that may differ: none in MX; of floats and NVFP4 those that lie between two values to float32's
# precision; of integers any, for torchao's scale is the largest magnitude by 2^(bits - 1) - 1/2.
SCHEMES = {
    "mxfp4": 0.0, "mxfp8_e4m3": 0.0, "mxfp8_e5m2": 0.0, "nvfp4": 0.01, "e4m3fn/tensor,max": 1e-3,
    "e4m3fn/channel,max": 1e-3, "e5m2/channel,max": 1e-3, "int8/tensor,max": 1.0, "int8/channel,max": 1.0,
    "int4/1x32,max": 1.0, "int8/1x32:float16,max": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def by_torchao(weight, scheme):
    from torchao.quantization import quantize_

    model = torch.nn.Sequential(torch.nn.Linear(*weight.T.shape, bias=False)).to(weight.dtype)
    model[0].weight.data.copy_(weight)
    quantize_(model, torchao_config(scheme))
    return model[0].weight.dequantize().float()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_torchao_stores_weights_as_the_scheme_does(scheme):
    dtype = torch.bfloat16 if scheme.startswith(("mx", "nv")) else torch.float32
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours, theirs = fake_quantize(weight, scheme).float(), by_torchao(weight, scheme)
    differ = (ours - theirs).abs() > (0.0 if scheme.startswith("mx") else 1e-6) * ours.abs()
    assert float(differ.float().mean()) <= SCHEMES[scheme]
    assert float((theirs - weight).norm()) == pytest.approx(float((ours - weight).norm()), rel=0.05)


@pytest.mark.parametrize(
    "scheme", ["rf8", "int8/none", "mxint8", "nf4_g64", "fp8_128x128", "int8/*x1", "uint4/1x32:float16,max,zero=uint4"]
)
def test_what_torchao_has_not_is_refused(scheme):
    with pytest.raises(ValueError, match="torchao has no weights stored as"):
        torchao_config(scheme)
