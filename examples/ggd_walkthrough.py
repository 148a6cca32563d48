"""A walk through ``ggd``, to be run whole or cell by cell (an editor that knows ``# %%`` shows a notebook).

::

    python examples/ggd_walkthrough.py
"""

# %% [markdown]
# # The generalized Gaussian as a tool
#
# Its density is proportional to exp(-|x / scale|^shape). Shape 2 is Gaussian, 1 Laplace; the smaller, the more weights
# near zero and the heavier the tails.

# %%
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import ggd
from ggd.estimate import standard_errors
from ggd.findings import verdict
from ggd.survey import summarize, survey

LM = Path(__file__).parent / "lm"


def heading(text: str) -> None:
    print(f"\n--- {text} ---")


# %% [markdown]
# ## Samples, and a fit
#
# Samples depend on the seed alone, not on threads. A fit brings its standard errors, and says whether to trust it.

# %%
heading("samples and a fit")
truth = ggd.GGD(shape=0.8, scale=0.02)
x = truth.sample(1_000_000, seed=0, dtype=np.float32)
fit = ggd.fit(x)
print(f"truth: shape {truth.shape}, scale {truth.scale}")
print(f"fit:   shape {fit.shape:.4f} +- {fit.stderr.shape:.4f}, scale {fit.scale:.5f} +- {fit.stderr.scale:.5f}")
print(f"entropy {truth.entropy_bits:.3f} bits, kurtosis {truth.kurtosis:.2f}, 99.9 % within {truth.isf(5e-4):.3f}")

# %% [markdown]
# ## One pass, one summary
#
# Everything is computed from a histogram of a few dozen kilobytes. Pieces merge to the very same summary, so a
# checkpoint can be read in any order, by any number of machines.

# %%
heading("one pass, one summary")
whole = ggd.MagnitudeHistogram.from_array(x)
merged = ggd.MagnitudeHistogram()
for piece in np.array_split(x[::-1], 7):
    merged |= ggd.MagnitudeHistogram.from_array(piece)
print(f"{whole.count:,} values in {whole.keys.size:,} cells; seven pieces, backwards, give the same: {merged == whole}")
print(f"fit from the summary is the fit from the data: {ggd.fit(merged) == fit}")

# %% [markdown]
# ## Which estimator?
#
# The literature matches E[x^2] / E[|x|]^2. Below shape 1 that wastes data: the share of it that would be enough for
# maximum likelihood is the efficiency.

# %%
heading("how much of the data each moment estimator uses")
print("shape   moments   half-moments")
for shape in (0.3, 0.5, 1.0, 1.5, 2.0):
    errors = {m: standard_errors(ggd.GGD(shape), 1000, m).shape for m in ("ml", "moments", "half-moments")}
    shares = [(errors["ml"] / errors[method]) ** 2 for method in ("moments", "half-moments")]
    print(f"{shape:5.1f}   {shares[0]:7.0%}   {shares[1]:12.0%}")

# %% [markdown]
# On data that are not generalized Gaussian the three estimators aim at different things and split. That is a test of
# the family that needs no rival.

# %%
heading("estimators agree on a generalized Gaussian and split otherwise")
rng = np.random.default_rng(0)
for name, data in {
    "generalized Gaussian": x,
    "Student t, 3 degrees": rng.standard_t(3, 1_000_000),
    "two Gaussians, 1 and 5": rng.standard_normal(1_000_000) * rng.choice([1.0, 5.0], 1_000_000),
}.items():
    agreement = ggd.compare_estimators(data)
    shapes = ", ".join(f"{method} {other.shape:.3f}" for method, other in agreement.fits.items())
    print(f"{name:22}  {shapes}")

# %% [markdown]
# ## Is it the right family?
#
# With a million weights every difference is significant, so families are compared by effect: bits per weight lost.

# %%
heading("families by what they lose")
choice = ggd.select(x)
for rival in choice.fits:
    print(f"{rival.name:15} {rival.lost:8.5f} bits per weight")
print(choice.verdict)

# %% [markdown]
# ## What pooling hides
#
# Fifty Gaussian tensors, none of them heavy-tailed, whose scales differ: together they pass for a Laplace density.

