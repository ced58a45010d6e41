"""The server program `chimirror-server`: many sessions in a few processes.

The supervisor (`supervisor`) forks the workers, which accept connections, run the
sessions and start the applications. It also forks one zygote, which starts those that
workers cannot start. It replaces processes that die.

Files:
- `main`: the entry point: opens the listeners and runs the supervisor.
- `supervisor`: forks, watches and replaces the workers. Ends the server.
- `zygote_manager`: forks and replaces the zygote, keeps the links between zygote and
  workers, and passes orphaned applications back to their workers.
- `orphans`: the children that a dead zygote leaves to the supervisor.
- `zygote`: the process that starts applications on request of the workers.
- `worker_spawner`: starts applications in a worker, or through the zygote.
- `worker_starts`, `abandoned_processes`: starts by workers, as the supervisor sees
  them, and what a dead worker leaves.
- `start_guard`: ends starts of workers and of the zygote that hang.
- `worker_process`, `worker_link`: a worker, as the supervisor knows it.
- `worker`: the process that accepts connections and runs sessions.
- `worker_main`: makes the parts of a worker, after the fork.
- `evictions`: closes the connections of a worker that give way to newer ones.
- `admission`, `limit_table`: the session limits, counted over all workers.
- `capacity`: the number of sessions that descriptors and process ids allow.
- `preimport`: modules and settings that are loaded before the workers are forked.
- `notifier`, `heartbeat`: readiness, status and watchdog for the service manager.

Layer: L7, a program. May import every package except `bridge`, `ctl`, `client` and
`connect`. Of the other packages, `ctl` imports its `capacity`, and nothing else.
"""
