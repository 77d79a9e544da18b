"""Unmodified SDKs against the bus."""
