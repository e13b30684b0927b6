"""What designs share, over load and store alone: seals, boundary tags, and indices of free blocks."""
