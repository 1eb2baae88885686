"""Release packages: what is in them, how it is laid out, and how a stranger checks it."""
