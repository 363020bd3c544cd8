"""Video files in, upright RGB frames with true times out. Imports no torch; decoders are imported when used."""
