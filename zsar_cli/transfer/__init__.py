"""The paper's idea: seen classes compose unseen ones, and scores follow. Tensors in, tensors out."""
