"""chimirror-ctl(1): shows and changes the sessions of this machine.

Layer: above every package that it reads. No other package imports it. It may import
`apps`, `config`, `host`, `log`, `metrics`, `process`, `protocol`, `resources` and
`text`.

main, verbs: dispatch a verb to its function in `commands`.
commands: one module for each family of verbs.
usage: the command line.
app_files, unit_files, unit_names, dropins: the files that configure applications.
transient_unit, unit_probe: a command line, tried within the sandbox of its unit.
remote_hosts, host_answers: the same program on other hosts, over ssh.
discovery: the live sessions of this machine.
session_info: one live session, and the matching of ids.
control_client: requests to workers and bridges over their control sockets.
journal, lost_sessions: records of sessions, and the ends that are not recorded.
bridge_totals: counters of bridges for metrics.
unit_load, drained_units: how much the units accept, and whether they do.
record_verifier: the records that count.
cgroups, procfs, systemd, unit_settings: the state that the kernel and systemd keep.
paths: the directories of this machine.
output, messages: tables, JSON, errors and findings.
json_fields, timestamps, toml_writer: one data format each.
completions: scripts for bash and zsh.
"""
