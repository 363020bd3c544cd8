"""The paper's idea: seen classes compose unseen ones, and scores follow. Pure tensors, no files but a bank's, no models."""
