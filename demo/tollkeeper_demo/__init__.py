"""The story that `make demo` tells, with real commands on a real API server. Development only, not in the wheel."""
