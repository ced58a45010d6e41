"""The verbs of chimirror-ctl: each module holds one family of them.

Layer: the upper half of `ctl`. Each public function takes the command line, the
directories of the machine and the output, and returns the exit status. A command may
import all of `ctl` except `main` and `verbs`. Some commands share functions of
`sessions`, `history`, `control`, `drain`, `set_limits` and `show_limits`.

sessions: sessions, show.
log: log.
attach: attach.
history: history.
stats: stats.
stop: close, kill.
drain: drain, undrain.
control: pause, resume, call.
show_limits, set_limits: limits, limit.
metrics, agent: metrics, agent.
check: check.
hosts: each verb that --host runs on other machines.
manifest: manifest.
apps: add, remove.
"""
