"""Three processes: the last one ends within a barrier that the others have come to, or within the talk behind it.

See test_runtime.py. First word: barrier or talk.
"""

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
    if runtime.rank() == 2 and sys.argv[1] == "barrier":
        runtime._peers.gone = end
    runtime.barrier()
    if runtime.rank() == 2:
        import paddle

        paddle.distributed.broadcast_object_list = lambda *_, **__: os._exit(0)
    runtime.share("what rank 0 has")
    runtime.barrier()


if __name__ == "__main__":
    cli.run(main)
