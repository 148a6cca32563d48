"""What each scheme costs the example model: its weights quantized, its loss on held-out bytes measured again.

::

    python examples/loss_by_format.py
    python examples/loss_by_format.py mxfp4 nvfp4 int8/channel rf8/1x32@stochastic
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import rf8sim

LM = Path(__file__).parent / "lm"
sys.path.insert(0, str(LM))

import corpus  # noqa: E402
import numpy_model  # noqa: E402

SCHEMES = ["rf8", "rf8_e3", "rf6", "e4m3fn", "e5m2", "e3m4", "int8", "posit8_es1", "lns8", "nf4"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the example model's loss with quantized weights.")
    parser.add_argument("schemes", nargs="*", default=SCHEMES, help="names or text forms of rf8sim.Scheme")
    arguments = parser.parse_args()

    weights, config = numpy_model.load(LM / "model.safetensors")
    windows = corpus.read_windows(LM / "validation.bin", int(config["context"]) + 1)
    exact = numpy_model.evaluate(weights, config, windows)
    width = max(12, *map(len, arguments.schemes))
    print(f"{'scheme':{width}} {'SQNR, dB':>8} {'loss, nats per byte':>20} {'cost':>9}")
    print(f"{'float32':{width}} {'':8} {exact:20.5f}")
    for scheme in arguments.schemes:
        # Matrices are quantized, the few hundred weights of the norms are not.
        changed = {
            key: rf8sim.quantize(tensor, scheme).dequantize() if tensor.ndim == 2 else tensor
            for key, tensor in weights.items()
        }
        signal = sum(float(np.sum(tensor.astype(np.float64) ** 2)) for tensor in weights.values())
        noise = sum(float(np.sum((weights[key].astype(np.float64) - changed[key]) ** 2)) for key in weights)
        loss = numpy_model.evaluate(changed, config, windows)
        print(f"{scheme:{width}} {10 * np.log10(signal / noise):8.2f} {loss:20.5f} {loss - exact:+9.5f}", flush=True)


if __name__ == "__main__":
    main()
