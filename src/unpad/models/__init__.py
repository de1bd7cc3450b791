"""Models as people hold them in their hands: a transformer, a head, a configuration, and how to load and save them."""
