"""Settings of a CPU and of native libraries, each with its reason and a way to turn it off. See docs/performance.md.

| what | gain | off with |
|---|---|---|
| MKL_DEBUG_CPU_TYPE=5 on AMD | matrix products 3 times as fast | MKL_DEBUG_CPU_TYPE= (any value of your own) |
| freed memory is kept | 6 times for results of 3 MB | SEMINDEX_KEEP_MEMORY=0 |
| no stride kernels in paddle | a training step 1.4 to 2.9 times as fast | SEMINDEX_STRIDE_KERNEL=1 |
| threads: this process's share of the cores | 1.3 times | OMP_NUM_THREADS=N |
| paddlenlp without what no encoder needs (models/lean_paddlenlp.py) | a start twice as fast | SEMINDEX_PADDLENLP=full |
| caches of a home that cannot be written go to a temporary directory | a script runs in a container | HOME=DIR |
"""

import contextlib
import ctypes
import os
import sys
import tempfile
import warnings


def probe(directory: str) -> None:
    """Raise OSError where no file can be made in a directory, which need not be there yet. Leaves nothing behind."""
    made, path = [], os.path.abspath(directory)
    while not os.path.lexists(path):
        made.append(path)
        path = os.path.dirname(path)
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".writable-") as file:
            file.write(b"x")
            file.flush()
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # not made, or another process's by now
                os.rmdir(path)


def prepare_home() -> None:
    """Give libraries that keep caches at home another one where it cannot be written, with a warning.

    Before paddlenlp, visualdl or matplotlib is imported: they make ~/.paddlenlp, ~/.visualdl, ~/.config/matplotlib, and
    two of them have no other way to be told.
    """
    home = os.path.expanduser("~")
    try:
        for name in ("", ".paddlenlp", ".visualdl"):
            probe(os.path.join(home, name))
        return
    except OSError as error:
        reason = error.strerror
    kept = os.path.join(home, ".paddlenlp")
    if all(os.path.isdir(os.path.join(kept, name)) for name in ("models", "datasets", "packages")):
        os.environ.setdefault("PPNLP_HOME", kept)  # encoders that were put there can be read all the same
    other = os.path.join(tempfile.gettempdir(), f"semindex-home-{os.getuid()}")
    try:
        os.makedirs(other, mode=0o700, exist_ok=True)
        if os.lstat(other).st_uid != os.getuid() or os.path.islink(other):
            raise OSError  # another user's, who could change what is read
        probe(other)
    except OSError:
        other = tempfile.mkdtemp(prefix="semindex-home-")
    os.environ["HOME"] = other
    print(f"warning: the home {home} cannot be written ({reason}); caches go to {other}, or set HOME", file=sys.stderr,
          flush=True)


def prepare_environment() -> None:
    """Set what native libraries read once, before paddle is imported, and silence its warnings."""
    # The MKL inside paddle takes its slowest path on processors of other makers. Naming the AVX2 path makes matrix
    # products 3 times as fast on an AMD EPYC; see docs/performance.md.
    try:
        with open("/proc/cpuinfo") as info:
            processor = info.read(4096)
        if "AuthenticAMD" in processor and " avx2" in processor:
            os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    except OSError:
        pass  # not Linux: nothing to gain
    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.filterwarnings("ignore")  # of paddle's imports: ours are printed


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next array instead of giving it back to the system.

    paddle allocates the result of every operation anew, and beyond 128 KB that is fresh memory whose every page
    costs a fault: a product of two arrays of 3 MB took 6.7 ms and takes 1.0 (docs/performance.md). GNU's only.
    """
    if os.environ.get("SEMINDEX_KEEP_MEMORY") == "0":
        return
    try:
        library = ctypes.CDLL(None)
        for most in (1 << 30, 32 << 20):  # older libraries refuse the first
            if library.mallopt(-3, most):  # M_MMAP_THRESHOLD
                break
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass
