"""Microsoft's own tests for azure-cosmos, against the test server: a reading of the protocol that is not ours.

Nothing of theirs is in this repository. `python -m tests.sdk_tests` downloads the tests with the source distribution of
the version that is installed.
"""