# %%
heading("fifty Gaussian tensors pooled")
tensors = [scale * rng.standard_normal((64, 64)) for scale in np.exp(0.65 * rng.standard_normal(50))]
pooled = ggd.fit(np.concatenate([tensor.ravel() for tensor in tensors]))
one_by_one = np.median([ggd.fit(tensor).shape for tensor in tensors])
print(f"shape of the pool {pooled.shape:.2f}, median shape of the tensors {one_by_one:.2f}")

# %% [markdown]
# ## Data that fits should refuse, or survive
#
# What determines no shape gives no number but a reason. Zeros (pruning) are counted apart. Outliers can be censored.
# A fit that does not describe the data says by how many bits a value a mere histogram is better.

# %%
heading("difficult data")
pruned = np.where(rng.random(x.size) < 0.5, 0, x)
outliers = x.copy()
outliers[:5] = 20.0
for name, result in {
    "half of it zeros": ggd.fit(pruned),
    "five values at 1000 scales": ggd.fit(outliers),
    "the same, censored": ggd.fit(outliers, censor=0.001),
    "uniform": ggd.fit(rng.uniform(-1, 1, 100_000)),
    "seven values": ggd.fit(x[:7]),
    "two clusters": ggd.fit(rng.standard_normal(100_000) + rng.choice([-3.0, 3.0], 100_000)),
}.items():
    said = f"shape {result.shape:.4f} +- {result.stderr.shape:.4f}" if result.trusted else f"refused: {result.reason}"
    print(f"{name:27} {said}")

# %% [markdown]
# ## What a quantizer costs
#
# The error of any table of values under a density is exact, no samples needed. The best 16 and 256 values, and what
# entropy coding their indices would take:

# %%
heading("the best quantizer")
for levels in (16, 256):
    values = ggd.lloyd_max(truth, levels).values
    middles = (values[1:] + values[:-1]) / 2
    theory = ggd.expected_mse(truth, values, middles)
    measured = np.mean((x.astype(np.float64) - values[np.searchsorted(middles, x)]) ** 2)
    print(
        f"{levels:3} values: SQNR {10 * np.log10(truth.var / theory):.2f} dB, measured on the sample "
        f"{10 * np.log10(np.mean(x.astype(np.float64) ** 2) / measured):.2f} dB; "
        f"{ggd.index_entropy(truth, middles):.2f} bits a value if entropy-coded"
    )

# %% [markdown]
# ## A real checkpoint
#
# Every tensor by itself, all together, and the verdict. `rf8sim fit` does the same for checkpoints of any size, with
# figures.

# %%
heading("the example language model")
weights = load_file(LM / "model.safetensors")
found = survey(summarize(name, weights[name]) for name in sorted(weights))
for sentence in verdict(found):
    print(f"* {sentence}")

# %% [markdown]
# A tensor pools its channels as a checkpoint pools its tensors. Blocks of neighbouring channels fitted by themselves
# show it; what one fit for all of them loses is what a scale for each block could save.

# %%
heading("tensors whose channels differ")
print("whole   groups from - to   lost by one fit (by one scale)")
for entry in found.tensors:
    if entry.groups is not None and entry.groups.differ:
        low, _, high = entry.groups.spread
        lost = f"{entry.groups.saved:.4f} ({entry.groups.saved_by_scale:.4f}) bits per weight"
        print(f"{entry.fit.shape:5.2f}   {low:6.2f} - {high:4.2f}      {lost}  {entry.name}")

# %% [markdown]
# The lowest shape is that of the input embedding. Its heavy tail is a spread of scales: rows of bytes that text holds
# stand beside rows of bytes that it rarely or never holds, which have not been trained away from small values.

# %%
heading("why the embedding looks heavy-tailed")
embedding = weights["embed.weight"]
text = Counter((LM / "validation.bin").read_bytes())
seen = np.array([text[byte] > 0 for byte in range(256)])
for name, rows in {
    "rows of bytes in the held-out text": embedding[seen],
    "rows of other bytes": embedding[~seen],
}.items():
    own = ggd.fit(rows / np.sqrt(np.mean(rows.astype(np.float64) ** 2, axis=1, keepdims=True)))
    rms = np.sqrt(np.mean(rows.astype(np.float64) ** 2))
    print(f"{len(rows):4} {name:33} RMS {rms:.4f}; shape {ggd.fit(rows).shape:.2f}, rows at equal RMS {own.shape:.2f}")
