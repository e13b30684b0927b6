"""Designs whose words are many: where the words stand, and what they say."""
