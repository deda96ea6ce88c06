"""The two scripts as a user runs them: real processes, a working directory of their own, no credentials."""
