"""Where designs get memory from: the break, and a mapping for each large block."""
