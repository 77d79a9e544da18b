"""Bounded clients of the public protocol: bots, swarms, benchmarks."""
