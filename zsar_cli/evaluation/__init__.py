"""The field's measures over labelled videos."""
