"""Reading pickles of arrays and plain containers, and nothing else: no name in them is ever called but those that rebuild an array."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
PLAIN = (dict, list, tuple, set, frozenset, str, bytes, int, float, complex, bool, type(None), np.ndarray, np.generic)


class _Reader(pickle.Unpickler):
    """Knows the names that sets, and NumPy's arrays and scalars of versions 1 and 2, are pickled with."""

    def find_class(self, module: str, name: str) -> Any:
        """The callable of a name in the pickle.

        Raises:
            UnpicklingError: a name that no array needs.
        """
        known: dict[str, Any] = {"_reconstruct": _empty_array, "scalar": _scalar, "_frombuffer": _from_buffer}
        if module in _ARRAYS and name in known:
            return known[name]
        if module == "numpy" and name == "ndarray":
            return np.ndarray
        if module == "numpy" and name == "dtype":
            return _dtype
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return {"set": set, "frozenset": frozenset}[name]
        if module == "_codecs" and name == "encode":
            return _encode
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs")


def _empty_array(kind: type, shape: tuple[int, ...], code: Any) -> np.ndarray:
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("an array of another class")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _dtype(code: Any, align: bool = False, copy: bool = False) -> np.dtype:
    made = np.dtype(code, align, copy)
    if made.hasobject:
        raise pickle.UnpicklingError("an array of objects")
    return made


def _scalar(kind: np.dtype, value: Any = b"") -> Any:
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(value, bytes):
        raise pickle.UnpicklingError("a scalar of objects")
    return np.frombuffer(value, dtype=kind, count=1)[0]


def _from_buffer(buffer: Any, kind: np.dtype, shape: tuple[int, ...], order: str, axis: Any = None) -> np.ndarray:
    return np.frombuffer(buffer, dtype=kind).reshape(shape, order=order)  # type: ignore[call-overload]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding}")
    return text.encode("latin1")


def read_plain_pickle(path: Path) -> Any:
    """What a pickle holds, if that is plain containers, numbers, text and arrays.

    Raises:
        DataError: anything else in it, or a damaged file.
    """
    try:
        value = _Reader(io.BytesIO(path.read_bytes())).load()
        _check(value)
    except pickle.UnpicklingError as error:
        raise DataError(f"'{path}' is not read: {error}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"'{path}' is damaged, or no pickle of plain data ({reason})") from None
    return value


def _check(value: Any) -> None:
    """Refuse what is not PLAIN, however deep it lies."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, PLAIN) or (isinstance(one, np.ndarray) and one.dtype.hasobject):
            raise pickle.UnpicklingError(f"it holds a {type(one).__name__}")
        if id(one) in seen:
            continue
        if isinstance(one, dict):
            seen.add(id(one))
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            seen.add(id(one))
            waiting += list(one)
