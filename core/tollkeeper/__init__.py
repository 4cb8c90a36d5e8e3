"""The domain of Tollkeeper: values and pure rules, without I/O, clock or environment.

Everything here is a function of its arguments; `now` is always a parameter. What talks to disks, sockets or the API
server lives in the rooms that import this one.
"""
