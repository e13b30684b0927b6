"""What several designs are but for one choice: heaps with boundary tags, over any index."""
