"""Decides what identifies the weights that a policy starts from: the bytes of base and adapter."""

import hashlib
from pathlib import Path

from lemma.assets import resolve_base
from lemma.policy.architecture import load_config
from lemma.policy.args import PolicyArgs

_FILES = ("*.safetensors", "*.json")


def weights_sha256(args: PolicyArgs) -> str:
    """Return a hash of the files that base and adapter are loaded from.

    A base from the hub is known by its name and commit, which is a hash itself. Reading a large local base takes about
    a second a gigabyte.

    Args:
        args: Which base and adapter.
    """
    digest = hashlib.sha256()
    base = Path(resolve_base(args.base))
    if base.is_dir():
        _add_folder(digest, base)
    else:
        config = load_config(args.base, args.revision, args.trust_remote_code)
        digest.update(f"{args.base}@{getattr(config, '_commit_hash', None) or args.revision}".encode())
    if args.adapter is not None:
        _add_folder(digest, Path(args.adapter))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return a hash of a file's bytes, or of those of every file in a folder."""
    digest = hashlib.sha256()
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if each.is_file():
            with each.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _add_folder(digest: "hashlib._Hash", folder: Path) -> None:
    for path in sorted(path for pattern in _FILES for path in folder.glob(pattern)):
        with path.open("rb") as stream:
            digest.update(f"\0{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
