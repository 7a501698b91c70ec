"""Memory of batches that nobody holds any more, for the next batches.

A batch of image sets is tens to hundreds of MiB. Fresh from the kernel, every page of it is cleared before it is written, which takes about
as long as normalising the pixels. The same goes for records, a MiB each, which the C library would give back to the kernel one by one.
"""

import collections
import math
import mmap
import threading
from typing import Any
import weakref

import numpy as np

_ALIGN = 128
_RECORDS = 30 << 20  # records up to this size are read into memory that the process keeps
_PAGE = 1 << 21  # of huge pages, which Linux gives to memory that is whole multiples of them


class Recycler:
    """Hands out arrays, and hands out their memory anew when the last array on it is gone.

    Safe between threads. What is kept is at most what was once in use together.
    """

    def __init__(self) -> None:
        self._free: dict[int, collections.deque[mmap.mmap]] = collections.defaultdict(collections.deque)
        self._lock = threading.Lock()
        np.empty(_RECORDS, np.uint8)  # glibc keeps freed blocks as large as the largest that it saw freed, at most 32 MiB

    def arrays(self, shapes: list[tuple[tuple[int, ...], Any]]) -> list[np.ndarray]:
        """Arrays on one piece of memory.

        Args:
          shapes: Shape and dtype of each.

        Returns:
          The arrays, whose values are whatever the memory holds. Together they keep it; so does every view of one of them.
        """
        sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes]
        starts = np.cumsum([0] + [-(-size // _ALIGN) * _ALIGN for size in sizes]).tolist()
        size = max(-(-starts[-1] // _PAGE) * _PAGE, _PAGE)
        with self._lock:
            memory = self._free[size].pop() if self._free[size] else None
        if memory is None:
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
        whole = np.frombuffer(memory, np.uint8)
        weakref.finalize(whole, self._free[size].append, memory).atexit = False  # views refer to `whole`, not to `memory`
        return [
            whole[start : start + size].view(dtype).reshape(shape)
            for start, size, (shape, dtype) in zip(starts, sizes, shapes, strict=False)
        ]

    def __reduce__(self) -> tuple[type["Recycler"], tuple[()]]:
        return Recycler, ()  # another process has memory of its own
