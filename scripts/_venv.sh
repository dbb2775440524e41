# Sourced by the other scripts. Sets DEE_ROOT (the checkout) and DEE_PYTHON (an interpreter that has
# the project and its test tools), and makes .venv in the checkout when it is missing or stale.
# A caller that sets DEE_PYTHON keeps its own environment, and a .venv that is a link is shared with
# other checkouts; nothing is installed then.

DEE_ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"

_dee_find_python() {
    local name
    for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
        # Asked, not only looked up: a version manager's stand-in exists for versions it lacks.
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

# What the environment was made from: the place (scripts in it hold absolute paths) and the project.
_dee_recipe() {
    printf '%s\n' "$DEE_ROOT"
    cat -- "$DEE_ROOT/pyproject.toml"
}

_dee_current() {
    [ -x "$DEE_ROOT/.venv/bin/python" ] && _dee_recipe | cmp -s - "$DEE_ROOT/.venv/made-from"
}

_dee_make_venv() {
    local venv="$DEE_ROOT/.venv" base said
    base="$(_dee_find_python)" || {
        echo "error: Python 3.11 or newer is needed; none of python3.11 to python3.14, python3, python is one" >&2
        return 1
    }
    # The stamp goes first and comes back last, so that a failed install is never taken for a good one.
    rm -f -- "$venv/made-from"
    if ! "$venv/bin/python" -c "import sys; sys.exit(sys.prefix != '$venv')" >/dev/null 2>&1; then
        echo "Making .venv with $("$base" --version) ..." >&2
        # Some systems ship venv without the pip it would put inside: lend it the outer one.
        "$base" -m venv --clear "$venv" >/dev/null 2>&1 ||
            "$base" -m venv --clear --without-pip "$venv" || {
            echo "error: $base could not make $venv" >&2
            return 1
        }
    fi
    echo "Installing dee-es and its test tools into .venv ..." >&2
    local pip=("$venv/bin/python" -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 || pip=("$base" -m pip --python "$venv/bin/python")
    said="$("${pip[@]}" install --quiet --disable-pip-version-check --editable "$DEE_ROOT[test]" 2>&1)" || {
        printf '%s\nerror: installing into .venv failed; pip says why above\n' "$said" >&2
        return 1
    }
    _dee_recipe >"$venv/made-from"
}

# Adds an extra of the project to .venv, once; an environment of the caller's own is left alone.
_dee_ensure_extra() {
    local venv="$DEE_ROOT/.venv" said
    [ "$DEE_PYTHON" = "$venv/bin/python" ] || return 0
    _dee_recipe | cmp -s - "$venv/made-from-$1" && return 0
    echo "Installing what only scripts/$1 needs into .venv ..." >&2
    local pip=("$DEE_PYTHON" -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 || pip=("$(_dee_find_python)" -m pip --python "$DEE_PYTHON")
    said="$("${pip[@]}" install --quiet --disable-pip-version-check --editable "$DEE_ROOT[$1]" 2>&1)" || {
        printf '%s\nerror: installing the extra %s failed; pip says why above\n' "$said" "$1" >&2
        return 1
    }
    _dee_recipe >"$venv/made-from-$1"
}

_dee_ensure_venv() {
    _dee_current && return 0
    (
        # Two scripts started at once: the second waits and then finds the work done.
        if command -v flock >/dev/null 2>&1; then
            exec 9>"$DEE_ROOT/.venv.lock" && flock 9
        fi
        _dee_current || _dee_make_venv
    )
}

if [ -z "${DEE_PYTHON:-}" ] && [ -L "$DEE_ROOT/.venv" ]; then
    DEE_PYTHON="$(cd -- "$DEE_ROOT/.venv" && pwd -P)/bin/python"
    # The code that is installed there may be another checkout's.
    export PYTHONPATH="$DEE_ROOT${PYTHONPATH:+:$PYTHONPATH}"
elif [ -z "${DEE_PYTHON:-}" ]; then
    _dee_ensure_venv || exit 1
    DEE_PYTHON="$DEE_ROOT/.venv/bin/python"
fi

# Where Python may not keep what it compiles, every process that a test, a measurement or the engine
# itself starts would compile all of the project anew. pip compiles what it installs; this is the
# rest. It takes a moment when nothing has changed.
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ] && [ -w "$DEE_ROOT/dee_es" ]; then
    (cd -- "$DEE_ROOT" && "$DEE_PYTHON" -m compileall -q dee_es projections scripts tests) || true
fi
