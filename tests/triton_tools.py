"""What the tests of the Triton kernels share, for machines without a GPU.

Triton's interpreter runs kernels on CPU tensors, if it is switched on before the first import of
Triton: so those checks are functions named check_*, which `interpreted` runs in a process of its
own. And the compiler needs no GPU to compile for one.
"""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch

from tests.conftest import ROOT

TYPES = {
    torch.bool: "i1",
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
}


def interpreted(path: str) -> None:
    """Runs the check_* functions of a test file under the interpreter; fails as they do."""
    pytest.importorskip("triton", minversion="3.7", reason="NumPy 2.4 fails older interpreters")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "-o", "python_functions=check_*", path],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]


def compiled(monkeypatch, module: ModuleType, names: list[str], call: Callable) -> list[str]:
    """Compiles for Hopper what `call` launches of the named kernels; their assembly (PTX)."""
    assembly = []
    for name in names:
        monkeypatch.setattr(module, name, _Compiler(getattr(module, name), assembly))
    call()
    return assembly


class _Compiler:
    """In a kernel's place: compiles it as its launch would, and launches nothing."""

    def __init__(self, kernel, assembly: list[str]) -> None:
        self.kernel, self.assembly = kernel, assembly

    def __getitem__(self, grid):
        return self._compile

    def _compile(self, *arguments, **keywords) -> None:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        named = dict(zip(self.kernel.arg_names, arguments, strict=False)) | keywords
        signature, constants, attributes = {}, {}, {}
        for i, parameter in enumerate(self.kernel.params):
            value = named.pop(parameter.name)
            if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
                signature[parameter.name], constants[(i,)] = "constexpr", value
                continue
            aligned = isinstance(value, torch.Tensor) or (type(value) is int and value % 16 == 0)
            if aligned:
                attributes[(i,)] = [["tt.divisibility", 16]]
            signature[parameter.name] = _type_of(value)
        source = ASTSource(self.kernel, signature, constants, attributes)
        kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=named)
        self.assembly.append(kernel.asm["ptx"])


@contextmanager
def no_waiting() -> Iterator[None]:
    """An error where the CPU waits for the GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "a prototype feature"
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _type_of(value: torch.Tensor | float) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if abs(value) < 2**31 else "i64"
