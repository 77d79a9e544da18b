"""The HTTP surface, one module a part; `server.app` puts them together."""
