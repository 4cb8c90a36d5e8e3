"""The program `tollkeeper`: the one place that puts the deployables together.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check found a violation. A failure is one line on standard error.
"""
