"""Run by launch/test_several_processes.py: a command, as one process of a job, with short waits.

    python tests/programs/impatient_command.py SECONDS SCRIPT [FLAGS]

The first process works for SECONDS more than the others before it writes its report; those give up
on it at JAX's own barrier after two. What another host wrote is waited for as briefly.
"""

import runpy
import sys
import time

import jax

from vljepa_jax.evals import report
from vljepa_jax.parallel import processes

seconds, script = float(sys.argv[1]), sys.argv[2]
sys.argv = sys.argv[2:]
processes._VISIBLE_WITHIN = 2.0
initialize, write_report = jax.distributed.initialize, report.write_report


def joined(*arguments, **settings):
    initialize(*arguments, **settings, shutdown_timeout_seconds=2)
    print("joined", flush=True)


def slowly(*arguments):
    print("writing", flush=True)
    time.sleep(seconds)
    write_report(*arguments)


jax.distributed.initialize, report.write_report = joined, slowly
runpy.run_path(script, run_name="__main__")
