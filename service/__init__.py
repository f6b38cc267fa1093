"""The restoration service: what was wrong with a photograph, and the photograph restored, over HTTP."""
