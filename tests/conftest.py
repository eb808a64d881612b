"""What holds for every test."""

from hypothesis import settings

# A busy machine is no failure: no test is about time. pytest's own limit ends what hangs.
settings.register_profile("turnout", deadline=None)
settings.load_profile("turnout")
