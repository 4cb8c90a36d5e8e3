"""Measurements of speed and size, each beside a peer in the same run: `make bench`, or `python -m bench NAME …`."""
