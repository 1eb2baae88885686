"""What `detect` finds in images, and the formats in which it is saved."""
