"""What a run ran on: enough to tell why a replay on another machine may give other bits."""

import os
import platform
from importlib.metadata import version

__all__ = ["environment_fingerprint"]


def environment_fingerprint() -> dict[str, str]:
    """Return versions, device kind, x64 flag and XLA flags of this process, as text.

    >>> sorted(environment_fingerprint())
    ['device', 'jax', 'jaxlib', 'machine', 'numpy', 'platform', 'python', 'x64', 'xla_flags']
    """
    # Imported here: a tool that only reads logs needs no accelerator runtime, and starts in a tenth of the time.
    import jax

    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "jax": version("jax"),
        "jaxlib": version("jaxlib"),
        "numpy": version("numpy"),
        "platform": device.platform,
        "device": device.device_kind,
        "machine": platform.machine(),
        "x64": str(bool(jax.config.read("jax_enable_x64"))).lower(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
