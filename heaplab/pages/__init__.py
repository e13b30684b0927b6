"""Pages and widgets that show a heap: one JavaScript module of heaplab's own, and what carries it."""
