"""Serve a run's policy by vLLM: python tools/serve_rollouts.py --config CONFIG [--config …]

Takes the configuration files and flags of `lemma fit`, starts a vLLM server with what they need (base, data type, rank
of adapters, lengths, log-probabilities at the sampling temperature), prints the command of a fit that draws from it,
and ends it with all that it started on Ctrl-C. vLLM stands in an environment of its own.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from vllm_server.environment import environment_folder, vllm_python
from vllm_server.launch import fit_command, launch_for
from vllm_server.options import ServerArgs
from vllm_server.process import Server, ending_on_signals, free_port

from lemma.preparation import configured_run, run_tool


def main() -> None:
    """Read the configuration, start the server, and wait for its end."""
    model, data, args = configured_run(ServerArgs, __doc__)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not args.dry_run:
        args = replace(args, port=free_port(args.host, args.port))
    launch = launch_for(model, data, args, device=device)
    for note in launch.notes:
        print(f"Note: {note}", flush=True)
    if args.dry_run:
        print(launch.shown(environment_folder(args.env, device) / "bin" / "python"))
        return
    python = vllm_python(args.env, device)
    with ending_on_signals():
        server = Server(
            [str(python), *launch.arguments],
            launch.environment,
            Path(args.log or f"runs/serving/port-{args.port}.log"),
        )
        try:
            print(f"Starting a server for {model.policy_args.base} (minutes); it writes to {server.log}", flush=True)
            seconds = server.wait_until_healthy(launch.url, timeout=args.start_timeout)
            print(f"Up after {seconds:.0f} s: {launch.url}/v1; Ctrl-C ends it. In another shell (fit or validate):\n")
            print(f"    {fit_command(launch, sys.argv[1:])}\n", flush=True)
            server.wait()
        except KeyboardInterrupt:
            print("Ending the server …", flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    run_tool("serve_rollouts", main, verbose=False)
