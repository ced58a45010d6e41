#!/bin/sh
# chimirror-bridge: start the bridge with `python3 -I -S`, which skips site and saves
# a third of the interpreter's start. (`#!python -IS` does not survive pip.)
#
# It knows where pip puts things and nothing else: the interpreter is beside this file or
# in PATH, the package in the library directory of the same prefix. Only builtins, so no
# fork, but for a symbolic link (pipx). Whatever it cannot see from here (an editable
# install, dependencies in another directory) is left to site, at site's price.

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
# says dist-packages), or of `pip install --target`.
site=
for directory in "$bin"/../lib/python3*/site-packages \
    "$bin"/../lib/python3*/dist-packages "$bin"/..; do
    if [ -f "$directory/chimirror/bridge.py" ]; then
        site=$directory
        # Several versions may share a prefix, but compiled libraries fit one.
        version=${directory%/*-packages}
        version=${version##*/}
        case $version in
            python3.*)
                if [ -x "$bin/$version" ]; then
                    python=$bin/$version
                    break
                elif [ "$python" = python3 ] && command -v "$version" >/dev/null; then
                    python=$version
                fi
                ;;
        esac
    fi
done

if ! command -v "$python" >/dev/null; then
    echo "chimirror-bridge: there is no $python in PATH or beside $self" >&2
    exit 69 # EX_UNAVAILABLE
fi

if [ -z "$site" ]; then
    exec "$python" -E -P -c 'from chimirror.bridge import main; main()' "$@"
fi
for library in docopt h11 orjson pybase64 websockets wsproto; do
    if ! [ -d "$site/$library" ]; then
        exec "$python" -I -c '
import sys
sys.path.append(sys.argv.pop(1))
from chimirror.bridge import main
main()' "$site" "$@"
    fi
done
exec "$python" -I -S -c '
import sys
sys.path.append(sys.argv.pop(1))
from chimirror.bridge import main
main()' "$site" "$@"
