"""Video models behind one protocol (`base`), by name (`registry`)."""
