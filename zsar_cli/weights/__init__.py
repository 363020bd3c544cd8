"""Weights on disk and on a hub: where they are, what they should be, and how they get here."""
