"""The service over HTTP: its routes, its page, and the limits on what anybody may ask."""
