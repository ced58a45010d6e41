#!/bin/sh
# Prints the load of this machine once a second, one JSON object per line: proc(5).
#
#     chimirror-server --framing lines --direction receive -- sh examples/monitor.sh
set -eu

while :; do
    read -r one five fifteen tasks _ </proc/loadavg
    read -r up _ </proc/uptime
    total=0 free=0
    while read -r name kilobytes _; do
        case $name in
        MemTotal:) total=$kilobytes ;;
        MemAvailable:) free=$kilobytes ;;
        esac
    done </proc/meminfo
    printf '{"load":[%s,%s,%s],"running":%s,"tasks":%s,"memory":{"total":%s,"available":%s},"uptime":%s}\n' \
        "$one" "$five" "$fifteen" "${tasks%/*}" "${tasks#*/}" "$total" "$free" "$up"
    sleep "${INTERVAL:-1}"
done
