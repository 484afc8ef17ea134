#!/usr/bin/env bash
# The whole test suite, a file at a time on each of two cores: bash tools/test.sh [pytest arguments]
set -euo pipefail
EXTRAS=test
. "$(dirname "$0")/environment.sh"

export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
python -m pytest -n 2 --dist loadfile "$@"
