"""The machine around this process: cgroup, runtime directory, service manager.

Layer 1. `cgroup` counts instances and OOM kills, `runtime_dir` names the directories in
/run, `safe_directory` changes directories of other users, `sd_notify` reports the state
of a service. The package knows no session. May import only builtin_modules and text.
"""
