"""Large blocks of memory, used again once the tensor that held them is gone.

The default allocator gives a large tensor fresh pages each time, which the system maps one by one: writing a gradient
into them costs several times as much as writing into memory in use. malloc itself is left alone; only tensors that
lossc allocates come from here.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

SMALLEST = 1 << 20
"""Bytes below which torch's own allocator serves as well."""

PAGE = 2 << 20


class Pool:
    """`empty` allocates tensors; the memory of a tensor that dies goes to the next one of the same size."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._returned: deque[mmap.mmap] = deque()
        self._free: list[mmap.mmap] = []
        self._views: weakref.WeakValueDictionary[int, memoryview] = weakref.WeakValueDictionary()
        self._in_use = 0
        self._most = 0

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialized tensor."""
        size = prod(shape) * dtype.itemsize
        if size < SMALLEST or not hasattr(mmap, "MAP_PRIVATE"):
            return torch.empty(tuple(shape), dtype=dtype)
        block = self._block(-(-size // PAGE) * PAGE)
        view = memoryview(block)
        weakref.finalize(view, self._returned.append, block).atexit = False
        tensor = torch.frombuffer(view, dtype=dtype, count=prod(shape)).view(tuple(shape))
        self._views[tensor.data_ptr()] = view
        return tensor

    def over(self, tensor: Tensor, dtype: torch.dtype) -> Tensor | None:
        """A tensor of the same shape and a narrower type at the start of the same memory; None if the pool does not own it."""
        view = self._views.get(tensor.data_ptr())
        if view is None or dtype.itemsize > tensor.dtype.itemsize:
            return None
        return torch.frombuffer(view, dtype=dtype, count=tensor.numel()).view(tensor.shape)

    def trim(self, tensor: Tensor) -> None:
        """Returns the pages of a block beyond its tensor to the system; they are mapped anew with the next use."""
        view = self._views.get(tensor.data_ptr())
        start = -(-tensor.numel() * tensor.element_size() // PAGE) * PAGE
        if view is not None and start < view.nbytes and hasattr(mmap, "MADV_DONTNEED"):
            block = view.obj
            assert isinstance(block, mmap.mmap)
            block.madvise(mmap.MADV_DONTNEED, start, view.nbytes - start)

    def release(self) -> None:
        """Returns all memory that no tensor holds to the system."""
        with self._lock:
            self._collect()
            self._free.clear()

    def _block(self, size: int) -> mmap.mmap:
        with self._lock:
            self._collect()
            found = next((block for block in self._free if len(block) == size), None)
            if found is None:
                found = _mapped(size)
            else:
                self._free.remove(found)
            self._in_use += size
            self._most = max(self._most, self._in_use)
            self._trim()
            return found

    def _collect(self) -> None:
        """Takes back the blocks of tensors that died; finalizers only record these, since they may run at any moment."""
        while self._returned:
            block = self._returned.popleft()
            self._in_use -= len(block)
            self._free.append(block)

    def _trim(self) -> None:
        """Frees blocks until no more is held than was in use at once before."""
        while self._free and self._in_use + sum(map(len, self._free)) > self._most:
            self._free.pop(0)


def _mapped(size: int) -> mmap.mmap:
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


POOL = Pool()


def empty_on(device: torch.device, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialized tensor; on the CPU from the pool."""
    return POOL.empty(shape, dtype) if device.type == "cpu" else torch.empty(tuple(shape), dtype=dtype, device=device)
