"""The one package that knows the others: processes, sockets, pages, tokens, wiring."""
