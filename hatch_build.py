"""The package's build compiles its kernels for each instruction set: nobody who installs it needs a compiler.

Without g++ (or $CXX) the build goes on and says so; the kernels are compiled at the first start then, where there
is one. GLMBOT_NATIVE holds the build to one set, or turns it off with 0, as it does when the bot runs.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


class KernelsHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(ROOT))
        from glmbot.native import compiling, instruction_sets

        known = instruction_sets.SETS.get(instruction_sets.family(), ())
        held = os.environ.get("GLMBOT_NATIVE", "")
        sets = [one for one in known if held in ("", "native", one.name)]
        if version == "editable" and not held:
            # It stays on this machine.
            sets = instruction_sets.usable(instruction_sets.features(), sets)
        # Elsewhere a processor's features are not known, so that no prebuilt library would be chosen.
        if sys.platform != "linux" or not sets:
            self.app.display_warning(
                "this build has no kernels for CPUs; a first start compiles them, with g++"
            )
            return
        compiler = compiling.compiler()
        if compiler is None:
            self.app.display_warning("no g++ here, so that no kernels for CPUs are compiled")
        else:
            try:
                failed = compiling.prebuild(sets, compiler)
            except OSError as error:
                failed = {"any set": str(error)}
            for name, why in failed.items():
                self.app.display_warning(f"no kernels for {name}: {why}")
        found = [path for one in sets if (path := compiling.prebuilt(one)) is not None]
        made = [path for path in found if compiling.is_whole(path)]
        if made:
            build_data["artifacts"] += [f"/{path.relative_to(ROOT).as_posix()}" for path in made]
            build_data["pure_python"] = False
            # Of the machine, and of no Python: the libraries are opened through ctypes.
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"
