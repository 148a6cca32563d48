"""Make the site's pages the repository's own files, each at its own path, so that links between them hold in both.

Notebooks are run, and the page of formats is built beside them.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/*.md", "examples/**/*.md", "reports/**/*.md")
MEDIA = (
    "docs/**/*.png",
    "docs/**/*.svg",
    "docs/*.csv",
    "docs/*.json",
    "reports/**/*.svg",
    "reports/**/*.html",
    "docs/notebooks/*.ipynb",  # to be taken away; the pages are what they say when run
    "LICENSE",
)


def on_files(files: Files, config: Any) -> Files:
    """Replace what lies in the folder of the documentation by the pages and pictures of the whole repository."""
    paths = sorted({path for pattern in (*PAGES, *MEDIA) for path in ROOT.glob(pattern)})
    own = [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls) for path in paths
    ]
    notebooks = [
        File.generated(config, (path.parent.relative_to(ROOT) / name).as_posix(), content=content)
        for path in sorted(ROOT.glob("docs/notebooks/*.ipynb"))
        for name, content in executed(path).items()
    ]
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *own, *notebooks])


def executed(path: Path) -> dict[str, str | bytes]:
    """Run a notebook and return its page and its figures by name; a cell that fails ends the build."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--InlineBackend.figure_formats=svg"],
    ).execute()
    names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_figures"}
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources=names)
    heading, body = text.split("\n", 1)
    page = f"{heading}\n\n[This notebook]({path.name}), to run yourself.\n{body}"
    return {f"{path.stem}.md": page, **resources["outputs"]}


def on_post_build(config: Any) -> None:
    """Put the page of formats beside the others."""
    page = runpy.run_path(str(ROOT / "docs" / "formats_page.py"))
    page["write"](Path(config.site_dir) / "formats", page["registered"]())
