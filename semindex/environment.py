"""Settings of a CPU and of native libraries, each with its reason and a way to turn it off. See docs/performance.md.

| what | gain | off with |
|---|---|---|
| MKL_DEBUG_CPU_TYPE=5 on AMD | matrix products 3 times as fast | MKL_DEBUG_CPU_TYPE= (any value of your own) |
| freed memory is kept | 6 times for results of 3 MB | SEMINDEX_KEEP_MEMORY=0 |
| no stride kernels in paddle | a training step 1.4 to 2.9 times as fast | SEMINDEX_STRIDE_KERNEL=1 |
| threads: this process's share of the cores | 1.3 times | OMP_NUM_THREADS=N |
"""

import ctypes
import os
import warnings


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
    try:
        library = ctypes.CDLL(None)
        for most in (1 << 30, 32 << 20):  # older libraries refuse the first
            if library.mallopt(-3, most):  # M_MMAP_THRESHOLD
                break
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass
