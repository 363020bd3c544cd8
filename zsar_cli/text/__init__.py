"""Words to vectors: the sentence encoder, its tokens, and the lexicon of actions."""
