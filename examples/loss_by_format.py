"""What each format costs the example model: its weights quantized, its loss on held-out bytes measured again.

::

    python examples/loss_by_format.py
    python examples/loss_by_format.py --scaling block --rounding stochastic rf8 e4m3fn
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

FORMATS = ["rf8", "rf8_e3", "rf6", "e4m3fn", "e5m2", "e3m4", "int8", "posit8_es1", "lns8", "nf4"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the example model's loss with quantized weights.")
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--scaling", default="tensor", help="tensor, channel or block")
    parser.add_argument("--scale-rule", default="mse", help="max, mse or ggd")
    parser.add_argument("--rounding", default="nearest-even")
    arguments = parser.parse_args()

    weights, config = numpy_model.load(LM / "model.safetensors")
    windows = corpus.read_windows(LM / "validation.bin", int(config["context"]) + 1)
    exact = numpy_model.evaluate(weights, config, windows)
    print(f"{'format':12} {'SQNR, dB':>8} {'loss, nats per byte':>20} {'cost':>9}")
    print(f"{'float32':12} {'':8} {exact:20.5f}")
    for name in arguments.formats:
        # Matrices are quantized, the few hundred weights of the norms are not.
        changed = {
            key: rf8sim.quantize(
                tensor,
                name,
                scaling=arguments.scaling,
                axis=tensor.ndim - 1 if arguments.scaling == "block" else 0,
                scale_rule=arguments.scale_rule,
                rounding=arguments.rounding,
            ).dequantize()
            if tensor.ndim == 2
            else tensor
            for key, tensor in weights.items()
        }
        signal = sum(float(np.sum(tensor.astype(np.float64) ** 2)) for tensor in weights.values())
        noise = sum(float(np.sum((weights[key].astype(np.float64) - changed[key]) ** 2)) for key in weights)
        loss = numpy_model.evaluate(changed, config, windows)
        print(f"{name:12} {10 * np.log10(signal / noise):8.2f} {loss:20.5f} {loss - exact:+9.5f}", flush=True)


if __name__ == "__main__":
    main()
