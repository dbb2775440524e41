"""Places for checkpoints: a folder, a git repository, or anything that fsspec has a name for."""

from __future__ import annotations

from dee_es.adapters.anchors.files import FileAnchor
from dee_es.adapters.anchors.git import GitAnchor
from dee_es.adapters.anchors.signer import FileSigner, MemorySigners, create_signer, load_signer
from dee_es.ports import Anchor

__all__ = [
    "FileAnchor",
    "FileSigner",
    "GitAnchor",
    "MemorySigners",
    "create_signer",
    "load_signer",
    "open_anchor",
]

_GIT = "git:"


def open_anchor(url: str) -> Anchor:
    """The place that a setting names: `git:FOLDER`, a folder, or a URL such as `s3://bucket/path`.

    Raises `AnchorUnavailable` for a place that cannot be had.
    """
    if url.startswith(_GIT):
        return GitAnchor(url.removeprefix(_GIT))
    return FileAnchor(url)
