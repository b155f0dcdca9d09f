"""A year of real flights on the bus: `python -m demo`."""
