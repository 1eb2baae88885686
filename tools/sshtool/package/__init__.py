"""Release packages: their contents, their layouts, and their check."""
