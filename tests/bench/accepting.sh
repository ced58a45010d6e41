#!/bin/sh
# accepting.sh PORT COMMAND: inside a machine of with-systemd, each connection to PORT
# gets a unit with COMMAND on it, until this script is killed.
set -eu

units=/run/systemd/system
cat >"$units/accepting.socket" <<UNIT
[Socket]
ListenStream=127.0.0.1:$1
Accept=yes
NoDelay=yes
Backlog=4096
MaxConnections=1000000
TriggerLimitIntervalSec=0
UNIT
cat >"$units/accepting@.service" <<UNIT
[Unit]
CollectMode=inactive-or-failed
[Service]
ExecStart=$2
StandardInput=socket
UNIT
systemctl start accepting.socket
exec sleep infinity
