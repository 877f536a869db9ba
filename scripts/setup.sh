#!/bin/sh
# Install one locked requirements file, unless exactly this file is installed already.
#   setup.sh requirements.txt          into .venv
#   VENV=.venv-llm setup.sh requirements-llm.txt   into an environment of its own
#   setup.sh --pythons                 only print the oldest and the newest Python that this was tried on
set -eu
cd "$(dirname "$0")/.."

# Debian 12's own, and the newest on which the tests were run (scripts/try_pythons.py runs in CI).
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

# A copy of the file serves as the stamp: a fresh checkout changes dates, not contents.
if [ -x "$venv/bin/python" ] && cmp -s "$requirements" "$stamp"; then
    exit 0
fi

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Does the version compare like this, by as many numbers as the bound has? is_python "<" 3.11.2
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
    echo "Warning: $("$python" -V 2>&1) is newer than Python $newest, the newest this was tried on." \
        "If the installation fails, name an older one:  PYTHON=python$newest make setup" >&2
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    fail "This Python lacks the venv module." \
        "On Debian or Ubuntu:  apt install python3-venv"
fi

# An environment whose interpreter was upgraded or removed is created again.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "Creating $venv with $("$python" -V 2>&1)."
    "$python" -m venv --clear "$venv"
fi
echo "Installing $requirements ..."
# Each file names all that it needs, so pip need not look for more: where a pinned package is asked
# for by its extra, it would stop at the first newer release, for want of that one's hash.
if ! "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
    --require-hashes --no-deps -r "$requirements"; then
    fail "The installation failed; see above. Nothing is lost: fix the cause and run it again."
fi
cp "$requirements" "$stamp"
