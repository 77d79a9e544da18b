"""Sockets, access and wiring: the only package that knows all the others."""
