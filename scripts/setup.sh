#!/bin/sh
# Install one locked requirements file, unless exactly this file is already installed.
#   setup.sh requirements.txt          into .venv
#   VENV=.venv-llm setup.sh requirements-llm.txt   into a separate environment
#   setup.sh --pythons                 only print the oldest and newest Python that were tested
set -eu
cd "$(dirname "$0")/.."

# Debian 12's Python, and the newest that the tests ran on (scripts/try_pythons.py runs in CI).
oldest=3.11.2
newest=3.13
if [ "$1" = --pythons ]; then
    echo "$oldest $newest"
    exit 0
fi

requirements=$1
python=${PYTHON:-python3}
venv=${VENV:-.venv}
stamp=$venv/.installed-$requirements

# The stamp is a copy of the file, because a fresh checkout changes dates but not contents.
if [ -x "$venv/bin/python" ] && cmp -s "$requirements" "$stamp"; then
    exit 0
fi

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Compare the version with a bound, by as many numbers as the bound has: is_python "<" 3.11.2
is_python() {
    "$python" -c 'import operator, sys
bound = tuple(map(int, sys.argv[2].split(".")))
sys.exit(not {"<": operator.lt, ">": operator.gt}[sys.argv[1]](sys.version_info[:len(bound)], bound))' "$1" "$2"
}

if ! command -v "$python" >/dev/null 2>&1; then
    fail "Python $oldest or newer is needed, and $python was not found." \
        "On Debian or Ubuntu:  apt install python3 python3-venv" \
        "Installed under another name?  PYTHON=python3.12 make setup"
fi
if is_python "<" "$oldest"; then
    fail "Python $oldest or newer is needed; $python is $("$python" -V 2>&1)." \
        "If a newer one is installed, name it:  PYTHON=python3.12 make setup"
fi
if is_python ">" "$newest"; then
    echo "Warning: $("$python" -V 2>&1) is newer than Python $newest, the newest that was tested." \
        "If the installation fails, use an older one:  PYTHON=python$newest make setup" >&2
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    fail "This Python lacks the venv module." \
        "On Debian or Ubuntu:  apt install python3-venv"
fi

# Create the environment again if its interpreter was upgraded or removed.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "Creating $venv with $("$python" -V 2>&1)."
    "$python" -m venv --clear "$venv"
fi
echo "Installing $requirements ..."
# Each file lists everything, so pip need not resolve dependencies. If it did, a package pinned by
# its extra would make it stop at the first newer release, whose hash is missing.
if ! "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
    --require-hashes --no-deps -r "$requirements"; then
    fail "The installation failed; see above. Nothing is lost: fix the cause, then run it again."
fi
cp "$requirements" "$stamp"
