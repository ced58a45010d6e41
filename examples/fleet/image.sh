#!/bin/sh
# image.sh PACKAGE NAME: makes an image for containers out of the Debian package that
# `make deb` has built. Needs mmdebstrap and buildah, and no registry of images.
#
# The image has Python, a shell and chimirror, and no package manager. Its process 1 is
# chimirror-server, as the user 64747: SIGTERM drains it, a second one ends all sessions,
# and processes that an application leaves behind are reaped. The root file system can be
# read-only, with a tmpfs on /run and /tmp (podman run --read-only has both):
#
#     podman run --read-only --publish 127.0.0.1:30747:30747 NAME
#
# The words after NAME are options and the command of the application, by default the
# game of the demonstration. An image of your own adds the application's files:
#
#     container=$(buildah from NAME)
#     buildah copy "$container" game.py /srv/game.py
#     buildah config --cmd '-- python3 /srv/game.py' "$container"
#     buildah commit --rm "$container" game
set -eu

package=$1
name=$2
user=64747

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Hooks expand $1, the directory of the root.
# shellcheck disable=SC2016
mmdebstrap --quiet --variant=extract \
    --include=base-files,coreutils,dash,libpython3.11-stdlib,python3.11-minimal \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --extract-hook="dpkg-deb --extract '$package' \"\$1\"" \
    --extract-hook='chroot "$1" /usr/bin/python3.11 /usr/lib/chimirror/versions activate' \
    --extract-hook='ln -s python3.11 "$1/usr/bin/python3"' \
    --extract-hook="printf 'root:x:0:0::/root:/bin/sh\nchimirror:x:$user:$user::/:/bin/sh\n' \
        >\"\$1/etc/passwd\"" \
    --extract-hook="printf 'root:x:0:\nchimirror:x:$user:\n' >\"\$1/etc/group\"" \
    --extract-hook='rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale \
        "$1"/var/lib/apt "$1"/var/cache/apt "$1"/lib/systemd' \
    bookworm "$work/root.tar"

container=$(buildah from scratch)
buildah add --quiet "$container" "$work/root.tar" / >/dev/null
buildah config --user "$user:$user" --workingdir / --port 30747 --stop-signal SIGTERM \
    --env PATH=/usr/local/bin:/usr/bin:/bin --env LANG=C.UTF-8 \
    --entrypoint '["chimirror-server", "--listen", "0.0.0.0:30747"]' \
    --cmd '-- python3 /usr/share/chimirror/examples/animals.py' "$container"
buildah commit --quiet --rm "$container" "$name" >/dev/null
