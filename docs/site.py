"""Make the site's pages the repository's own files, each at its own path, so that links between them hold in both.

The page of formats is built beside them.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/*.md", "examples/**/*.md", "reports/**/*.md")
MEDIA = (
    "docs/**/*.png",
    "docs/**/*.svg",
    "docs/*.csv",
    "docs/*.json",
    "reports/**/*.svg",
    "reports/**/*.html",
    "LICENSE",
)


def on_files(files: Files, config: Any) -> Files:
    """Replace what lies in the folder of the documentation by the pages and pictures of the whole repository."""
    paths = sorted({path for pattern in (*PAGES, *MEDIA) for path in ROOT.glob(pattern)})
    own = [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls) for path in paths
    ]
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *own])


def on_post_build(config: Any) -> None:
    """Put the page of formats beside the others."""
    page = runpy.run_path(str(ROOT / "docs" / "formats_page.py"))
    page["write"](Path(config.site_dir) / "formats", page["registered"]())
