"""dbinder: objects of other devices as local ones, over softbus."""
