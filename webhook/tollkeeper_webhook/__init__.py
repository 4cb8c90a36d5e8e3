"""Admission over TLS, the policies of the API server itself, and the authority that grants leases."""
