"""A trained model in the formats of other programs; `minillm.export(...)` calls the function `export`."""

import sys
from pathlib import Path
from types import ModuleType


class _CallableModule(ModuleType):
    """Module that is also the function of its name."""

    def __call__(self, ckpt_path: str | Path, format: str, output: str | Path) -> None:
        from minillm.export.export import export

        export(ckpt_path, format, output)


sys.modules[__name__].__class__ = _CallableModule
