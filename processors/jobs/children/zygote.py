"""`python -m processors.jobs.children.zygote FD PID MODULE...`: a zygote that has loaded MODULEs, for tasks."""

import os
import signal
import socket
import sys
import traceback
from importlib import import_module

from processors.children.zygote import serve_forks
from processors.jobs.children.child import STOP, serve


def main() -> None:
    """Load the modules that the command line names, and serve."""
    descriptor, executor_pid, *modules = sys.argv[1:]
    dsn = os.environ.pop("TIDEGATE_TASKS_POSTGRES", "")
    # Children begin with it blocked: one that came before its handler is there would end the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, {STOP})

    def load() -> None:
        for module in modules:
            try:
                import_module(module)
            except Exception:  # noqa: BLE001  its tasks fail by themselves, and say so
                traceback.print_exc()

    def run(descriptors: list[int]) -> None:
        work, control, output, errors = descriptors
        for source, target in ((output, 1), (errors, 2)):
            os.dup2(source, target)
            os.close(source)
        serve(socket.socket(fileno=work), socket.socket(fileno=control), dsn=dsn)

    serve_forks(int(descriptor), int(executor_pid), load=load, serve=run)


if __name__ == "__main__":
    main()
