"""The networks themselves: modules of torch, from frames to features and from features to the shared space."""
