"""The custom resources: what users write and read, and the words that conditions use."""
