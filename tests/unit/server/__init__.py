"""Unit tests of the server package."""
