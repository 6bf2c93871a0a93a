"""Several processes that train one adapter: which of them this one is, and how they speak to each other."""
