#!/bin/sh
# chimirror-bridge: starts the bridge with `python3 -I -S`, which leaves out site and with
# it a third of the interpreter's start. (`#!python -IS` does not survive pip.)
#
# It knows where pip puts things and nothing else: the interpreter is beside this file or
# in PATH, the package in the library directory of the same prefix. Only builtins, so no
# fork, but for a symbolic link (pipx). What cannot be seen from here (an editable
# install, dependencies in another directory) is found by site, at site's price.

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

# The directory that holds the package: of a prefix (venv, pipx, --user, --prefix; Debian
# says dist-packages), or of `pip install --target`. Versions may share a prefix, but
# compiled libraries fit one of them, so that the directory has a say in the interpreter.
site=
for directory in "$bin"/../lib/python3*/*-packages "$bin"/..; do
    [ -f "$directory/chimirror/bridge.py" ] || continue
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
