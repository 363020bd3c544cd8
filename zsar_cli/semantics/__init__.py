"""Label text to semantic embeddings, and relatedness between seen and unseen classes."""
