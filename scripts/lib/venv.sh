# Sourced by the scripts here. `venv .venv test` makes sure that the checkout's .venv is
# there and up to date, with the extra "test", and sets $python to its interpreter.
# It is made with the first of these that will do; $PYTHON, when set, also says that a
# .venv of another Python is to be replaced.

venv() {
    local dir=$root/$1 candidate
    python=$dir/bin/python
    for candidate in "${PYTHON:-}" "$python" \
            python3 python3.13 python3.12 python3.11 python3.10 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -IS -c 'import sys; assert sys.version_info >= (3, 10)
import ensurepip, venv' >/dev/null 2>&1; then
            "$candidate" -IS "$root/scripts/lib/venv.py" "$@"
            return
        elif [ "$candidate" = "${PYTHON:-}" ]; then
            echo "PYTHON=$PYTHON is no Python 3.10 or newer with venv; trying others" >&2
        fi
    done
    echo "No Python 3.10 or newer with the venv module found. Install one (on Debian and" >&2
    echo "Ubuntu: apt install python3 python3-venv), or say where it is: PYTHON=/path/to/python $0" >&2
    return 1
}
