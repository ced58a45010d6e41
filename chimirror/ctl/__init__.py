"""chimirror-ctl(1): what an operator sees of sessions, and does to them.

main       dispatches: one verb, one function, in a file for each family of them
usage      the command line
host       where on this machine everything is; sources, control, cgroups, processes,
           systemd and journal read it
table      how it is shown, to people and to scripts
"""
