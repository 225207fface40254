"""Three processes: the last one ends within a barrier that the others have come to. See test_runtime.py."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from semindex import cli, runtime


def end():
    """End without having seen that all came, once rank 1 has."""
    while int(runtime._store().add("semantic_index/saw/1", 0)) < runtime._barriers:
        time.sleep(0.01)
    os._exit(0)


def main():
    """Meet twice."""
    runtime.start("cpu", 0)
    if runtime.rank() == 2:
        runtime._peers.gone = end
    runtime.barrier()
    runtime.barrier()


if __name__ == "__main__":
    cli.run(main)
