"""The command that compresses a model to a budget, judged by its own outputs."""

from __future__ import annotations

from glob import escape
from pathlib import Path
from typing import Annotated, Optional

import typer

from ._common import Exclude, Include, PageReport, app, given_command, print_page, progress_bar

__all__ = ["compress"]


@app.command(
    short_help="Compress a model to a budget of divergence or bits.",
    epilog="Examples: rf8sim compress llama_folder --text book.txt --budget 'kl<=0.02' -o small.safetensors; "
    "rf8sim compress minilm_folder --text book.txt --budget 'sqnr>=20dB' -o small.safetensors --report compress.md",
)
def compress(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A Hugging Face folder that transformers opens, not quantized yet.")
    ],
    text: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="UTF-8 text: its first half says what enters the layers, on the third quarter the budget is kept, and "
            "the last, which nothing was chosen on, says what the page states.",
        ),
    ],
    budget: Annotated[
        str,
        typer.Option(
            metavar="BOUND",
            help="'kl<=0.02', nats per token, of a model that predicts tokens; 'sqnr>=20dB', of the outputs of a model "
            "of embeddings; or 'bits<=3', bits per weight of the matrices, everything of them counted.",
        ),
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FILE", help="The quantized checkpoint, a .safetensors file."),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=0, metavar="N", help="Tokens of the text to use, in whole windows; 0 for all.")
    ] = 16384,
    window: Annotated[int, typer.Option("--context", min=2, metavar="N", help="Tokens of a window.")] = 512,
    include: Include = None,
    exclude: Exclude = None,
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--threads", min=1, metavar="N", help="Threads of PyTorch; last digits depend on them."),
    ] = None,
    report: PageReport = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Round a model's matrices for the fewest entropy-coded bits within a bound on what its outputs lose."""
    from .._base.memory import peak_memory
    from ..checkpoints.checkpoint import open_checkpoint
    from ..checkpoints.guard import quantize_checkpoint
    from ..checkpoints.plan import Plan, Rule
    from ..checkpoints.requirements import parse_requirement
    from ..report.render import write_page
    from ..report.sections.pages import COMPRESS
    from ._model_evaluation import TextOptions, compressed_by_text

    bound = parse_requirement(budget, examples="'kl<=0.02', 'sqnr>=20dB' or 'bits<=3'")
    if not model.is_dir():
        raise ValueError(f"{model}: a model is compressed from a Hugging Face folder, which transformers opens")
    if output is not None and output.suffix != ".safetensors":
        raise ValueError(f"{output}: what is written is one file: expected a name that ends in .safetensors")
    options = TextOptions(text, tokens, window, None, None, include or (), exclude or (), threads)
    checkpoint = open_checkpoint(model)
    names = [tensor.name for tensor in checkpoint if tensor.skipped is None]
    result = compressed_by_text(model, names, bound, options, report is not None, quiet)
    notes = []
    if output is not None:
        rules = [
            Rule(escape(name), {"scheme": tensor.scheme, "entropy": "rans"}) for name, tensor in result.tensors.items()
        ]
        with progress_bar(quiet) as progress:
            manifest = quantize_checkpoint(
                model, output, Plan(rules=(*rules, Rule("*", keep=True))), rounded=result.tensors, progress=progress
            )
        notes.append(f"{output}: {sum(manifest.bits.values()):.3f} bits per weight with all that is kept as it is")
    notes.append(f"{peak_memory() / 1e9:.1f} GB resident at most")
    page = COMPRESS.page(result.record, given_command(context))
    notes += [] if report is None else map(str, write_page(page, report))
    if not quiet:
        print_page(page, notes)
