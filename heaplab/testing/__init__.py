"""What tests are made of: Hypothesis strategies, state machines, checks.  Needs the extra `test`."""
