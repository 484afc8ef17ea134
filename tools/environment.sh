# Sourced by quickstart.sh and test.sh: makes .venv at the top of the checkout, installs Lemma with pinned versions,
# and activates it. A second call re-uses it. EXTRAS names optional dependencies, e.g. EXTRAS=test.
# PYTHON chooses the interpreter that makes the environment (3.11 or newer).

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
EXTRAS=${EXTRAS:-}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: Lemma needs Python 3.11 or newer, but $PYTHON is $("$PYTHON" --version 2>&1). Set PYTHON=/path/to/python3.11." >&2
    exit 1
}
stamp=.venv/.lemma-installed${EXTRAS:+-$EXTRAS}
wanted=$(cat pyproject.toml tools/constraints.txt | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing Lemma into .venv (some minutes the first time) …"
    [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
    # torch first: pip then takes the build that is at hand instead of resolving the range anew
    .venv/bin/pip install --quiet --disable-pip-version-check -c tools/constraints.txt torch
    .venv/bin/pip install --quiet --disable-pip-version-check -c tools/constraints.txt -e ".${EXTRAS:+[$EXTRAS]}"
    echo "$wanted" > "$stamp"
fi
. .venv/bin/activate
