"""Recording a jitted loop: what a step may change, the tape on the device, chunks, the drain to the log."""

__all__: list[str] = []
