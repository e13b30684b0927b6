"""What tests are made of: Hypothesis strategies, state machines, checks.

What uses Hypothesis needs the extra `test`.
"""
