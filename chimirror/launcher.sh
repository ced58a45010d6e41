#!/bin/sh
# chimirror-bridge: starts the bridge with `python3 -I -S`. Without site, the interpreter
# starts in two thirds of the time. (pip rewrites `#!python -IS`.)
#
# The script knows the directories of pip and nothing else. The interpreter is beside this
# file or in PATH, and the package is in the library directory of the same prefix. Only
# builtins are used, so there is no fork, except for a symbolic link (pipx). Where the
# package is elsewhere (an editable install, dependencies in another directory), site
# finds it, and the start takes longer.

self=$0
if [ -h "$self" ]; then
    self=$(readlink -f -- "$self") || exit 71 # EX_OSERR
fi
case $self in
    /*/*) bin=${self%/*} ;;
    */*) bin=$PWD/${self%/*} ;;
    *) bin=$PWD ;;
esac

python=python3
if [ -x "$bin/python3" ]; then
    python=$bin/python3
fi

# The directory of the package: that of a prefix (venv, pipx, --user, --prefix, and
# dist-packages on Debian), or that of `pip install --target`. Versions of Python may
# share a prefix, but compiled libraries fit only one version. So the directory also
# selects the interpreter.
site=
for directory in "$bin"/../lib/python3*/*-packages "$bin"/..; do
    [ -f "$directory/chimirror/bridge/__init__.py" ] || continue
    site=$directory
    version=${directory%/*}
    version=${version##*/}
    case $version in python3.*) ;; *) continue ;; esac
    if [ -x "$bin/$version" ]; then
        python=$bin/$version
        break
    elif [ "$python" = python3 ] && command -v "$version" >/dev/null; then
        python=$version
    fi
done

if ! command -v "$python" >/dev/null; then
    echo "chimirror-bridge: no $python in PATH or beside $self" >&2
    exit 69 # EX_UNAVAILABLE
fi
if [ -z "$site" ]; then
    exec "$python" -E -P -c 'from chimirror.bridge import main; main()' "$@"
fi
isolation=-IS
for library in docopt h11 orjson pybase64 websockets wsproto; do
    [ -d "$site/$library" ] || isolation=-I
done
exec "$python" "$isolation" -c 'import sys
sys.path.append(sys.argv.pop(1))
from chimirror.bridge import main
main()' "$site" "$@"
