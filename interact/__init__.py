"""Rules, rooms and the bus: pure cores with time passed in, and the ledger under them."""
