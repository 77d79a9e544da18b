"""Pictures and sound: packets are forwarded, never decoded."""
